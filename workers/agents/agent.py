"""The agent actor of a session, and a turn as it performs one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import structlog

from workers.agents.actor import AsyncActor, contained
from workers.agents.failures import STORE_FAILED_WORDS, cut_error, local_error, waiting_error
from workers.agents.feed import TurnFeed
from workers.agents.machine import Action, CallModel, CallTools, CutOff, Finish, ToolResults, TurnMachine
from workers.agents.transcript import carried, closing, split_system, system_message
from workers.models.chain import ModelChain, ModelLine
from workers.models.provider import ModelRequest, ToolCall
from workers.store.shard import PastTurn, StoreFailed
from workers.tools.toolbox import ToolResult, ToolsUnavailable
from workers.turns import Ended, Submission, TurnError, TurnState

if TYPE_CHECKING:
    from workers.agents.session import Session

log = structlog.get_logger(__name__)

TOOL_GRACE_S = 1.0  # between the cancel of a stopped turn's tool calls and SIGKILL to the servers that still run them


class Agency:
    """What the agents of a worker work with, as one configuration says. A turn keeps to the one it began with.

    Args:
        models: closed when the agency is retired and its last turn is over.
        max_turns: model calls in one turn.
    """

    def __init__(self, models: ModelChain, *, max_turns: int, system_prompt: str | None) -> None:
        self.models = models
        self.max_turns = max_turns
        self.system_prompt = system_prompt
        self._turns = 0
        self._no_turn = asyncio.Event()
        self._no_turn.set()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While a turn uses it."""
        self._turns += 1
        self._no_turn.clear()
        try:
            yield
        finally:
            self._turns -= 1
            if not self._turns:
                self._no_turn.set()

    async def retire(self) -> None:
        """Another one has taken over: close the models once the last turn that asks them is over."""
        await self._no_turn.wait()
        await self.models.close()


class Work(Protocol):
    """What the mailbox of an agent actor holds: a turn, or a command that waits for its turn."""

    submission: Submission
    feed: TurnFeed
    admitted: bool  # its turn may come
    mailed: bool  # in the actor's mailbox, or in that of the incarnation to come
    started: bool

    def cut(self, cutoff: CutOff) -> None:
        """End it now, or as soon as its turn comes."""

    def leave(self, session_id: str) -> None:
        """Do not start."""

    async def perform(self, session: Session, agency: Agency, line: ModelLine) -> None:
        """Do it; what fails is told, and is never the actor's failure."""

    async def interrupt(self, session: Session) -> None:
        """The actor dies of it."""


class TurnRun:
    """One accepted turn: what the mailbox of an agent actor holds.

    Args:
        queued: the turn is on disk as ``queued``, so its start is a commit of its own.
    """

    def __init__(self, submission: Submission, feed: TurnFeed, *, queued: bool) -> None:
        self.submission = submission
        self.feed = feed
        self.queued = queued
        self.admitted = False  # on disk
        self.mailed = False
        self.started = False
        self._left = False
        self._cutoff: CutOff | None = None
        self._task: asyncio.Task[Finish | BaseException] | None = None
        self._machine: TurnMachine  # once it is started
        self._rows: list[bytes] = []  # of the transcript, after the messages it was sent with

    def cut(self, cutoff: CutOff) -> None:
        """End the turn now, or as soon as its turn comes; a turn that is over stays as it is."""
        if self._cutoff is None:
            self._cutoff = cutoff
            if self._task is not None:
                self._task.cancel()

    def leave(self, session_id: str) -> None:
        """Do not start; the turn stays ``queued`` on disk and the next owner of the shard runs it."""
        self._left = True
        self.feed.end(unstored_end(self.submission.turn_id, session_id, "interrupted", waiting_error()))

    async def perform(self, session: Session, agency: Agency, line: ModelLine) -> None:
        """Run the turn to its end, commit that, and tell it. What fails is the turn's failure, never the actor's."""
        if self._left:
            return
        self.started = True
        self._machine = TurnMachine(max_model_calls=agency.max_turns)
        try:
            if self.queued:
                await session.store.begin(self.submission.turn_id)
            finish = await self._run(session, agency, line)
            line.turn_ended(finish.state == "completed")
            await self._end(session, finish)
            if finish.state == "completed" and line.position > 0:
                session.fell_back(self.submission.turn_id, line.provider, line.model)
        except StoreFailed as error:
            self._tell_store_failed(session, error)

    async def interrupt(self, session: Session) -> None:
        """The actor dies of this turn: commit that, and tell it, before the next turn begins."""
        if self.started and self.feed.ended is None:
            try:
                await self._end(session, self._broken_off("interrupted", cut_error("crash")))
            except StoreFailed as error:
                self._tell_store_failed(session, error)

    async def _run(self, session: Session, agency: Agency, line: ModelLine) -> Finish:
        """The turn up to its end, in a task of its own, which :meth:`cut` may cancel without harm to the actor."""
        try:
            if self._cutoff is None:
                self._task = asyncio.create_task(contained(self._steps, session, agency.system_prompt, line))
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
            text = "The gateway failed inside; its log has the details. What to do: send the message again."
            return self._broken_off("failed", local_error("internal_error", text, http_status=500))
        assert self._cutoff is not None
        if self._cutoff.state == "cancelled":  # for good: what its tools still do ends too
            await session.toolbox.abort(TOOL_GRACE_S)
        finish = self._machine.feed(self._cutoff)
        assert isinstance(finish, Finish)
        return finish

    async def _steps(self, session: Session, prompt: str | None, line: ModelLine) -> Finish:
        definitions = await session.toolbox.definitions()
        action: Action = self._machine.start(self._context(session, prompt))
        while True:
            if not isinstance(action, Finish) and action.commit:
                self._rows += action.commit  # first: a cut does not take back what the store has begun
                await session.store.append(self.submission.turn_id, session.session_id, action.commit)
            match action:
                case CallModel():
                    request = ModelRequest(
                        messages=action.messages,
                        tools=definitions,
                        parameters=self.submission.parameters,
                        model=session.model,
                    )
                    action = self._machine.feed(await line.complete(request, self.feed.text))
                case CallTools():
                    action = self._machine.feed(ToolResults(results=await self._call(session, action.calls)))
                case Finish():
                    return action

    def _context(self, session: Session, prompt: str | None) -> list[bytes]:
        """The messages of the first request to the model."""
        own: Sequence[bytes] = self.submission.messages
        system: list[str] = []
        if self.submission.stateless:
            system, own = split_system(own)
        return [*system_message(prompt, *system, session.toolbox.notice), *carried(session.past), *own]

    async def _call(self, session: Session, calls: Sequence[ToolCall]) -> dict[str, ToolResult]:
        results = {}
        trials = [contained(self._call_one, session, call) for call in calls]
        outcomes = await asyncio.gather(*trials, return_exceptions=True)  # no call goes on without its turn
        for call, outcome in zip(calls, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            results[call.call_id] = outcome
        return results

    async def _call_one(self, session: Session, call: ToolCall) -> ToolResult:
        self.feed.tool(call.call_id, call.name, "running")
        result = await session.toolbox.call(call)
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
        ended = Ended(
            turn_id=self.submission.turn_id,
            session_id=session.session_id,
            state=finish.state,
            text=finish.text,
            finish_reason=finish.finish_reason,
            usage=self._machine.usage,
            model=self._machine.model,
            error=error_data(finish.error),
            replayed=False,
        )
        await session.store.finish(ended, finish.commit, own_fault=finish.own_fault)
        self.feed.end(ended)
        if finish.error is not None and not session.failed_before:  # the first of a row is enough for the log
            _log_failure(session, finish.error, ended)
        rows = (*self.submission.messages, *self._rows, *finish.commit)
        past = PastTurn(turn_id=ended.turn_id, state=finish.state, own_fault=finish.own_fault, rows=rows)
        session.ended(past, self, ended)

    def _tell_store_failed(self, session: Session, error: StoreFailed) -> None:
        """No success may be told over lost state; the turn on disk stays as the last commit left it."""
        log.error("turn not stored", session=session.key, turn=self.submission.turn_id, why=str(error))
        why = store_error(STORE_FAILED_WORDS)
        self.feed.end(unstored_end(self.submission.turn_id, session.session_id, "failed", why))


class AgentActor(AsyncActor):
    """The actor of one session: one mailbox, one thing at a time.

    Its line of models begins at the primary and stays at the fallback that a turn succeeded on; a fresh incarnation
    begins anew.
    """

    def __init__(self, session: Session, agency: Callable[[], Agency]) -> None:
        super().__init__()
        self._session = session
        self._agency = agency
        self._with: Agency | None = None
        self._line: ModelLine

    async def on_receive(self, message: Work) -> None:
        """Do what the mail asks for; the next waits."""
        session = self._session
        if session.held or message.started:  # the next incarnation gets it again, or has had it
            return
        agency = self._agency()
        if agency is not self._with:
            self._with, self._line = agency, agency.models.line()
        try:
            with agency.at_work():
                await message.perform(session, agency, self._line)
        except BaseException:
            await message.interrupt(session)
            raise
        finally:
            session.done(message)

    def on_failure(self, *_: object) -> None:
        """What is no ``Exception`` ended the actor; a new one takes over the mail that waits."""
        self._session.start_actor()


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


def store_error(text: str) -> TurnError:
    """The disk is to blame."""
    return local_error("store_failed", text, http_status=500)


def unstored_end(turn_id: str, session_id: str, state: TurnState, error: TurnError) -> Ended:
    """An end that could not be committed, for the callers who wait."""
    return Ended(
        turn_id=turn_id,
        session_id=session_id,
        state=state,
        text="",
        finish_reason="error",
        usage={},
        model="",
        error=error_data(error),
        replayed=False,
    )


def error_data(error: TurnError | None) -> dict[str, object] | None:
    """A :class:`TurnError` as the plain data that :class:`Ended` carries."""
    return None if error is None else {name: getattr(error, name) for name in TurnError.__slots__}  # type: ignore[attr-defined]  # made by @message
