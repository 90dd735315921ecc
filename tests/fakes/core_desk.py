"""A supervisor without a world: a state, a clock that tests advance, and the effects that were wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from fakes.operations import filled, made

from hermes_actors.core.effects import CommitTable, Effect, PrepareRestart, Reply, ReplyStatus
from hermes_actors.core.events import (
    Event,
    OperatorAsked,
    QueryAnswered,
    RestartPrepared,
    Started,
    StopAsked,
    Tick,
    WorkerBeat,
    WorkerDrained,
    WorkerExited,
    WorkerReady,
    WorkerSealed,
    WorkerSpawned,
)
from hermes_actors.core.operators import views
from hermes_actors.core.pool.placement import place
from hermes_actors.core.state import Limits, Owner, State, Worker
from hermes_actors.core.step import due, step
from hermes_actors.operations.plain import to_plain
from hermes_actors.operations.requests import read
from hermes_actors.operations.results import Phase, StoredFacts, WorkerState
from hermes_actors.wire.records import CutTurn, Load
from hermes_actors.wire.refusals import RefusalCode

E = TypeVar("E")
SHARDS = 8
MOST_TICKS = 10_000  # in one wait


def of(kind: type[E], effects: Iterable[object]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


class Desk:
    """Feeds events to ``step`` and checks after each what must always hold."""

    def __init__(
        self, slots: int = 2, *, max_restarts: int = 3, heartbeat_s: float = 5.0, drain_s: float = 60.0
    ) -> None:
        self.limits = Limits(
            heartbeat_s=heartbeat_s, max_restarts=max_restarts, restart_window_s=60.0, drain_timeout_s=drain_s
        )
        self.state = State(
            limits=self.limits,
            workers=tuple(Worker(slot=slot) for slot in range(slots)),
            owners=tuple(Owner(slot, 100) for slot in place({}, SHARDS, slots)),
        )
        self.now = 1000.0
        self.log: list[Effect] = []
        self.prepares = True  # restarts, at once

    def tell(self, event: Event) -> tuple[Effect, ...]:
        before = self.state
        self.state, effects = step(self.state, event, self.now)
        self.log += effects
        self._check(before, effects)
        for wanted in of(PrepareRestart, effects) if self.prepares else ():
            effects += self.tell(RestartPrepared(number=wanted.number))
        return effects

    def _check(self, before: State, effects: tuple[Effect, ...]) -> None:
        for shard, (old, new) in enumerate(zip(before.owners, self.state.owners, strict=True)):
            assert new.fence >= old.fence
            if new != old:
                assert any(table.owners.get(shard) == new for table in of(CommitTable, effects))
        for worker in self.state.workers:
            if self.state.phase not in (Phase.STOPPING, Phase.STOPPED) and worker.generation:
                waits = worker.state in (WorkerState.RESTARTING, WorkerState.GIVEN_UP)
                assert waits == (worker.retry_at is not None)
                assert worker.state not in (WorkerState.STOPPED, WorkerState.STOPPING)

    def disk(self, *, full: bool) -> None:
        """Whether what happens from now on can be recorded."""
        self.state = replace(self.state, unwritable="database or disk is full" if full else None)

    # -- shorter -----------------------------------------------------------------------------------------------------
    def worker(self, slot: int) -> Worker:
        return self.state.workers[slot]

    def generation(self, slot: int) -> int:
        return self.state.workers[slot].generation

    def spawned(self, slot: int) -> tuple[Effect, ...]:
        generation = self.generation(slot)
        return self.tell(WorkerSpawned(slot=slot, generation=generation, pid=1000 * (slot + 1) + generation))

    def ready(self, slot: int) -> tuple[Effect, ...]:
        return self.tell(WorkerReady(slot=slot, generation=self.generation(slot)))

    def beat(self, slot: int, active: dict[str, float] | None = None) -> tuple[Effect, ...]:
        generation = self.generation(slot)
        return self.tell(WorkerBeat(slot=slot, generation=generation, load=Load(running=1), active=active or {}))

    def die(self, slot: int, exitcode: int = -9, jitter: float = 0.0) -> tuple[Effect, ...]:
        generation = self.generation(slot)
        return self.tell(WorkerExited(slot=slot, generation=generation, exitcode=exitcode, jitter=jitter))

    def answer(self, slot: int, request: int, data: dict[str, Any], *, found: bool = True) -> tuple[Effect, ...]:
        generation = self.generation(slot)
        pending = self.state.pending.get(request)
        data = {} if pending is None or pending.response is None else filled(pending.response, data)
        return self.tell(QueryAnswered(slot=slot, generation=generation, request=request, found=found, data=data))

    def drained(self, slot: int) -> tuple[Effect, ...]:
        return self.tell(
            WorkerDrained(
                slot=slot,
                generation=self.generation(slot),
                number=self.state.drain.number if self.state.drain else 0,
            )
        )

    def sealed(
        self, slot: int, *cut: tuple[str, str], busy: Iterable[str] = (), stateless: int = 0, ago: int = 0
    ) -> tuple[Effect, ...]:
        """The worker tells what runs, and which sessions have turns that wait; to an earlier question than the last."""
        return self.tell(
            WorkerSealed(
                slot=slot,
                generation=self.generation(slot),
                request=self.state.asked - ago,
                cut=tuple(CutTurn(key, turn_id) for key, turn_id in cut),
                busy=frozenset(busy),
                stateless=stateless,
            )
        )

    def operator(self, operation: str, **arguments: Any) -> tuple[Effect, ...]:
        """An operator asks; :func:`reply` finds the answer."""
        return self.tell(OperatorAsked(client=3, request=9, operation=read(operation, arguments)))

    def wait(self, seconds: float) -> tuple[Effect, ...]:
        """Let time pass, with every tick that is wanted meanwhile at its time."""
        return tuple(effect for effects in self.ticks(seconds) for effect in effects)

    def ticks(self, seconds: float) -> Iterator[tuple[Effect, ...]]:
        """The same, tick by tick: what is done in between happens at that time."""
        until = self.now + seconds
        ticks = 0
        while (at := due(self.state)) is not None and at <= until:
            ticks += 1
            assert ticks < MOST_TICKS, "it asks for the same time again and again"
            self.now = max(self.now, at)
            yield self.tell(Tick(due=at))
        self.now = until

    def stop(self, *, now: bool = False) -> tuple[Effect, ...]:
        return self.tell(StopAsked(now=now, by="SIGTERM"))

    def stopping(self) -> tuple[Effect, ...]:
        """A stop for now, until the workers are asked to go."""
        effects = self.stop(now=True)
        for slot in self.state.up:
            effects += self.sealed(slot)
        assert self.state.phase is Phase.STOPPING
        return effects


class Answer(NamedTuple):
    """What an operator gets."""

    error: RefusalCode | None
    why: str
    data: dict[str, Any]


def reply(effects: Iterable[object]) -> Answer:
    """The one answer to :meth:`Desk.operator`."""
    (only,) = of(Reply, effects)
    assert (only.client, only.request) == (3, 9)
    return Answer(only.error, only.why, to_plain(only.result))


def shown(status: ReplyStatus) -> dict[str, Any]:
    """The status that an operator gets, without what the records say."""
    plain: dict[str, Any] = to_plain(views.status(status.state, made(StoredFacts, {}), status.now))
    return plain


def serving(slots: int = 2, **limits: float) -> Desk:
    """A gateway whose workers are all ready."""
    desk = Desk(slots, **limits)  # type: ignore[arg-type]  # limits of tests
    desk.tell(Started())
    for slot in range(slots):
        desk.spawned(slot)
        desk.ready(slot)
    assert desk.state.phase is Phase.SERVING
    return desk
