"""Whatever happens while turns run and drains come and go: what is cut is what is recorded, and it always ends."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from fakes.core_desk import Desk, of
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hermes_actors.core import effects as fx
from hermes_actors.core.drain.drain import SEAL_ANSWER_S
from hermes_actors.core.events import (
    Event,
    OperatorAsked,
    RestartPrepared,
    RestartRefused,
    Said,
    Started,
    StopAsked,
    WorkerExited,
    WorkerSpawned,
)
from hermes_actors.core.pool.lifecycle import EXIT_WAIT_S, STOP_S
from hermes_actors.core.sessions.lives import Incident
from hermes_actors.core.state import DrainInProgress, Process, ReplyTo
from hermes_actors.operations.requests import read
from hermes_actors.operations.results import Phase, Then
from hermes_actors.wire import messages as wire
from hermes_actors.wire.records import CutTurn
from hermes_actors.wire.refusals import RefusalCode

SLOTS = 3
DRAIN_S = 10.0
END_S = DRAIN_S + SEAL_ANSWER_S + STOP_S + EXIT_WAIT_S + 0.001  # from a signal to the end, even if nobody answers
slots = st.integers(0, SLOTS - 1)


@dataclass
class Host:
    """A worker process that keeps its side: what it says comes later, in order."""

    process: Process
    configured: bool = False
    owns: bool = False
    draining: int = 0  # the number of the drain
    order: wire.Drain | None = None  # the last, since the last DrainOver
    sealed: frozenset[CutTurn] | None = None
    running: set[CutTurn] = field(default_factory=set)
    says: deque[Event] = field(default_factory=deque)

    def drained(self) -> None:
        if self.draining and not self.running:
            slot, generation = self.process
            self.says.append(Said(process=Process(slot, generation), message=wire.NoTurnRuns(number=self.draining)))

    def seal(self, request: int) -> None:
        self.sealed = frozenset(self.running)
        slot, generation = self.process
        self.says.append(
            Said(
                process=Process(slot, generation),
                message=wire.Sealed(request=request, cut=list(self.sealed), busy=[], stateless=0),
            )
        )


class Draining(RuleBasedStateMachine):
    """Workers that may be slow or die at any moment, and a supervisor that sees only events."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(SLOTS, max_restarts=50, heartbeat_s=1e6, drain_s=DRAIN_S)
        self.starting: dict[int, Process] = {}
        self.hosts: dict[int, Host] = {}  # by slot
        self.recorded: set[CutTurn] = set()
        self.succeeded: set[CutTurn] = set()
        self.turns = 0
        self.waiting: set[int] = set()  # requests without a reply
        self.requests = 0
        self.was_full = False  # the disk, at some time
        self.desk.prepares = False
        self.preparing: int | None = None  # the next life
        self.is_ready = False  # the next life

    @property
    def drain(self) -> DrainInProgress:
        assert self.desk.state.drain is not None
        return self.desk.state.drain

    # -- what the supervisor does ------------------------------------------------------------------------------------
    def tell(self, event: Event) -> None:
        self.perform(self.desk.tell(event))

    def perform(self, effects: tuple[fx.Effect, ...]) -> None:
        for effect in effects:
            match effect:
                case fx.Spawn(process=process):
                    assert process.slot not in self.hosts
                    self.starting[process.slot] = process
                case fx.Send(to=to, message=message):
                    assert to
                    for process in to:
                        self.hear(self.host(process), message)
                case fx.WriteIncident(incident=Incident(what="cut", key=key, turn_id=turn_id)):
                    cut = CutTurn(key, turn_id or "")
                    assert cut not in self.succeeded, "it came to its end before"
                    self.recorded.add(cut)
                case fx.PrepareRestart():
                    assert self.preparing is None, "one at a time"
                    assert not self.is_ready
                    self.preparing = effect.number
                case fx.DropNextLife():
                    self.preparing, self.is_ready = None, False
                case fx.Reply():
                    self.waiting.remove(effect.reply_to.request)
                case fx.EndProcess():
                    assert self.desk.records.present.stop_began_at is not None or self.was_full
                    assert self.is_ready == effect.restart
                case _:
                    pass

    def host(self, process: Process) -> Host:
        host = self.hosts[process.slot]
        assert host.process == process
        return host

    def live(self) -> list[Host]:
        """The processes that are not about to be killed."""
        return [host for host in self.hosts.values() if host.process in self.desk.state.live]

    def table(self, host: Host) -> None:
        assert host.configured
        if not host.owns and self.desk.state.phase in (Phase.DRAINING, Phase.HELD):
            assert host.draining, "it would begin what waits"
        host.owns = True
        host.drained()

    def hear(self, host: Host, message: wire.ToWorker) -> None:
        match message:
            case wire.Configure():
                host.configured = True
            case wire.Assign():
                self.table(host)
            case wire.StopWorker():
                self.stopped(host)
            case wire.Drain():
                assert message != host.order, "again only what is new"
                assert host.draining in (0, message.number)
                host.order = message
                host.draining = message.number
                host.drained()
            case wire.DrainOver():
                host.draining, host.order, host.sealed = 0, None, None
            case wire.Seal():
                assert host.draining
                host.seal(message.request)
            case wire.Cut():
                assert host.sealed is not None
                assert host.sealed <= self.recorded, "what is cut is on disk by then"
                assert host.running == host.sealed, "and nothing else, and nothing is forgotten"
                host.running.clear()

    def stopped(self, host: Host) -> None:
        if not self.desk.full:
            assert not host.running, "its turns are over by then"
        assert not host.running or host.running == (host.sealed or set()), "what is not marked stays on disk as running"
        assert self.desk.state.phase in (Phase.STOPPING, Phase.STOPPED)

    # -- what happens ------------------------------------------------------------------------------------------------
    @initialize(ready=st.sampled_from([True, True, True, False]))
    def start(self, ready: bool) -> None:
        self.tell(Started())
        for slot in range(SLOTS):
            self.a_process_comes_up(slot)
        if ready:
            self.all_are_heard()

    @rule(slot=slots)
    def a_process_comes_up(self, slot: int) -> None:
        if slot in self.starting:
            process = self.starting.pop(slot)
            self.hosts[slot] = Host(process)
            self.tell(WorkerSpawned(process=Process(slot, process.generation), pid=100 + slot))
            self.hosts[slot].says.append(Said(process=Process(slot, process.generation), message=wire.Ready()))

    @rule(slot=slots, jitter=st.floats(0, 1, exclude_max=True))
    def a_worker_dies(self, slot: int, jitter: float) -> None:
        if slot in self.hosts:
            _, generation = self.hosts.pop(slot).process
            self.tell(WorkerExited(process=Process(slot, generation), exitcode=-9, jitter=jitter))

    @rule(slot=slots)
    def a_worker_is_heard(self, slot: int) -> None:
        if slot in self.hosts and self.hosts[slot].says:
            self.tell(self.hosts[slot].says.popleft())

    @rule()
    def all_are_heard(self) -> None:
        for slot in range(SLOTS):
            while slot in self.hosts and self.hosts[slot].says:
                self.a_worker_is_heard(slot)

    @rule()
    def turns_begin(self) -> None:
        for host in self.hosts.values():
            if host.owns and not host.draining:
                self.turns += 1
                host.running.add(CutTurn(f"k{self.turns}", f"turn_{self.turns}"))

    @rule(slot=slots)
    def a_turn_ends(self, slot: int) -> None:
        host = self.hosts.get(slot)
        if host is not None and host.running and host.sealed is None:
            self.succeeded.add(host.running.pop())
            host.drained()

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.perform(self.desk.wait(seconds))

    # -- who wants what ----------------------------------------------------------------------------------------------
    def ask(self, operation: str, **arguments: object) -> None:
        self.requests += 1
        self.waiting.add(self.requests)
        self.tell(OperatorAsked(reply_to=ReplyTo(1, self.requests), operation=read(operation, arguments)))

    @rule(full=st.sampled_from([False, False, True]))
    def the_disk_fills_or_gets_room(self, full: bool) -> None:
        self.desk.disk(full=full)
        self.was_full |= full

    @rule(then=st.sampled_from(["hold"] * 6 + ["restart", "stop"]), timeout=st.sampled_from([None, 0, 5]))
    def a_drain_is_asked(self, then: str, timeout: float | None) -> None:
        self.ask("drain", then=then, timeout=timeout)

    @rule()
    def it_is_cancelled(self) -> None:
        self.ask("drain.cancel")

    @rule(often=st.integers(0, 9))
    def a_signal_comes(self, often: int) -> None:
        if often == 0:  # rarely, or no run gets far
            self.tell(StopAsked(now=False, by="SIGTERM"))

    @precondition(lambda self: self.hosts)
    @rule(often=st.integers(0, 9), key=st.sampled_from(["k", "l"]))
    def a_message_asks(self, often: int, key: str) -> None:
        if often == 0:
            slot, generation = next(iter(self.hosts.values())).process
            self.tell(Said(process=Process(slot, generation), message=wire.RestartWanted(key=key)))

    @precondition(lambda self: self.preparing is not None)
    @rule(fine=st.booleans())
    def the_next_life_was_tried(self, fine: bool) -> None:
        number, self.preparing, self.is_ready = self.preparing or 0, None, fine
        if fine:
            self.tell(RestartPrepared(number=number))
        else:
            self.tell(RestartRefused(number=number, error=RefusalCode.CANNOT_RESTART, why="bugs"))

    @rule(ago=st.integers(1, 3))
    def a_dropped_preparation_is_heard_late(self, ago: int) -> None:
        self.tell(RestartPrepared(number=self.desk.state.preparations - ago))

    # -- what always holds -------------------------------------------------------------------------------------------
    @invariant()
    def who_lives_during_a_drain_knows_of_it(self) -> None:
        if self.desk.state.phase in (Phase.DRAINING, Phase.HELD):
            assert all(host.draining == self.drain.number for host in self.live())

    @invariant()
    def nobody_is_told_too_late_when_it_ends_and_for_whom_nobody_waits(self) -> None:
        if self.desk.state.phase is Phase.DRAINING and self.drain.seal is None:
            reason = "restart_timeout" if self.drain.then is Then.RESTART else "shutdown_timeout"
            known = (reason, self.desk.state.wall(self.drain.deadline), self.drain.asker)
            for host in self.live():
                assert host.order is not None
                assert (host.order.reason, host.order.deadline, host.order.asker) == known

    @invariant()
    def a_restart_drains_only_when_the_next_life_is_ready(self) -> None:
        drain = self.desk.state.drain
        assert self.is_ready == (drain is not None and drain.then is Then.RESTART)
        preparation = self.desk.state.preparation
        assert self.preparing == (preparation and preparation.number)

    @invariant()
    def nothing_runs_while_it_is_held(self) -> None:
        if self.desk.state.phase is Phase.HELD:
            assert not any(host.running for host in self.live())

    @invariant()
    def serving_workers_may_begin_turns(self) -> None:
        if self.desk.state.phase is Phase.SERVING:
            assert not any(host.draining or host.sealed is not None for host in self.live())

    @invariant()
    def nobody_waits_when_nothing_is_on_its_way(self) -> None:
        if self.preparing is None and self.desk.state.phase in (Phase.SERVING, Phase.HELD, Phase.STOPPED):
            assert not self.waiting

    def teardown(self) -> None:
        """It ends, even when no worker says another word."""
        self.tell(StopAsked(now=False, by="SIGTERM"))
        self.perform(self.desk.wait(END_S))
        assert self.desk.state.phase is Phase.STOPPED
        assert len(of(fx.EndProcess, self.desk.log)) == 1
        assert not self.waiting


TestDraining = Draining.TestCase
TestDraining.settings = settings(stateful_step_count=40)
