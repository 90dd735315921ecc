"""One conversation in memory: its actor, its past, its tools."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pykka
import structlog

from hermes_actors.wire.records import Interrupted
from workers.models.healing import Healing
from workers.runtimes.transcript import answered_since_cut
from workers.sessions.agent import AgentActor
from workers.sessions.agent_config import AgentConfig
from workers.sessions.marks import UNMARKED
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.turn import TurnRun
from workers.sessions.work import CutOff, Stage, Work
from workers.store.shard import Conversation, PastTurn, ShardStore, Summary
from workers.tools.toolbox import Toolbox
from workers.turns import Ended, Refusal, TurnError

if TYPE_CHECKING:
    from workers.sessions.registry import SessionRecord, SessionRegistry

log = structlog.get_logger(__name__)


class Session:
    """A resident session. It outlives the incarnations of its actor, and so do its tools."""

    __slots__ = (
        "_agency",
        "_on_done",
        "_registry",
        "active_at",
        "actor",
        "answered_by",
        "created_at",
        "healing",
        "held",
        "key",
        "marks",
        "model",
        "no_summary_before",
        "on_ended",
        "on_fell_back",
        "past",
        "paused",
        "quiet",
        "ready",
        "runs",
        "session_id",
        "shard",
        "stateless",
        "summary",
        "toolbox",
        "wanted",
    )

    def __init__(
        self,
        key: str,
        shard: OwnedShard,
        *,
        stateless: bool,
        agent_config: Callable[[], AgentConfig],
        registry: SessionRegistry,
        on_done: Callable[[Session, Work], None],
    ) -> None:
        self.key = key
        self.shard = shard
        self.stateless = stateless
        self.session_id = ""
        self.created_at = 0.0
        self.active_at = time.monotonic()
        self.model: str | None = None  # chosen with /model, instead of the configured one
        self.answered_by = ""  # the model that answered last, as its provider names it
        self.healing = Healing()  # what providers refused of it
        self.marks = UNMARKED
        self.summary: Summary | None = None  # of the turns before those in ``past``
        self.past: list[PastTurn] = []
        self.no_summary_before = 0.0  # monotonic: the model wrote none just now
        self.runs: dict[str, Work] = {}  # running and waiting, by turn id, in order
        self.quiet = asyncio.Event()  # set while no turn runs or waits
        self.quiet.set()
        self.toolbox: Toolbox
        self.actor: pykka.ActorRef[AgentActor]
        self.ready: asyncio.Task[None] | None = None  # while it is being activated
        self.wanted = 0  # callers that wait for that
        self.held = False  # its mail waits for the actor's next incarnation
        self.paused = False  # a drain goes on: what waits does not begin
        self.on_fell_back: Callable[[Session, str, str, str], None] | None = None  # turn id, provider, model
        self.on_ended: Callable[[TurnRun, Ended], None] | None = None
        self._agency = agent_config
        self._registry = registry
        self._on_done = on_done

    @property
    def busy(self) -> bool:
        """Whether it is being activated, or was for a turn that comes, or a turn runs or waits."""
        return bool(self.runs) or self.wanted > 0 or self.ready is not None

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
        """Store the ends of its turns that were told while the store failed: nothing of it goes on before that.

        Raises:
            StoreFailed: the store still fails.
        """
        await self.shard.unstored.store(self.key, self.store)

    async def activation_over(self) -> None:
        """Return when it is not being activated any more, however that went."""
        if self.ready is not None:
            await asyncio.wait((self.ready,))

    def ended(self, past: PastTurn, run: TurnRun, ended: Ended) -> None:
        """A turn is over, on disk and told. A stateless conversation brings its past with each request."""
        if not self.stateless:
            self.past.append(past)
        if self.on_ended is not None:
            self.on_ended(run, ended)

    async def summarise(self, summary: Summary, turns: int) -> None:
        """Store a summary; then it replaces the earlier one and so many of the oldest turns in memory.

        Raises:
            StoreFailed: nothing changed.
        """
        await self.store.summarise(self.session_id, summary)
        self.summary = summary
        del self.past[:turns]

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
        self._go_on_with(await self._registry.reset(self.key, self.shard), Conversation(summary=None, past=[]))

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

    def _go_on_with(self, record: SessionRecord, conversation: Conversation) -> None:
        self.session_id, self.created_at, self.marks = record.session_id, record.created_at, record.marks
        self.summary, self.past = conversation.summary, conversation.past

    def was_cut(self, reason: str, at: float) -> None:
        """A drain cut its running turn, and it stays in memory: its next turns are told, as after a start.

        Args:
            reason: ``restart_timeout`` or ``shutdown_timeout``.
            at: seconds since the epoch.
        """
        if not self.stateless:
            self.marks = replace(self.marks, resume=Interrupted(reason=reason, at=at), strikes=self.marks.strikes + 1)

    async def succeeded(self, turn_id: str) -> None:
        """A turn succeeded and is on disk: its marks are cleared before its end is told.

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
        if self.marks is marks:  # not marked anew meanwhile
            self.marks = UNMARKED

    async def catch_up(self) -> None:
        """Clear the marks for a success whose worker died before the supervisor knew."""
        if not self.marks:
            return
        marked_at = max((mark.at for mark in (self.marks.resume, self.marks.lost) if mark is not None), default=0.0)
        answered = answered_since_cut(self.past, marked_at)
        if answered is not None:
            await self.succeeded(answered)

    # -- its actor and its turns ------------------------------------------------------------------------------------
    def start_actor(self) -> None:
        """Start an actor, the first or one that takes over the mail of one that died."""
        self.actor = AgentActor.start(self, self._agency)
        self._tell_waiting()

    def may_begin(self, run: Work) -> bool:
        """Whether the actor may take it up; what is on disk as running always may, or it would stay so."""
        return not self.held and (run.begun or not self.paused)

    def mail(self, run: Work) -> None:
        """Give the actor a turn that is on disk, or a command; what was counted in before it goes first."""
        run.stage = Stage.ADMITTED
        self._deliver()

    def _deliver(self) -> None:
        for run in self.runs.values():
            if run.stage is Stage.EXPECTED:
                return
            if run.stage is Stage.ADMITTED:
                run.stage = Stage.MAILED
                if self.may_begin(run):
                    self.actor.tell(run)

    def fell_back(self, turn_id: str, provider: str, model: str) -> None:
        """A turn succeeded on a fallback: the supervisor decides on the actor, and its mail waits for that."""
        if self.on_fell_back is not None:
            self.on_fell_back(self, turn_id, provider, model)

    def restart_actor(self) -> None:
        """Replace the held actor by a fresh one, with the mail that waits. Tools and transcript are the session's."""
        self.actor.stop(block=False)
        self.held = False
        self.start_actor()

    def resume_actor(self) -> None:
        """Let the held actor go on as it is."""
        self.held = False
        self._tell_waiting()

    def unpause(self) -> None:
        """What waited for the end of a drain may begin."""
        self.paused = False
        self._tell_waiting()

    def _tell_waiting(self) -> None:
        """What the actor dropped because it might not begin, it gets again."""
        for run in self.runs.values():
            if run.stage is Stage.MAILED and self.may_begin(run):
                self.actor.tell(run)

    def expect(self, run: Work) -> None:
        """Count a turn in."""
        self.runs[run.submission.turn_id] = run
        self.quiet.clear()

    def unexpect(self, run: Work) -> None:
        """Count a turn out."""
        self.runs.pop(run.submission.turn_id, None)
        self._deliver()
        if not self.runs:
            self.quiet.set()

    def done(self, run: Work) -> None:
        """The actor is through with a turn."""
        self._on_done(self, run)

    def cancel(self, turn_id: str, why: TurnError) -> None:
        """End a turn that nobody wants any more."""
        run = self.runs.get(turn_id)
        if run is not None:
            run.cut(CutOff(state="cancelled", error=why))
