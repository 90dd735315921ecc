"""One conversation in memory: its actor, its past, its tools."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import pykka

from workers.agents.agent import Agency, AgentActor, TurnRun, Work
from workers.agents.machine import CutOff
from workers.store.shard import PastTurn, ShardStore
from workers.tools.toolbox import Toolbox
from workers.turns import Ended, TurnError


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedShard:
    """A shard of this worker, open."""

    number: int
    fence: int
    store: ShardStore


class Session:
    """A resident session. It outlives the incarnations of its actor, and so do its tools."""

    __slots__ = (
        "_agency",
        "_on_done",
        "active_at",
        "actor",
        "created_at",
        "held",
        "key",
        "model",
        "on_ended",
        "on_fell_back",
        "past",
        "quiet",
        "ready",
        "runs",
        "session_id",
        "shard",
        "stateless",
        "toolbox",
        "wanted",
    )

    def __init__(
        self,
        key: str,
        shard: OwnedShard,
        *,
        stateless: bool,
        agency: Callable[[], Agency],
        on_done: Callable[[Session, Work], None],
    ) -> None:
        self.key = key
        self.shard = shard
        self.stateless = stateless
        self.session_id = ""
        self.created_at = 0.0
        self.active_at = time.monotonic()
        self.model: str | None = None  # chosen with /model, instead of the configured one
        self.past: list[PastTurn] = []
        self.runs: dict[str, Work] = {}  # running and waiting, by turn id, in order
        self.quiet = asyncio.Event()  # set while no turn runs or waits
        self.quiet.set()
        self.toolbox: Toolbox
        self.actor: pykka.ActorRef[AgentActor]
        self.ready: asyncio.Task[None] | None = None  # while it is being activated
        self.wanted = 0  # callers that wait for that
        self.held = False  # its mail waits for the actor's next incarnation
        self.on_fell_back: Callable[[Session, str, str, str], None] | None = None  # turn id, provider, model
        self.on_ended: Callable[[TurnRun, Ended], None] | None = None
        self._agency = agency
        self._on_done = on_done

    @property
    def busy(self) -> bool:
        """Whether it is being activated, or was for a turn that comes, or a turn runs or waits."""
        return bool(self.runs) or self.wanted > 0 or self.ready is not None

    @property
    def failed_before(self) -> bool:
        """Whether the turn before the present one failed."""
        return bool(self.past) and self.past[-1].state == "failed"

    @property
    def store(self) -> ShardStore:
        """Where its turns and transcript are."""
        return self.shard.store

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

    def start_actor(self) -> None:
        """Start an actor, the first or one that takes over the mail of one that died."""
        self.actor = AgentActor.start(self, self._agency)
        for run in self.runs.values():
            if run.mailed and not run.started:
                self.actor.tell(run)

    def mail(self, run: Work) -> None:
        """Give the actor a turn that is on disk, or a command; what was counted in before it goes first."""
        run.admitted = True
        self._deliver()

    def _deliver(self) -> None:
        for run in self.runs.values():
            if not run.admitted:
                return
            if not run.mailed:
                run.mailed = True
                if not self.held:
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
        for run in self.runs.values():
            if run.mailed and not run.started:
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
