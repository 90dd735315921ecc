"""A turn as an agent actor performs it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from hermes_actors.wire.failpoints import point
from workers.kept_json import kept_json
from workers.models.attached import bounded
from workers.models.chain import ModelLine
from workers.models.empty import is_empty
from workers.models.provider import ModelFailure, ModelReply, ModelRequest, Passage, ToolCall
from workers.runtimes.chat.compaction import Compaction, summary_passage
from workers.runtimes.chat.machine import Action, CallModel, CallTools, CutOff, Finish, ToolResults, TurnMachine
from workers.runtimes.chat.transcript import carried, closing
from workers.sessions.actor import contained
from workers.sessions.agent_config import AgentConfig
from workers.sessions.commands import prompt_asked_for
from workers.sessions.feed import TurnFeed
from workers.sessions.notes import briefly_unknown, opening, remarks_on, resume_note
from workers.sessions.work import Stage, Work
from workers.store.shard import PastTurn, StoreFailed
from workers.tools.toolbox import Aborted, ToolResult, ToolsUnavailable
from workers.turn_errors import (
    bug_error,
    cut_error,
    error_data,
    local_error,
    store_error,
    unstored_end,
    waiting_error,
)
from workers.turns import Ended, Submission, TurnError, TurnState

if TYPE_CHECKING:
    from workers.sessions.session import Session

log = structlog.get_logger(__name__)

MAX_CALLS_AT_ONCE = 16  # of tools in one turn, so that one with many delays nobody else's; the others wait
TOOL_GRACE_S = 1.0  # between the cancel of a stopped turn's tool calls and SIGKILL to the servers that still run them


class TurnRun(Work):
    """One accepted turn.

    Args:
        queued: the turn is on disk as ``queued``, so its start is a commit of its own.
    """

    def __init__(self, submission: Submission, feed: TurnFeed, *, queued: bool) -> None:
        super().__init__(submission, feed)
        self.queued = queued
        self._seal: asyncio.Event | None = None  # its end waits for this
        self._remarks: list[str] = []  # of the gateway, told behind the model's words
        self._opening = ""  # what the reply begins with, before the model's own words
        self._cutoff: CutOff | None = None
        self._aborted = Aborted()
        self._task: asyncio.Task[Finish | BaseException] | None = None
        self._machine: TurnMachine  # once it is started
        self._rows: list[bytes] = []  # of the transcript, after the messages it was sent with

    @property
    def begun(self) -> bool:
        return self.started or not self.queued

    def seal(self) -> bool:
        if not self.begun or self.stage is Stage.ENDING:
            return False
        if self._seal is None or self._seal.is_set():  # what waits already waits for the same cut
            self._seal = asyncio.Event()
        return True

    def unseal(self) -> None:
        if self._seal is not None:
            self._seal.set()

    def cut(self, cutoff: CutOff) -> None:
        """End the turn now, or as soon as its turn comes; a turn that is over stays as it is."""
        awaited = cutoff.state == "interrupted" and self._seal is not None and not self._seal.is_set()
        if self._cutoff is None or awaited:
            self._cutoff = cutoff
            if self._task is not None:
                self._task.cancel()
        if awaited:
            self.unseal()

    def leave(self, session_id: str) -> None:
        """Do not start; the turn stays ``queued`` on disk and is run by whoever inherits it."""
        self.feed.end(unstored_end(self.submission.turn_id, session_id, "interrupted", waiting_error()))

    def send_away(self, session_id: str) -> None:
        self.feed.send_away(unstored_end(self.submission.turn_id, session_id, "interrupted", waiting_error()))

    async def perform(self, session: Session, agent_config: AgentConfig, line: ModelLine) -> None:
        """Run the turn to its end, commit that, and tell it. What fails is the turn's failure, never the actor's."""
        if self.feed.ended is not None:
            return
        self.start()
        self._machine = TurnMachine(max_model_calls=agent_config.max_turns)
        self._opening = opening(session.marks, threshold=agent_config.stuck_threshold)
        if self._opening:
            self.feed.text(f"{self._opening}\n\n")
        succeeded = False
        try:
            await session.store_unstored()
            if self.queued:
                await session.store.begin(self.submission.turn_id, session.session_id)
            point("turn.begun")
            finish = await self._unless_cut(await self._run(session, agent_config, line))
            await self._end(session, finish)
            succeeded = finish.state == "completed"
        except StoreFailed as error:
            self._tell_store_failed(session, error)
        line.turn_ended(succeeded)
        if succeeded and line.position > 0:
            session.fell_back(self.submission.turn_id, line.provider, line.model)
        if self._cutoff is not None and self._cutoff.stays:  # after its end, which nothing may hold up
            await session.toolbox.abort(TOOL_GRACE_S)

    @property
    def aborted(self) -> Aborted:
        return self._aborted

    async def interrupt(self, session: Session) -> None:
        """The actor dies of this turn: commit that, and tell it, before the next turn begins."""
        if self.started and self.feed.ended is None:
            try:
                await self._end(session, await self._unless_cut(self._broken_off("interrupted", cut_error("crash"))))
            except StoreFailed as error:
                self._tell_store_failed(session, error)

    async def _run(self, session: Session, agent_config: AgentConfig, line: ModelLine) -> Finish:
        """The turn up to its end, in a task of its own, which :meth:`cut` may cancel without harm to the actor."""
        try:
            if self._cutoff is None:
                self._task = asyncio.create_task(contained(self._steps, session, agent_config, line))
                outcome = await self._task
                if isinstance(outcome, BaseException):
                    raise outcome
                return outcome
        except asyncio.CancelledError:
            if self._cutoff is None:
                raise
        except ToolsUnavailable as error:
            return self._broken_off("failed", local_error("tools_unavailable", str(error), http_status=502))
        except StoreFailed:
            raise
        except Exception:  # a bug of ours must cost this turn, not the session's actor
            log.exception("turn failed by a bug", session=session.key, turn=self.submission.turn_id)
            return self._broken_off("failed", bug_error())
        assert self._cutoff is not None
        if self._cutoff.state == "cancelled":  # for good: what its tools still do ends too
            self._aborted = await session.toolbox.abort(TOOL_GRACE_S)
        finish = self._machine.feed(self._cutoff)
        assert isinstance(finish, Finish)
        return finish

    async def _unless_cut(self, finish: Finish) -> Finish:
        """A sealed turn is marked as cut already, so cut it is, whatever it came to; what its tools gave is kept."""
        if self._seal is not None:
            await self._seal.wait()  # bounded by whoever sealed it
            if self._cutoff is not None and self._cutoff.state == "interrupted":
                error = self._cutoff.error
                return replace(
                    finish, state="interrupted", text="", finish_reason="interrupted", error=error, own_fault=False
                )
        return finish

    async def _steps(self, session: Session, agent_config: AgentConfig, line: ModelLine) -> Finish:
        offer = await session.toolbox.definitions()
        prompted = await self._prompted(session)
        if isinstance(prompted, Finish):
            return prompted
        system, own = self._opening_messages(session, agent_config)
        compaction = Compaction(session, agent_config.compaction, lambda: self._past(session), self._machine.count)
        action: Action = self._machine.start([*own, *prompted])
        while True:
            if not isinstance(action, Finish) and action.commit:
                self._rows += action.commit  # first: a cut does not take back what the store has begun
                point("turn.append")
                await session.store.append(self.submission.turn_id, session.session_id, action.commit)
                point("turn.appended")
            match action:
                case CallModel():
                    request = ModelRequest(
                        system=system,
                        past=self._past(session),
                        messages=action.messages,
                        tools=offer,
                        parameters=self.submission.parameters,
                        model=session.model,
                        fit=compaction.fit,
                        take_back=self.feed.take_back,
                        on_reasoning=self.feed.reasoning,
                    )
                    self.feed.begin_answer()
                    answer = await line.complete(request, self.feed.text)
                    point("model.answered")
                    if isinstance(answer, ModelReply):
                        self._remarks += remarks_on(answer, chosen=session.model, before=session.answered_by)
                        session.answered_by = answer.model
                    action = self._machine.feed(_within_bounds(answer, session))
                    if isinstance(action, Finish) and isinstance(answer, ModelReply) and is_empty(answer):
                        self.feed.text(action.text)  # the line in its place
                case CallTools():
                    action = self._machine.feed(ToolResults(results=await self._call(session, action.calls)))
                case Finish():
                    return action

    async def _prompted(self, session: Session) -> Sequence[bytes] | Finish:
        """The messages of the prompt that the turn's message asks for, once they are on disk; or its answer."""
        text = prompt_asked_for(self.submission.messages)
        asked = None if text is None else await session.toolbox.prompt(text)
        if asked is None:
            return ()
        if asked.failed:
            status = 502 if asked.may_pass else 400
            return self._broken_off("failed", local_error("prompt_failed", asked.answer, http_status=status))
        if not asked.messages:
            self.feed.begin_answer()
            self.feed.text(asked.answer)
            said = kept_json({"role": "assistant", "content": asked.answer})
            return Finish(
                state="completed", text=asked.answer, finish_reason="stop", error=None, own_fault=False, commit=(said,)
            )
        self._rows += asked.messages
        await session.store.append(self.submission.turn_id, session.session_id, asked.messages)
        return asked.messages

    def _opening_messages(self, session: Session, agent_config: AgentConfig) -> tuple[str, Sequence[bytes]]:
        """The text of the system message, and the messages that the turn came with."""
        texts: list[str] = []
        if session.marks.resume is not None:
            texts.append(resume_note(session.marks.resume, now=time.time(), fresh_s=agent_config.resume_fresh_s))
        parts = (agent_config.system_prompt, *texts, session.toolbox.instructions, session.toolbox.notice)
        return "\n\n".join(part for part in parts if part), self.submission.messages

    def _past(self, session: Session) -> list[Passage]:
        """What earlier turns say in a request to the model."""
        past = carried(session.past)
        if session.summary is not None:
            past.insert(0, summary_passage(session.summary))
        if session.marks.resume is not None:
            past = [replace(passage, rows=briefly_unknown(passage.rows)) for passage in past]
        return past

    async def _call(self, session: Session, calls: Sequence[ToolCall]) -> dict[str, ToolResult]:
        results = {}
        free = asyncio.Semaphore(MAX_CALLS_AT_ONCE)
        trials = [contained(self._call_one, session, call, free) for call in calls]
        outcomes = await asyncio.gather(*trials, return_exceptions=True)  # no call goes on without its turn
        for call, outcome in zip(calls, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            results[call.call_id] = outcome
        return results

    async def _call_one(self, session: Session, call: ToolCall, free: asyncio.Semaphore) -> ToolResult:
        async with free:
            self.feed.tool(call.call_id, call.name, "running")
            point("tool.call")
            result = await session.toolbox.call(call)
            point("tool.returned")
            self.feed.tool(call.call_id, call.name, "failed" if result.failed else "completed")
            return result

    def _broken_off(self, state: TurnState, error: TurnError) -> Finish:
        """An end that the machine did not come to; the tool calls it had open are closed."""
        return Finish(
            state=state, text="", finish_reason="error", error=error, own_fault=False, commit=closing(self._rows)
        )

    async def _end(self, session: Session, finish: Finish) -> None:
        """Commit the end, then tell it.

        Raises:
            StoreFailed: it is not on disk.
        """
        self.stage = Stage.ENDING
        text, error = finish.text, finish.error
        if self._remarks and error is None:
            remarks = "".join(f"\n\n{remark}" for remark in self._remarks)
            self.feed.text(remarks)
            text += remarks
        if self._opening:  # told, but no part of the transcript: they are not the model's words
            if error is None:
                text = f"{self._opening}\n\n{text}"
            else:
                error = replace(error, text=f"{self._opening}\n{error.text}")
        ended = Ended(
            turn_id=self.submission.turn_id,
            session_id=session.session_id,
            state=finish.state,
            text=text,
            finish_reason=finish.finish_reason,
            usage=self._machine.usage,
            model=self._machine.model,
            error=error_data(error),
            replayed=False,
            reasoning=self._machine.reasoning,
        )
        if self._cutoff is not None and self._cutoff.unrecorded and finish.state == "interrupted":
            self.feed.end(ended)
            return
        point("turn.finish")
        await session.store.finish(ended, finish.commit, own_fault=finish.own_fault)
        point("turn.finished")
        if finish.state == "completed":
            await session.succeeded(ended.turn_id)
            point("turn.absolved")
        self.feed.end(ended)
        point("turn.told")
        if finish.error is not None and not session.failed_before:  # the first of a row is enough for the log
            _log_failure(session, finish.error, ended)
        rows = (*self.submission.messages, *self._rows, *finish.commit)
        past = PastTurn(turn_id=ended.turn_id, state=finish.state, own_fault=finish.own_fault, rows=rows)
        session.ended(past, self, ended)

    def _tell_store_failed(self, session: Session, error: StoreFailed) -> None:
        """No success may be told over lost state; what is told is stored as soon as that works again."""
        log.error("turn not stored", session=session.key, turn=self.submission.turn_id, why=str(error))
        ended = unstored_end(self.submission.turn_id, session.session_id, "failed", store_error())
        session.shard.unstored.add(self.submission, ended)
        self.feed.end(ended)
        rows = (*self.submission.messages, *self._rows, *closing(self._rows))
        session.ended(PastTurn(turn_id=ended.turn_id, state="failed", own_fault=False, rows=rows), self, ended)


def _within_bounds(answer: ModelReply | ModelFailure, session: Session) -> ModelReply | ModelFailure:
    if isinstance(answer, ModelFailure):
        return answer
    answer, dropped = bounded(answer)
    if dropped:
        log.warning(
            "dropped what the provider attached to its answer: it is too large to be kept",
            session=session.key,
            provider=answer.provider,
            model=answer.model,
            fields=dropped,
        )
    return answer


def _log_failure(session: Session, error: TurnError, ended: Ended) -> None:
    log.warning(
        f"turn {ended.state}",
        session=session.key,
        turn=ended.turn_id,
        code=error.code,
        provider=error.provider,
        model=error.model,
        status=error.upstream_status,
    )
