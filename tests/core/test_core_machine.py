"""Whatever happens in whatever order: the rules that the supervisor never breaks."""

from __future__ import annotations

from collections.abc import Callable

from fakes.core_desk import Desk, of, sent
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hermes_actors.core import effects as fx
from hermes_actors.core.drain.drain import SEAL_ANSWER_S
from hermes_actors.core.events import (
    Event,
    OperatorAsked,
    Said,
    SettingsLoaded,
    Started,
    StopAsked,
    Tick,
    WorkerExited,
    WorkerLost,
)
from hermes_actors.core.operators.pending import RESPONSE_TIMEOUT_S
from hermes_actors.core.pool.lifecycle import EXIT_WAIT_S, STOP_S
from hermes_actors.core.state import Owner, Process, ReplyTo
from hermes_actors.core.step import due
from hermes_actors.operations.requests import read
from hermes_actors.operations.results import Change, Phase, WorkerState
from hermes_actors.wire import messages as wire
from hermes_actors.wire.records import Load

SLOTS = 3
slots = st.integers(0, SLOTS - 1)
END_S = 10.0 + SEAL_ANSWER_S + STOP_S + EXIT_WAIT_S + 0.001  # from a signal to the end, even if nobody answers


class World(RuleBasedStateMachine):
    """Processes that may do anything, and a supervisor that sees only events."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(SLOTS, max_restarts=2, heartbeat_s=5.0, drain_s=10.0)
        self.phase = self.desk.state.phase  # before what happens now
        self.alive: dict[int, int] = {}  # slot -> generation of a live process
        self.starting: dict[int, int] = {}  # slot -> generation being started
        self.doomed: set[tuple[int, int]] = set()  # SIGKILL is on its way
        self.owned: dict[int, dict[int, int]] = {}  # slot -> shard -> fence, as its live process has it
        self.stop_by: float | None = None
        self.restarted: list[str] = []  # by which turns
        self.pending: list[tuple[tuple[int, int], int]] = []  # who was asked, and the number
        self.asked: dict[int, float] = {}  # an operator's request that has no reply -> when it was made
        self.requests = 0

    def perform(self, effects: tuple[fx.Effect, ...]) -> None:
        for effect in effects:
            match effect:
                case fx.Spawn():
                    slot, generation = effect.process
                    assert slot not in self.alive, "two processes would own the same shards"
                    assert slot not in self.starting
                    assert self.phase is not Phase.STOPPING, "nothing starts while stopping"
                    self.starting[slot] = generation
                    self.owned[slot] = {
                        shard: owner.fence for shard, owner in enumerate(self.desk.state.owners) if owner.slot == slot
                    }
                case fx.Kill():
                    self.doomed.add(effect.process)
                case fx.Send(to=((slot, generation),), message=wire.RestartActor()):
                    assert self.alive.get(slot) == generation, "its actor is gone"
                    self.fall_back()
                case fx.Send(to=to, message=wire.Query(request=number) | wire.Reconfigure(request=number)):
                    assert to
                    assert all(self.alive.get(slot) == generation for slot, generation in to)
                    self.pending += ((process, number) for process in to)
                case fx.Send(to=((slot, generation),), message=wire.Listen()):
                    assert self.alive.get(slot) == generation
                case fx.Reply():
                    del self.asked[effect.reply_to.request]  # it has one reply
                case _:
                    pass
        self.phase = self.desk.state.phase

    def fall_back(self) -> None:
        entry = self.desk.records.session("k")
        assert entry is not None
        assert entry.actor.last_fallback_turn is not None
        assert entry.actor.last_fallback_turn not in self.restarted, "one turn, one restart"
        self.restarted.append(entry.actor.last_fallback_turn)
        assert (entry.actor.restarts, entry.actor.generation) == (len(self.restarted), len(self.restarted) + 1)

    def tell(self, make: Callable[[], Event]) -> None:
        self.perform(self.desk.tell(make()))

    @initialize()
    def start(self) -> None:
        self.tell(Started)

    @rule(slot=slots)
    def a_process_comes_up(self, slot: int) -> None:
        if slot in self.starting:
            self.alive[slot] = self.starting.pop(slot)
            self.perform(self.desk.spawned(slot))

    @rule(slot=slots, jitter=st.floats(0, 1, exclude_max=True))
    def a_start_fails(self, slot: int, jitter: float) -> None:
        if slot in self.starting:
            generation = self.starting.pop(slot)
            self.tell(lambda: WorkerExited(process=Process(slot, generation), exitcode=None, jitter=jitter))

    @rule(slot=slots)
    def a_worker_is_ready(self, slot: int) -> None:
        if slot in self.alive:
            self.perform(self.desk.ready(slot))

    @rule(slot=slots, age=st.integers(0, 3))
    def a_worker_beats(self, slot: int, age: int) -> None:
        generation = self.desk.generation(slot) - age
        before = self.desk.worker(slot)
        self.tell(
            lambda: Said(process=Process(slot, generation), message=wire.Heartbeat(load=Load(), active={}, reached={}))
        )
        if age:
            assert self.desk.worker(slot) == before

    @rule(slot=slots, jitter=st.floats(0, 1, exclude_max=True))
    def a_worker_dies(self, slot: int, jitter: float) -> None:
        if slot in self.alive:
            generation = self.alive.pop(slot)
            self.tell(lambda: WorkerExited(process=Process(slot, generation), exitcode=-9, jitter=jitter))

    @rule(slot=slots)
    def a_link_ends(self, slot: int) -> None:
        if slot in self.alive:
            self.tell(lambda: WorkerLost(process=Process(slot, self.alive[slot]), why="torn"))

    @rule(slot=slots, shard=st.integers(0, 7), stale=st.integers(0, 2))
    def a_worker_activates(self, slot: int, shard: int, stale: int) -> None:
        if slot not in self.alive:
            return
        fence = self.owned[slot].get(shard, 100) - stale
        effects = self.desk.tell(
            Said(
                process=Process(slot, self.alive[slot]),
                message=wire.Activate(request=1, key="k", principal="p", shard=shard, fence=fence, create=True),
            )
        )
        owns = self.desk.state.owners[shard] == Owner(slot, fence)
        assert bool(sent(wire.Activated, effects)) == owns
        assert owns == (stale == 0 and shard in self.owned[slot])

    @rule(slot=slots, shard=st.integers(0, 7), stale=st.integers(0, 1), age=st.integers(0, 1), times=st.integers(1, 2))
    def a_turn_succeeds_on_a_fallback(self, slot: int, shard: int, stale: int, age: int, times: int) -> None:
        if slot not in self.alive:
            return
        before, turn_id = len(self.restarted), f"turn_{len(self.desk.log)}"
        owns = not stale and not age and shard in self.owned[slot]
        for _ in range(times):
            self.tell(
                lambda: Said(
                    process=Process(slot, self.alive[slot] - age),
                    message=wire.SucceededOnFallback(
                        key="k",
                        shard=shard,
                        fence=self.owned[slot].get(shard, 100) - stale,
                        turn_id=turn_id,
                        provider="p",
                        model="m",
                    ),
                )
            )
        assert len(self.restarted) - before == (owns and not self.desk.full), "it is recorded first"

    def ask(self, make: Callable[[int], Event]) -> None:
        self.requests += 1
        self.asked[self.requests] = self.desk.now
        self.tell(lambda: make(self.requests))

    @rule(operation=st.sampled_from(["mcp", "mcp.restart"]))
    def an_operator_asks(self, operation: str) -> None:
        self.ask(
            lambda request: OperatorAsked(reply_to=ReplyTo(1, request), operation=read(operation, {"server": "time"}))
        )

    @rule()
    def the_configuration_was_read_again(self) -> None:
        change = Change(key="k", when="now", what="w")
        self.ask(
            lambda request: SettingsLoaded(
                reply_to=ReplyTo(1, request), changes=(change,), limits=self.desk.limits, servers=("time",)
            )
        )

    @rule(which=st.integers(0, 9), found=st.booleans())
    def a_worker_answers(self, which: int, found: bool) -> None:
        if which < len(self.pending):
            (slot, generation), number = self.pending[which]  # maybe not for the first time, maybe it is dead
            self.tell(
                lambda: Said(
                    process=Process(slot, generation),
                    message=wire.QueryResponse(request=number, found=found, data={"mcp": [], "restarted": 1}),
                )
            )

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 20.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        for effects in self.desk.ticks(seconds):
            self.perform(effects)

    @rule(seconds=st.sampled_from([2.0, 50.0, 5000.0]))
    def the_supervisor_is_suspended(self, seconds: float) -> None:
        at = due(self.desk.state)
        if at is not None:
            self.desk.now = max(self.desk.now, at) + seconds
            self.asked = {request: made + seconds for request, made in self.asked.items()}
            effects = self.desk.tell(Tick(due=at))
            self.perform(effects)
            if self.stop_by is None:
                assert not of(fx.Kill, effects)
            else:
                self.stop_by += seconds + SEAL_ANSWER_S

    @rule(full=st.booleans())
    def the_disk_fills_or_gets_room(self, full: bool) -> None:
        self.desk.disk(full=full)

    @precondition(lambda self: self.desk.state.phase is not Phase.STOPPED)
    @rule(now=st.booleans(), often=st.integers(0, 9))
    def a_stop_is_asked(self, now: bool, often: int) -> None:
        if often == 0:  # rarely, or no run gets far
            if self.stop_by is None:
                self.stop_by = self.desk.now + END_S
            self.tell(lambda: StopAsked(now=now, by="SIGTERM"))

    @invariant()
    def no_operator_waits_for_long(self) -> None:
        assert all(self.desk.now < made + RESPONSE_TIMEOUT_S for made in self.asked.values())

    @invariant()
    def the_killed_are_not_asked_to_serve(self) -> None:
        for slot in self.desk.state.up:
            assert (slot, self.desk.generation(slot)) not in self.doomed

    @invariant()
    def a_dead_worker_has_a_replacement_or_a_time_for_one(self) -> None:
        if self.desk.state.phase in (Phase.STOPPING, Phase.STOPPED):
            return
        for worker in self.desk.state.workers:
            there = worker.slot in self.alive or worker.slot in self.starting
            assert there != (worker.state in (WorkerState.RESTARTING, WorkerState.GIVEN_UP)) or not worker.generation

    def teardown(self) -> None:
        """A stop ends, even when no process ever answers."""
        if self.desk.worker(0).generation == 0:
            return
        if self.stop_by is None:
            self.stop_by = self.desk.now + END_S
            self.tell(lambda: StopAsked(now=False, by="SIGTERM"))
        self.time_passes(max(0.0, self.stop_by - self.desk.now))
        assert self.desk.state.phase is Phase.STOPPED
        assert len(of(fx.EndProcess, self.desk.log)) == 1
        assert not self.asked, "every operator got a reply"
        assert due(self.desk.state) is None


TestWorld = World.TestCase
TestWorld.settings = settings(stateful_step_count=40)
