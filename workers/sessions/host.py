"""What a turn offers to its runtime: a :class:`workers.runtimes.runtime.Host` over its session and its feed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from hermes_actors.wire.failpoints import point
from workers.models.attached import bounded
from workers.models.chain import ModelLine
from workers.models.offer import NO_TOOLS, Offer
from workers.models.provider import Fit, ModelFailure, ModelReply, ModelRequest, RequestedModel, ToolCall
from workers.runtimes.runtime import NO_PARAMETERS
from workers.runtimes.transcript import KeptRows, Misuse
from workers.sessions.actor import contained
from workers.sessions.feed import TurnFeed
from workers.sessions.notes import remarks_on
from workers.sessions.session import Session
from workers.store.shard import StoreFailed
from workers.tools.toolbox import ToolResult
from workers.turns import PastTurn, Submission

log = structlog.get_logger(__name__)

MAX_CALLS_AT_ONCE = 16  # of tools in one turn, so that one turn with many does not delay the others; the rest waits
MAX_REASONING_CHARS = 2**20  # shown with the end of a turn


class TurnHost:
    """The host of one turn.

    Args:
        submission: of the turn, which is on disk as running, or on its way there.
        session: whose turn it is.
        feed: what the turn's listeners hear.
        line: where the session's agent stands in its chain of models.
    """

    def __init__(self, submission: Submission, session: Session, feed: TurnFeed, line: ModelLine) -> None:
        self.rows = KeptRows()
        self.usage: Counter[str] = Counter()  # tokens of all requests so far; empty where the provider does not tell
        self.model = ""  # that answered last; empty before the first answer
        self.remarks: list[str] = []  # of the gateway, for the caller, behind the model's words
        self._submission = submission
        self._session = session
        self._feed = feed
        self._line = line
        self._thoughts: list[str] = []  # of each answer that has any
        self._fit: Fit | None = None  # of the request that is out
        self._asks = False
        self._free: asyncio.Semaphore | None = None  # once a tool was called
        self._commits = 0  # that the store was given
        self._committed = 0  # of these, how many are done: they are done in the order of the calls
        self._in_doubt = False  # an act was cancelled while the store had its commit, so nothing told how that went
        self._failed: StoreFailed | None = None
        self._over = False

    @property
    def reasoning(self) -> str:
        """What the model thought aloud in the turn so far, bounded."""
        return "\n\n".join(self._thoughts)[:MAX_REASONING_CHARS]

    async def leave(self) -> None:
        """The runtime is through, or was cut: it may do nothing more.

        Raises:
            StoreFailed: some of what it kept is not on disk, whatever it made of that.
        """
        self._over = True
        if self._in_doubt:
            await self._look()
        if self._failed is not None:
            raise self._failed

    def ended(self, *, succeeded: bool) -> None:
        """The turn's end is on disk and reported, or could not be stored."""
        self._line.turn_ended(succeeded)
        if succeeded and self._line.position > 0:
            self._session.fell_back(self._submission.turn_id, self._line.provider, self._line.model)

    # -- for the runtime ------------------------------------------------------------------------------------------
    async def ask(
        self,
        messages: Sequence[bytes],
        *,
        past: Sequence[PastTurn] = (),
        system: str = "",
        tools: Offer = NO_TOOLS,
        parameters: Mapping[str, Any] = NO_PARAMETERS,
        fit: Fit | None = None,
    ) -> ModelReply | ModelFailure:
        """As :meth:`workers.runtimes.runtime.Host.ask` says."""
        if self._asks:
            raise Misuse("a turn asks its model one thing at a time")
        self._asks, self._fit = True, fit
        try:
            await self._commit()
            request = ModelRequest(
                system=system,
                past=past,
                messages=messages,
                tools=tools,
                parameters=parameters,
                model=self._session.model,
                fit=None if fit is None else self._fitted,
                take_back=self._feed.take_back,
                on_reasoning=self._feed.reasoning,
            )
            self._feed.begin_answer()
            answer = await self._line.complete(request, self._feed.text)
        finally:
            self._asks = False
        point("model.answered")
        return self._answered(answer) if isinstance(answer, ModelReply) else answer

    async def call(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        """As :meth:`workers.runtimes.runtime.Host.call` says."""
        self._refuse_if_over()
        self.rows.call(calls)
        await self._commit()
        free = self._free = self._free or asyncio.Semaphore(MAX_CALLS_AT_ONCE)
        trials = [contained(self._call_one, call, free) for call in calls]
        outcomes = await asyncio.gather(*trials, return_exceptions=True)  # no call goes on without its turn
        results: list[ToolResult] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            results.append(outcome)
        return results

    async def say(self, text: str) -> None:
        """As :meth:`workers.runtimes.runtime.Host.say` says."""
        await self._commit()
        self._feed.text(text)

    def keep(self, rows: Sequence[bytes]) -> None:
        """As :meth:`workers.runtimes.runtime.Host.keep` says."""
        self._refuse_if_over()
        self.rows.add(rows)

    # -- inside ---------------------------------------------------------------------------------------------------
    def _refuse_if_over(self) -> None:
        if self._over:
            raise Misuse("the turn is over")

    async def _commit(self) -> None:
        """Return once all that was kept is on disk, that of a commit too that another act waits for, or gave up."""
        self._refuse_if_over()
        if self._failed is None and (self.rows.unsent or self._committed < self._commits):
            rows = self.rows.send()  # first: a cut does not take back what the store has begun
            self._commits = number = self._commits + 1
            point("turn.append")
            try:
                await self._session.store.append(self._submission.turn_id, self._session.session_id, rows)
            except StoreFailed as error:
                self._failed = error
                raise
            except asyncio.CancelledError:
                self._in_doubt = True
                raise
            self._committed = max(self._committed, number)
            point("turn.appended")
        if self._in_doubt:
            await self._look()
        if self._failed is not None:
            raise self._failed
        self._refuse_if_over()  # an act that the runtime left behind may have waited here

    async def _look(self) -> None:
        """See whether everything that was sent is on disk, where a commit was not waited for to its end.

        Raises:
            StoreFailed: the disk does not answer.
        """
        turn_id, sent = self._submission.turn_id, len(self.rows.sent)
        if not self._submission.stateless:  # of such a turn nothing is kept
            turn = await self._session.store.past_turn(turn_id)
            on_disk = 0 if turn is None else len(turn.rows)
            if on_disk - len(self._submission.messages) < sent:
                self._failed = self._failed or StoreFailed("what an act of the turn was to commit is not on disk")
        self._in_doubt = False

    async def _fitted(self, request: ModelRequest, asked: RequestedModel, *, refused: bool) -> ModelRequest:
        """Have the runtime make its request fit, and count the tokens of what it asks for that."""

        async def ask(aside: ModelRequest) -> ModelReply | ModelFailure:
            answer = await asked.ask(aside)
            if isinstance(answer, ModelReply):
                self.usage.update(answer.usage)
            return answer

        assert self._fit is not None
        return await self._fit(request, replace(asked, ask=ask), refused=refused)

    def _answered(self, reply: ModelReply) -> ModelReply:
        session = self._session
        self.remarks += remarks_on(reply, chosen=session.model, before=session.answered_by)
        session.answered_by = self.model = reply.model
        self.usage.update(reply.usage)
        if reply.reasoning:
            self._thoughts.append(reply.reasoning)
        reply, dropped = bounded(reply)
        if dropped:
            log.warning(
                "dropped what the provider attached to its answer: it is too large to be kept",
                session=session.key,
                provider=reply.provider,
                model=reply.model,
                fields=dropped,
            )
        return reply

    async def _call_one(self, call: ToolCall, free: asyncio.Semaphore) -> ToolResult:
        async with free:
            self._feed.tool(call.call_id, call.name, "running")
            point("tool.call")
            result = await self._session.toolbox.call(call)
            point("tool.returned")
            self._feed.tool(call.call_id, call.name, "failed" if result.failed else "completed")
            return result
