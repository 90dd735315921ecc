"""One conversation in memory: its past, its marks, its tools."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from hermes_actors.wire.records import Interrupted
from workers.models.healing import Healing
from workers.runtimes.transcript import answered_since_cut, closed
from workers.session_keys import conversation_transcript
from workers.sessions.feed import TurnFeed
from workers.sessions.hidden_work import HiddenWork
from workers.sessions.marks import UNMARKED
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.registry import SessionRecord, SessionRegistry
from workers.store.shard import ShardStore, StoredConversation, Summary
from workers.tools.toolbox import Toolbox
from workers.turns import Ended, PastTurn, Refusal, Submission

log = structlog.get_logger(__name__)


class Session:
    """A conversation. It outlives the incarnations of its actor, and so do its tools.

    Args:
        on_fell_back: called with turn id, provider and model when a turn succeeded on a fallback.
        on_ended: called with the message, its feed and its end when a turn is over.
    """

    __slots__ = (
        "_marks_changed",
        "_on_ended",
        "_registry",
        "answered_by",
        "created_at",
        "fell_back",
        "healing",
        "hidden_work",
        "key",
        "marks",
        "model",
        "no_summary_before",
        "past",
        "session_id",
        "shard",
        "stateless",
        "summary",
        "toolbox",
    )

    def __init__(
        self,
        key: str,
        shard: OwnedShard,
        *,
        stateless: bool,
        registry: SessionRegistry,
        on_fell_back: Callable[[str, str, str], None],
        on_ended: Callable[[Submission, TurnFeed, Ended], None] | None = None,
    ) -> None:
        self.key = key
        self.shard = shard
        self.stateless = stateless
        self.session_id = conversation_transcript(key) if stateless else ""
        self.created_at = time.time()
        self.model: str | None = None  # chosen with /model, instead of the configured one
        self.answered_by = ""  # the model that answered last, as its provider names it
        self.healing = Healing()  # what providers refused of it
        self.marks = UNMARKED
        self.summary: Summary | None = None  # of the turns before those in ``past``
        self.past: list[PastTurn] = []
        self.hidden_work: HiddenWork | None = None  # of a stateless one, while its client runs tools
        self.no_summary_before = 0.0  # monotonic: the model wrote none just now
        self.toolbox: Toolbox
        self.fell_back = on_fell_back
        self._on_ended = on_ended
        self._registry = registry
        self._marks_changed = False  # the registry may have more of them, or other strikes

    @property
    def turns(self) -> int:
        """How many turns its transcript has."""
        return len(self.past) + (self.summary.turns if self.summary is not None else 0)

    @property
    def failed_before(self) -> bool:
        """Whether the turn before the present one failed."""
        return bool(self.past) and self.past[-1].state == "failed"

    @property
    def store(self) -> ShardStore:
        """Where its turns and transcript are."""
        return self.shard.store

    async def store_unstored(self) -> None:
        """Store the ends of its turns that callers got while the store failed: nothing of it goes on before that.

        Raises:
            StoreFailed: the store still fails.
        """
        await self.shard.unstored.store(self.key, self.store)

    async def summarise(self, summary: Summary, turns: int) -> None:
        """Store a summary; then it replaces the earlier one and so many of the oldest turns in memory.

        Raises:
            StoreFailed: nothing changed.
        """
        await self.store.summarise(self.session_id, summary)
        self.summary = summary
        del self.past[:turns]

    def ended(self, past: PastTurn, submission: Submission, feed: TurnFeed, ended: Ended) -> None:
        """A turn is over, on disk, and its callers know. A stateless conversation brings its past with each request."""
        if not self.stateless:
            self.past.append(past)
        elif ended.tool_calls:
            self.hidden_work = self.hidden_work or HiddenWork()
            self.hidden_work.add(ended.tool_calls, past.rows[len(submission.messages) :])
        elif ended.state == "completed":
            self.hidden_work = None
        if self._on_ended is not None:
            self._on_ended(submission, feed, ended)

    def retracted(self, turn_id: str) -> None:
        """Another turn took the place of this one, which was the last: it is in the transcript no more."""
        if self.past and self.past[-1].turn_id == turn_id:
            self.past.pop()

    # -- its name and its marks -------------------------------------------------------------------------------------
    async def find(self, principal: str) -> None:
        """Ask which transcript its key points to, and read it.

        Raises:
            Refusal: ``shard_unavailable``.
            StoreFailed: it cannot be read.
        """
        await self.store_unstored()
        record = await self._registry.activate(self.key, principal, self.shard, create=True)
        self._go_on_with(record, await self.store.conversation(record.session_id))

    async def reset(self) -> None:
        """Begin an empty transcript, without marks.

        Raises:
            Refusal: ``shard_unavailable``; the session stays as it is.
        """
        self._go_on_with(await self._registry.reset(self.key, self.shard), StoredConversation(summary=None, past=[]))

    async def restore(self) -> None:
        """Go back to the transcript that a suspension set aside; the present one is set aside instead.

        Raises:
            Refusal: ``session_not_found`` where none was set aside; ``shard_unavailable``.
            StoreFailed: it cannot be read; the session stays as it is.
        """
        present = await self._registry.activate(self.key, "", self.shard, create=False)
        target = present.session_id if present.suspended is not None else present.former_id
        conversation = None if target is None else await self.store.conversation(target)  # before the key points there
        record = await self._registry.resume(self.key, self.shard)
        if conversation is None or record.session_id != target:
            conversation = await self.store.conversation(record.session_id)
        self._go_on_with(record, conversation)

    def _go_on_with(self, record: SessionRecord, conversation: StoredConversation) -> None:
        self.session_id, self.created_at, self.marks = record.session_id, record.created_at, record.marks
        self.summary, self.past = conversation.summary, [closed(turn) for turn in conversation.past]

    def was_cut(self, resume: Interrupted) -> None:
        """A drain cut its running turn, and it stays in memory: its next turns note that for the model.

        The supervisor counts the strike, so :meth:`reread_marks` asks it for the strikes.
        """
        if not self.stateless:
            self.marks = replace(self.marks, resume=resume)
            self._marks_changed = True

    async def reread_marks(self) -> None:
        """Ask the registry for the marks again where it changed them; without an answer the present ones stay."""
        if not self._marks_changed:
            return
        try:
            record = await self._registry.activate(self.key, "", self.shard, create=False)
        except Refusal as refusal:
            log.warning("marks not read again after a cut", session=self.key, why=refusal.why)
            return
        self._marks_changed = False
        if record.session_id == self.session_id and record.marks.resume is not None:
            self.marks = record.marks

    async def succeeded(self, turn_id: str) -> None:
        """A turn succeeded and is on disk: its marks are cleared before its caller gets its end.

        Where the supervisor does not answer the session stays marked, and the next success tries again.
        """
        marks = self.marks
        if not marks:
            return
        try:
            await self._registry.succeeded(self.key, self.shard, turn_id)
        except Refusal as refusal:
            log.warning("marks not cleared after a success", session=self.key, turn=turn_id, why=refusal.why)
            return
        if self.marks is marks:  # it was not marked again meanwhile
            self.marks = UNMARKED

    async def catch_up(self) -> None:
        """Clear the marks for a success whose worker died before the supervisor knew."""
        if not self.marks:
            return
        marked_at = max((mark.at for mark in (self.marks.resume, self.marks.lost) if mark is not None), default=0.0)
        answered = answered_since_cut(self.past, marked_at)
        if answered is not None:
            await self.succeeded(answered)
