"""A turn as an agent actor performs it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from hermes_actors.wire.failpoints import point
from workers.models.chain import ModelLine
from workers.runtimes.runtime import Outcome
from workers.runtimes.transcript import closing, handed_over
from workers.sessions.actor import contained
from workers.sessions.agent_config import AgentConfig
from workers.sessions.context import prepared
from workers.sessions.feed import TurnFeed
from workers.sessions.host import TurnHost
from workers.sessions.item import CutOff
from workers.sessions.notes import opening
from workers.sessions.session import Session
from workers.sessions.work import Work
from workers.store.shard import StoreFailed
from workers.tools.toolbox import Aborted
from workers.turn_errors import bug_error, cut_error, error_data, store_error, unstored_end, waiting_error
from workers.turns import Ended, PastTurn, Submission, TurnError, TurnState

log = structlog.get_logger(__name__)

TOOL_GRACE_S = 1.0  # between the cancel of a stopped turn's tool calls and SIGKILL to the servers that still run them


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finish:
    """How a turn ends: by what its runtime made of it, or by a cut."""

    state: TurnState
    outcome: Outcome


class TurnRun(Work):
    """One accepted turn.

    Args:
        queued: the turn is on disk as ``queued``, so its start is a commit of its own.
    """

    def __init__(self, submission: Submission, feed: TurnFeed, *, queued: bool, stored: bool = False) -> None:
        super().__init__(submission, feed, queued=queued, stored=stored)
        self._opening = ""  # what the reply begins with, before the model's own words
        self._aborted = Aborted()
        self._task: asyncio.Task[Outcome | BaseException] | None = None
        self._unsealed: asyncio.Future[None] | None = None  # while its end waits for a cut
        self._decided: asyncio.Future[None] | None = None  # while its end waits for its beginning to be on disk
        self._host: TurnHost  # once it is started

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def unseal(self) -> None:
        if self._unsealed is not None and not self._unsealed.done():
            self._unsealed.set_result(None)

    def decided(self) -> None:
        """Its message is on disk now, or was refused, and its feed says so."""
        if self._decided is not None:
            self._decided.set_result(None)

    def leave(self, session_id: str, why: TurnError | None = None) -> None:
        """The turn stays ``queued`` on disk, and its next owner runs it."""
        self.feed.end(unstored_end(self.submission.turn_id, session_id, "interrupted", why or waiting_error()))

    def send_away(self, session_id: str) -> None:
        self.feed.send_away(unstored_end(self.submission.turn_id, session_id, "interrupted", waiting_error()))

    async def perform(self, session: Session, agent_config: AgentConfig, line: ModelLine) -> Work | None:
        """Run the turn to its end, commit that, and tell it. What fails is the turn's failure, never the actor's."""
        self._host = TurnHost(self.submission, session, self.feed, line)
        self._opening = opening(session.marks, threshold=agent_config.stuck_threshold)
        if self._opening:
            self.feed.text(f"{self._opening}\n\n")
        succeeded = False
        try:
            await session.store_unstored()
            if self.queued:
                await session.store.begin(self.submission.turn_id, session.session_id)
            point("turn.begun")
            finish = await self._run(session, agent_config)
            if await self._is_kept():
                if finish is None or self.cutoff is not None:
                    finish = await self._cut_short(session)
                finish = await self._unless_cut(finish)
                await self._end(session, finish)
                succeeded = finish.state == "completed"
        except StoreFailed as error:
            if await self._is_kept():
                self._tell_store_failed(session, error)
        self._host.ended(succeeded=succeeded)
        if self.cutoff is not None and self.cutoff.stays:  # after its end, which nothing may hold up
            await session.toolbox.abort(TOOL_GRACE_S)
        return None

    @property
    def aborted(self) -> Aborted:
        return self._aborted

    async def interrupt(self, session: Session) -> None:
        """The actor dies of this turn: commit that, and tell it, before the next turn begins."""
        if self.started and self.feed.ended is None and await self._is_kept():
            try:
                died = _Finish(state="interrupted", outcome=Outcome(reason="error", error=cut_error("crash")))
                await self._end(session, await self._unless_cut(died))
            except StoreFailed as error:
                self._tell_store_failed(session, error)

    async def _run(self, session: Session, agent_config: AgentConfig) -> _Finish | None:
        """The turn up to its end, in a task of its own, which a cut cancels without harm to the actor: None."""
        finish: _Finish | None = None
        try:
            if self.cutoff is None:
                self._task = asyncio.create_task(contained(self._outcome, session, agent_config))
                outcome = await self._task
                if isinstance(outcome, BaseException):
                    raise outcome
                finish = _Finish(state="completed" if outcome.error is None else "failed", outcome=outcome)
        except asyncio.CancelledError:
            if self.cutoff is None:
                raise
        except StoreFailed:
            raise
        except Exception:  # a bug, ours or the runtime's, must cost this turn, not the session's actor
            log.exception("turn failed by a bug", session=session.key, turn=self.submission.turn_id)
            finish = _Finish(state="failed", outcome=Outcome(reason="error", error=bug_error()))
        await self._host.leave()
        return finish

    async def _outcome(self, session: Session, agent_config: AgentConfig) -> Outcome:
        context = await prepared(self._host, session, self.submission, agent_config)
        return context if isinstance(context, Outcome) else await agent_config.runtime.run(self._host, context)

    async def _cut_short(self, session: Session) -> _Finish:
        assert self.cutoff is not None
        if self.cutoff.state == "cancelled":  # for good: what its tools still do ends too
            self._aborted = await session.toolbox.abort(TOOL_GRACE_S)
        return _as_cut(self.cutoff)

    async def _is_kept(self) -> bool:
        """Whether it is on disk, once that is known. If not, its sender got a refusal, and nothing is kept."""
        if not self.stored and self.feed.ended is None:
            self._decided = asyncio.get_running_loop().create_future()
            await self._decided
        return self.stored

    async def _unless_cut(self, finish: _Finish) -> _Finish:
        """A sealed turn is marked as cut already, so cut it is, whatever it came to; what its tools gave is kept."""
        while self.sealed:  # bounded by SEAL_TIMEOUT_S
            self._unsealed = asyncio.get_running_loop().create_future()
            await self._unsealed
        if self.recorded:
            assert self.cutoff is not None
            return _as_cut(self.cutoff)
        return finish

    async def _end(self, session: Session, finish: _Finish) -> None:
        """Commit the end, then tell it.

        Raises:
            StoreFailed: it is not on disk.
        """
        self.ending()
        host, outcome = self._host, finish.outcome
        text, error = outcome.text, outcome.error
        if host.remarks and error is None:
            remarks = "".join(f"\n\n{remark}" for remark in host.remarks)
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
            finish_reason=outcome.reason,
            usage=dict(host.usage),
            model=host.model,
            error=error_data(error),
            replayed=False,
            reasoning=host.reasoning,
            tool_calls=[handed_over(call) for call in outcome.tool_calls],
        )
        if self.cutoff is not None and self.cutoff.unrecorded and finish.state == "interrupted":
            self.feed.end(ended)
            return
        last = host.rows.closing([call.call_id for call in outcome.tool_calls])
        point("turn.finish")
        await session.store.finish(ended, last, own_fault=outcome.own_fault)
        point("turn.finished")
        if finish.state == "completed":
            await session.succeeded(ended.turn_id)
            point("turn.absolved")
        self.feed.end(ended)
        point("turn.told")
        if outcome.error is not None and not session.failed_before:  # the first of a row is enough for the log
            _log_failure(session, outcome.error, ended)
        rows = (*self.submission.messages, *host.rows.sent, *last)
        session.ended(self._past(finish.state, rows, own_fault=outcome.own_fault), self.submission, self.feed, ended)

    def _tell_store_failed(self, session: Session, error: StoreFailed) -> None:
        """Report no success over lost state; what is reported is stored as soon as that works again."""
        log.error("turn not stored", session=session.key, turn=self.submission.turn_id, why=str(error))
        ended = unstored_end(self.submission.turn_id, session.session_id, "failed", store_error())
        session.shard.unstored.add(self.submission, ended)
        self.feed.end(ended)
        sent = self._host.rows.sent
        rows = (*self.submission.messages, *sent, *closing(sent))
        session.ended(self._past("failed", rows), self.submission, self.feed, ended)

    def _past(self, state: TurnState, rows: Sequence[bytes], *, own_fault: bool = False) -> PastTurn:
        return PastTurn(
            turn_id=self.submission.turn_id,
            state=state,
            rows=rows,
            own_fault=own_fault,
            ended_at=time.time(),
            unheard=self.caller_left,
        )


def _as_cut(cutoff: CutOff) -> _Finish:
    return _Finish(state=cutoff.state, outcome=Outcome(reason=cutoff.state, error=cutoff.error))


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
