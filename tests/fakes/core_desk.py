"""A supervisor without a world: a state, a clock that tests advance, and the effects that were wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from fakes.operations import filled
from fakes.records import FakeRecords

from hermes_actors.core.effects import Effect, NoteLife, PrepareRestart, Reply, Send, Write, WriteIncident, WriteOwners
from hermes_actors.core.events import (
    DiskRefused,
    Event,
    OperatorAsked,
    RestartPrepared,
    Said,
    Started,
    StopAsked,
    Tick,
    WorkerExited,
    WorkerSpawned,
)
from hermes_actors.core.pool.placement import place
from hermes_actors.core.sessions.ledger import Entry, Ledger
from hermes_actors.core.state import Limits, Owner, Process, ReplyTo, Slot, State
from hermes_actors.core.step import due, step
from hermes_actors.operations import workers
from hermes_actors.operations.plain import to_plain
from hermes_actors.operations.requests import read
from hermes_actors.operations.results import Drained, Phase, WorkerState
from hermes_actors.operations.workers import WorkerRequest
from hermes_actors.wire import messages as wire
from hermes_actors.wire.messages import FromWorker, Query
from hermes_actors.wire.records import CutTurn, Load
from hermes_actors.wire.refusals import RefusalCode
from hermes_actors.wire.sharding import shard_of

E = TypeVar("E")
SHARDS = 8
MOST_TICKS = 10_000  # in one wait


def of(kind: type[E], effects: Iterable[object]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def sent(kind: type[Any], effects: Iterable[object]) -> list[Send]:
    """What was sent to workers, where the message is of this kind."""
    return [effect for effect in of(Send, effects) if isinstance(effect.message, kind)]


def messages(kind: type[E], effects: Iterable[object]) -> list[E]:
    """The messages of this kind that were sent to workers."""
    return [effect.message for effect in of(Send, effects) if isinstance(effect.message, kind)]


def requested(query: Query) -> WorkerRequest:
    """What workers are requested to do."""
    return workers.read(query.operation, query.arguments)


def kinds(effects: Iterable[object]) -> list[type]:
    """The kinds of effects, in order, and of a message that is sent its own."""
    return [type(effect.message) if isinstance(effect, Send) else type(effect) for effect in effects]


class Desk:
    """Feeds events to ``step`` and checks after each what must always hold."""

    def __init__(
        self, slots: int = 2, *, max_restarts: int = 3, heartbeat_s: float = 5.0, drain_s: float = 60.0
    ) -> None:
        self.limits = Limits(
            heartbeat_s=heartbeat_s,
            max_restarts=max_restarts,
            restart_window_s=60.0,
            drain_timeout_s=drain_s,
            stuck_threshold=3,
        )
        self.state = State(
            boot="boot",
            limits=self.limits,
            workers=tuple(Slot(slot=slot) for slot in range(slots)),
            owners=tuple(Owner(slot, 100) for slot in place({}, SHARDS, slots)),
        )
        self.now = 1000.0
        self.log: list[Effect] = []
        self.prepares = True  # restarts, at once
        self.records = FakeRecords(SHARDS)
        self.full = False  # the disk

    def tell(self, event: Event) -> tuple[Effect, ...]:
        before = self.state
        after, effects = step(self.state, event, self.now, self.records)
        if self.full and (after.ledger is not before.ledger or of(Write, effects)):  # type: ignore[arg-type]  # a union
            refused = DiskRefused(event=event, why="database or disk is full")
            after, effects = step(before, refused, self.now, self.records)
            assert after.ledger is before.ledger
            assert not of(Write, effects), "the disk refuses"  # type: ignore[arg-type]  # a union
        self.state = after
        self.records.write(effects)
        self.log += effects
        self._check(before, effects)
        for wanted in of(PrepareRestart, effects) if self.prepares else ():
            effects += self.tell(RestartPrepared(number=wanted.number))
        return effects

    def _check(self, before: State, effects: tuple[Effect, ...]) -> None:
        for shard, (old, new) in enumerate(zip(before.owners, self.state.owners, strict=True)):
            assert new.fence >= old.fence
            if new != old:
                assert any(table.owners.get(shard) == new for table in of(WriteOwners, effects))
        for worker in self.state.workers:
            if self.state.phase not in (Phase.STOPPING, Phase.STOPPED) and worker.generation:
                waits = worker.state in (WorkerState.RESTARTING, WorkerState.GIVEN_UP)
                assert waits == (worker.retry_at is not None)
                assert worker.state not in (WorkerState.STOPPED, WorkerState.STOPPING)

    def disk(self, *, full: bool) -> None:
        """Whether what happens from now on can be recorded."""
        self.full = full

    def say(self, slot: int, message: FromWorker) -> tuple[Effect, ...]:
        """The present worker of a slot says this."""
        return self.tell(Said(process=self.state.process(slot), message=message))

    def strike_all(self) -> None:
        """A session of each shard has a strike, and is idle."""
        old = Entry(count=1, causes=("crash",), last_cut="turn_old", last_at=0.0)
        self.state = replace(self.state, ledger=Ledger({idle_in(shard): old for shard in range(SHARDS)}))

    @property
    def spared(self) -> set[int]:
        """The shards whose idle session has its strike still."""
        return {shard for shard in range(SHARDS) if self.state.ledger.count(idle_in(shard))}

    # -- shorter -----------------------------------------------------------------------------------------------------
    def worker(self, slot: int) -> Slot:
        return self.state.workers[slot]

    def generation(self, slot: int) -> int:
        return self.state.workers[slot].generation

    def spawned(self, slot: int) -> tuple[Effect, ...]:
        generation = self.generation(slot)
        return self.tell(WorkerSpawned(process=Process(slot, generation), pid=1000 * (slot + 1) + generation))

    def ready(self, slot: int) -> tuple[Effect, ...]:
        return self.tell(Said(process=Process(slot, self.generation(slot)), message=wire.Ready()))

    def beat(self, slot: int, active: dict[str, float] | None = None) -> tuple[Effect, ...]:
        generation = self.generation(slot)
        return self.tell(
            Said(
                process=Process(slot, generation),
                message=wire.Heartbeat(load=Load(running=1), active=active or {}, reached={}),
            )
        )

    def die(self, slot: int, exitcode: int = -9, jitter: float = 0.0) -> tuple[Effect, ...]:
        generation = self.generation(slot)
        return self.tell(WorkerExited(process=Process(slot, generation), exitcode=exitcode, jitter=jitter))

    def answer(self, slot: int, request: int, data: dict[str, Any], *, found: bool = True) -> tuple[Effect, ...]:
        generation = self.generation(slot)
        pending = self.state.pending.get(request)
        data = {} if pending is None or pending.response is None else filled(pending.response, data)
        return self.tell(
            Said(process=Process(slot, generation), message=wire.QueryResponse(request=request, found=found, data=data))
        )

    def drained(self, slot: int) -> tuple[Effect, ...]:
        return self.tell(
            Said(
                process=Process(slot, self.generation(slot)),
                message=wire.NoTurnRuns(number=self.state.drain.number if self.state.drain else 0),
            )
        )

    def sealed(
        self, slot: int, *cut: tuple[str, str], busy: Iterable[str] = (), stateless: int = 0, ago: int = 0
    ) -> tuple[Effect, ...]:
        """The worker tells what runs, and which sessions have turns that wait; to an earlier question than the last."""
        return self.tell(
            Said(
                process=Process(slot, self.generation(slot)),
                message=wire.Sealed(
                    request=self.state.asked - ago,
                    cut=[CutTurn(key, turn_id) for key, turn_id in cut],
                    busy=list(busy),
                    stateless=stateless,
                ),
            )
        )

    def operator(self, operation: str, **arguments: Any) -> tuple[Effect, ...]:
        """An operator asks; :func:`reply` finds the answer."""
        return self.tell(OperatorAsked(reply_to=ReplyTo(3, 9), operation=read(operation, arguments)))

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
    assert only.reply_to == (3, 9)
    return Answer(only.error, only.why, to_plain(only.result))


def shown(answer: Reply) -> dict[str, Any]:
    """What an operator gets."""
    plain: dict[str, Any] = to_plain(answer.result)
    return plain


def drained(effects: Iterable[object]) -> list[Reply]:
    """The answers that say how a drain ended."""
    return [answer for answer in of(Reply, effects) if isinstance(answer.result, Drained)]


def marked(effects: Iterable[object]) -> list[tuple[str, str | None, str | None]]:
    """Key, turn and reason of the sessions that are marked as cut."""
    incidents = [effect.incident for effect in of(WriteIncident, effects)]
    return [(one.key, one.turn_id, one.reason) for one in incidents if one.what == "cut"]


def noted(milestone: str, effects: Iterable[object]) -> list[float | None]:
    """When this life came so far, as it is recorded; None: a stop was cancelled."""
    return [effect.at for effect in of(NoteLife, effects) if effect.milestone == milestone]


def idle_in(shard: int) -> str:
    """The key of a session of a shard."""
    return next(key for n in range(1000) if shard_of(key := f"api:idle:{n}", SHARDS) == shard)


def serving(slots: int = 2, **limits: float) -> Desk:
    """A gateway whose workers are all ready."""
    desk = Desk(slots, **limits)  # type: ignore[arg-type]  # limits of tests
    desk.tell(Started())
    for slot in range(slots):
        desk.spawned(slot)
        desk.ready(slot)
    assert desk.state.phase is Phase.SERVING
    return desk
