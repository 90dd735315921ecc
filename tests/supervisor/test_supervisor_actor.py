"""The actor between the loop and the registry: batches, order, and what happens when it fails."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pykka
import pytest
from fakes.core_desk import SHARDS, Desk, serving
from fakes.gateway_process import BOUND_S
from fakes.records import FakeRecords

from hermes_actors.core import effects as core
from hermes_actors.core.events import Event, Said, Started, StopAsked, WorkerExited
from hermes_actors.core.sessions.ledger import Ledger
from hermes_actors.core.state import Process
from hermes_actors.supervisor.actor import Intake, Outgoing, Supervisor
from hermes_actors.supervisor.recorder import NotWritable
from hermes_actors.wire import messages as wire


class Disk(FakeRecords):
    """Records that fail when told to."""

    def __init__(self) -> None:
        super().__init__(SHARDS)
        self.done: list[str] = []
        self.effects: list[core.Write] = []
        self.full = False
        self.unwritable = False

    def be_patient(self) -> None:
        pass

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        yield

    def perform(self, effects: Sequence[core.Effect]) -> list[core.Effect]:
        if self.full:
            raise OSError("disk full")
        written = [effect for effect in effects if isinstance(effect, core.Write)]
        if self.unwritable and written:
            raise NotWritable("disk full")
        self.write(written)
        self.done += [type(effect).__name__ for effect in written]
        self.effects += written
        return [effect for effect in effects if not isinstance(effect, core.Write)]

    def commit(self, _ledger: Ledger) -> None:
        self.done.append("commit")


class Loop:
    """Where the actor delivers to."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.delivered: queue.Queue[list[str]] = queue.Queue()
        self.failures: queue.Queue[BaseException] = queue.Queue()

    def deliver(self, effects: Sequence[Outgoing], _tick_at: float | None) -> None:
        self.disk.done.append("deliver")
        self.causes = [caused.cause for caused in effects]
        self.delivered.put([type(caused.effect).__name__ for caused in effects])


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def loop(disk: Disk) -> Loop:
    return Loop(disk)


@pytest.fixture
def actor(disk: Disk, loop: Loop) -> Any:
    recorder: Any = disk
    ref = Supervisor.start(Desk().state, recorder, loop.deliver, loop.failures.put)
    yield ref
    ref.stop(timeout=BOUND_S)


def test_nothing_leaves_before_the_whole_batch_is_committed(actor: Any, disk: Disk, loop: Loop) -> None:
    actor.tell((Started(), StopAsked(now=False, by="SIGTERM")))

    effects = loop.delivered.get(timeout=BOUND_S)
    assert effects[:3] == ["Spawn", "Spawn", "Log"]
    assert disk.done == ["WriteOwners", "WriteOwners", "NoteLife", "NoteLife", "commit", "deliver"]


def test_each_effect_names_the_event_that_led_to_it(actor: Any, loop: Loop) -> None:
    actor.tell((Started(), StopAsked(now=False, by="SIGTERM")))

    names = loop.delivered.get(timeout=BOUND_S)

    assert {name for name, cause in zip(names, loop.causes, strict=True) if cause == 1} == {"Spawn"}
    assert set(loop.causes) == {1, 2}


def test_what_is_recorded_of_a_drain_has_the_time_of_the_wall_clock(actor: Any, disk: Disk, loop: Loop) -> None:
    before = time.time()
    actor.tell((Started(), StopAsked(now=False, by="SIGTERM")))
    loop.delivered.get(timeout=BOUND_S)

    (began,) = [effect for effect in disk.effects if isinstance(effect, core.NoteLife)][:1]
    assert began.at is not None
    assert before - 1 < began.at < time.time() + 1  # the two clocks are not read at the same moment


def test_a_write_that_fails_ends_the_actor_loudly_and_nothing_leaves(actor: Any, disk: Disk, loop: Loop) -> None:
    disk.full = True

    actor.tell((Started(),))

    assert str(loop.failures.get(timeout=BOUND_S)) == "disk full"
    assert loop.delivered.empty()
    with pytest.raises(pykka.ActorDeadError):
        actor.ask((), timeout=BOUND_S)


def test_a_batch_that_cannot_be_recorded_is_decided_anew_without_what_needs_it(disk: Disk, loop: Loop) -> None:
    recorder: Any = disk
    actor = Supervisor.start(serving().state, recorder, loop.deliver, loop.failures.put)
    first, second = (WorkerExited(process=Process(slot, 1), exitcode=-9, jitter=0.0) for slot in (0, 1))
    disk.unwritable = True
    actor.tell((first,))
    assert loop.delivered.get(timeout=BOUND_S) == ["Sweep", "Log", "Log", "Send", "Send"]

    disk.unwritable = False
    actor.tell((second,))

    assert "Spawn" in loop.delivered.get(timeout=BOUND_S)
    actor.stop(timeout=BOUND_S)
    assert disk.done[-3:] == ["WriteOwners", "commit", "deliver"]


def test_a_gateway_that_cannot_record_its_start_does_not_start(actor: Any, disk: Disk, loop: Loop) -> None:
    disk.unwritable = True

    actor.tell((Started(),))

    assert isinstance(loop.failures.get(timeout=BOUND_S), NotWritable)
    assert loop.delivered.empty()


def test_a_decision_that_fails_ends_the_actor_loudly(actor: Any, loop: Loop) -> None:
    actor.tell(("no event",))

    assert isinstance(loop.failures.get(timeout=BOUND_S), AssertionError)


class Mailbox:
    """An actor that only remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[tuple[Event, ...]] = []

    def tell(self, batch: tuple[Event, ...]) -> None:
        self.batches.append(batch)


def stops(*names: str) -> list[StopAsked]:
    return [StopAsked(now=False, by=name) for name in names]


def test_what_comes_while_the_actor_is_busy_becomes_one_batch() -> None:
    intake, mailbox = Intake(), Mailbox()
    events = stops("a", "b", "c", "d")
    intake.put(events[0])
    intake.open(mailbox)  # type: ignore[arg-type]  # a fake
    for event in events[1:3]:
        intake.put(event)
    assert mailbox.batches == [(events[0],)]

    intake.done()
    assert mailbox.batches[1:] == [(events[1], events[2])]
    intake.done()
    intake.put(events[3])
    assert mailbox.batches[2:] == [(events[3],)]


def test_a_worker_s_answer_carries_on_the_cause_of_the_question(disk: Disk, loop: Loop) -> None:
    recorder: Any = disk
    actor = Supervisor.start(serving().state, recorder, loop.deliver, loop.failures.put)
    broken = wire.ShardBroken(shard=0, why="it is cut", set_aside=None, serving=True)

    actor.tell((Said(process=Process(0, 1), message=broken, cause=17), Said(process=Process(0, 1), message=broken)))

    assert loop.delivered.get(timeout=BOUND_S) == ["Log", "Log"]
    assert loop.causes == [17, 2]
    actor.stop(timeout=BOUND_S)
