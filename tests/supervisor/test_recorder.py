"""Decisions on a real registry and ledger: what they write and answer, also while the disk is full."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fakes.core_desk import messages
from fakes.marking import add
from fakes.operations import made

from hermes_actors.core import effects as fx
from hermes_actors.core.events import Event, OperatorAsked, Said, SessionsFound, WorkerExited
from hermes_actors.core.state import Limits, Owner, Process, ReplyTo, Slot, State
from hermes_actors.home import Home
from hermes_actors.operations.plain import to_plain
from hermes_actors.operations.requests import BeginDrain, ShowStatus, SuspendSession
from hermes_actors.operations.results import Phase, ProcessFacts, Then, WorkerState
from hermes_actors.records import ledger_file
from hermes_actors.records.database import RegistryFailed
from hermes_actors.records.registry import Registry
from hermes_actors.records.registry_file import BUSY_TIMEOUT_S
from hermes_actors.supervisor.actor import Outgoing, Supervisor
from hermes_actors.supervisor.recorder import Recorder, open_ledger
from hermes_actors.supervisor.waiting_room import waits_for_disk
from hermes_actors.wire import messages as wire
from hermes_actors.wire.records import CutTurn, Load

SHARDS = 8
SHARD = 3  # of every session here, as the worker says
KNOWN = "api:a:known"
NEW = "api:a:" + "n" * 5000  # so long that each new session needs a page of its own
WORKER = Process(0, 1)
LIST = Said(process=WORKER, message=wire.ListSessions(request=9, principal="a", after=None, limit=10))


class Desk:
    """A supervisor that decides here and now, on a disk that can be full; one worker serves."""

    def __init__(self, root: Path) -> None:
        home = Home(root)
        home.make()
        self.path = home.registry
        self.registry = Registry.open(home, shards=SHARDS, usual_shards=SHARDS, durability="process")
        self.registry.history.begin_life("boot", 1.0)
        add(self.registry, KNOWN, "a", SHARD, 1.0)
        self.registry.commit()
        self.file = open_ledger(home.ledger)
        self.recorder = Recorder(self.registry, self.file, made(ProcessFacts, {}), lambda: 3)
        limits = Limits(heartbeat_s=5.0, max_restarts=3, restart_window_s=60.0, drain_timeout_s=60.0, stuck_threshold=3)
        worker = Slot(slot=0, state=WorkerState.READY, generation=1, pid=1, ready_at=0.0)
        state = State(
            boot="boot", limits=limits, workers=(worker,), owners=(Owner(0, 1),) * SHARDS, phase=Phase.SERVING
        )
        self.effects: list[fx.Outward] = []
        self.failures: list[BaseException] = []
        self.actor = Supervisor(state, self.recorder, self.deliver, self.failures.append)

    def deliver(self, effects: Any, _tick_at: float | None) -> None:
        self.effects = [caused.effect for caused in effects if isinstance(caused, Outgoing)]

    def tell(self, *events: Event) -> list[fx.Outward]:
        self.effects = []
        self.actor.on_receive(events)
        assert not self.failures
        return self.effects

    @property
    def state(self) -> State:
        return self.actor._state

    def full(self, full: bool) -> None:
        database = self.registry._database._connection
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages if full else 1_000_000}")

    @property
    def patience_ms(self) -> int:
        (value,) = self.registry._database._connection.execute("PRAGMA busy_timeout").fetchone()
        return int(value)

    def status(self) -> dict[str, Any]:
        (reply,) = self.tell(OperatorAsked(reply_to=ReplyTo(1, 1), operation=ShowStatus()))
        assert isinstance(reply, fx.Reply)
        plain: dict[str, Any] = to_plain(reply.result)
        return plain

    def marks(self) -> str:
        entry = self.registry.session(KNOWN)
        assert entry is not None
        return entry.marks.standing.value


def activate(key: str) -> Said:
    message = wire.Activate(request=7, key=key, principal="a", shard=SHARD, fence=1, create=True)
    return Said(process=WORKER, message=message)


def recovered(*turns: CutTurn) -> Said:
    message = wire.Recovered(request=8, shard=SHARD, fence=1, cut=list(turns), queued=[])
    return Said(process=WORKER, message=message)


def suspend(desk: Desk) -> SessionsFound:
    entry = desk.registry.session(KNOWN)
    assert entry is not None
    return SessionsFound(reply_to=ReplyTo(1, 2), operation=SuspendSession(session=KNOWN), found=(entry,))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.file.close()
    made.registry.close()


def test_an_event_sees_what_the_events_before_it_wrote_in_the_same_batch(desk: Desk) -> None:
    first, second = messages(wire.Activated, desk.tell(activate(NEW), activate(NEW)))

    assert first == second
    entry = desk.registry.session(NEW)
    assert entry is not None
    assert entry.session_id == first.session_id


def test_what_is_answered_is_on_disk(desk: Desk) -> None:
    desk.tell(recovered(CutTurn(KNOWN, "turn_1")))

    with closing(sqlite3.connect(desk.path)) as other:
        assert other.execute("SELECT mark FROM sessions WHERE key = ?", (KNOWN,)).fetchone() == ("resume_pending",)
    assert ledger_file.read(desk.file.path).count(KNOWN) == 1


def test_a_disk_that_became_read_only_is_one_that_cannot_be_written_now(desk: Desk) -> None:
    desk.registry._database._connection.execute("PRAGMA query_only = ON")
    (refused,) = messages(wire.Refused, desk.tell(activate(NEW)))
    desk.registry._database._connection.execute("PRAGMA query_only = OFF")

    assert refused.code == "store_failed"
    assert messages(wire.Activated, desk.tell(activate(NEW)))


def test_while_the_disk_is_full_what_would_write_is_refused_and_the_rest_is_answered(desk: Desk) -> None:
    desk.full(True)

    effects = desk.tell(activate(KNOWN), activate(NEW))

    assert [type(effect.message) for effect in effects if isinstance(effect, fx.Send)] == [wire.Activated, wire.Refused]
    (refused,) = messages(wire.Refused, effects)
    assert (refused.code, refused.request) == ("store_failed", 7)
    assert desk.registry.session(NEW) is None
    assert "full" in desk.status()["registry"]["fault"]


def test_a_worker_is_heard_although_its_sessions_activity_cannot_be_noted(desk: Desk) -> None:
    desk.full(True)
    beat = wire.Heartbeat(load=Load(running=5), active={KNOWN: 9.0}, reached={})

    desk.tell(activate(NEW), Said(process=WORKER, message=beat))

    assert desk.state.workers[0].load.running == 5


def test_an_operator_whose_change_could_not_be_written_is_told_so(desk: Desk) -> None:
    change = suspend(desk)
    desk.full(True)

    effects = desk.tell(change, activate(NEW))

    (reply,) = [effect for effect in effects if isinstance(effect, fx.Reply)]
    assert reply.error == "store_failed"
    assert not messages(wire.Query, effects), "its worker keeps the session"
    assert desk.marks() == "clear"


def test_a_worker_evicts_a_session_only_once_the_change_is_recorded(desk: Desk) -> None:
    assert messages(wire.Query, desk.tell(suspend(desk)))
    assert desk.marks() == "suspended"


def test_while_the_disk_cannot_be_read_requests_are_refused_and_the_supervisor_goes_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR

    def broken(*_: object) -> None:
        raise RegistryFailed(error)

    with monkeypatch.context() as disk:
        for name in ("session", "page", "standing"):
            disk.setattr(desk.registry, name, broken)
        (refused,) = messages(wire.Refused, desk.tell(activate(KNOWN)))
        (unlisted,) = messages(wire.Refused, desk.tell(LIST))
        (status,) = desk.tell(OperatorAsked(reply_to=ReplyTo(1, 1), operation=ShowStatus()))

    assert (refused.code, unlisted.code) == ("store_failed", "store_failed")
    assert isinstance(status, fx.Reply)
    assert status.error == "store_failed"
    assert messages(wire.Activated, desk.tell(activate(KNOWN)))


def test_damage_is_no_lack_of_space(desk: Desk) -> None:
    desk.registry._database._connection.execute("DROP TABLE history")
    desk.registry.commit()

    with pytest.raises(RegistryFailed, match="no such table") as raised:
        desk.actor.on_receive((suspend(desk),))
    assert not waits_for_disk(raised.value), "the process ends, and the next start replaces the registry"


def test_the_fault_is_over_when_the_disk_has_room_again(desk: Desk) -> None:
    desk.full(True)
    desk.tell(activate(NEW))
    desk.full(False)

    assert messages(wire.Activated, desk.tell(activate(NEW)))
    assert desk.status()["registry"]["fault"] is None


def test_strikes_of_what_could_not_be_recorded_are_forgotten_with_the_marks(desk: Desk) -> None:
    desk.full(True)

    (refused,) = messages(wire.Refused, desk.tell(recovered(CutTurn(KNOWN, "turn_" + "1" * 5000))))

    assert refused.code == "store_failed"
    assert desk.state.ledger.count(KNOWN) == 0


def test_a_worker_whose_ownership_cannot_be_recorded_is_not_started(desk: Desk) -> None:
    desk.full(True)
    owners = desk.registry.owners()

    effects = desk.tell(activate(NEW), WorkerExited(process=WORKER, exitcode=-9, jitter=0.0))

    assert not [effect for effect in effects if isinstance(effect, fx.Spawn)] or desk.registry.owners() != owners
    assert desk.registry.session(NEW) is None


def test_that_marks_could_be_written_is_known_by_writing(desk: Desk) -> None:
    with desk.recorder.batch():
        list(desk.recorder.perform([fx.ProveWritable()]))
        desk.recorder.commit(desk.state.ledger)

    with closing(sqlite3.connect(desk.path)) as other:
        before = other.execute("SELECT value FROM meta WHERE name = 'proved_at'").fetchone()
        list(desk.recorder.perform([fx.ProveWritable()]))
        desk.recorder.commit(desk.state.ledger)
        assert other.execute("SELECT value FROM meta WHERE name = 'proved_at'").fetchone() > before


def test_neither_could_strikes_where_the_ledger_cannot_be_written(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise ledger_file.LedgerNotWritten("no space left")

    drain = OperatorAsked(reply_to=ReplyTo(1, 3), operation=BeginDrain(then=Then.HOLD, timeout=None, asker=None))
    with monkeypatch.context() as disk:
        disk.setattr(
            ledger_file.atomic if hasattr(ledger_file, "atomic") else ledger_file, "_replace", full, raising=False
        )
        disk.setattr(ledger_file.LedgerFile, "rewrite", full)
        (reply,) = [effect for effect in desk.tell(drain) if isinstance(effect, fx.Reply)]

    assert reply.error == "store_failed"
    assert "no space left" in reply.why
    assert desk.state.drain is None


def test_while_another_process_has_the_registry_for_long_only_the_first_write_waits_for_it(desk: Desk) -> None:
    desk.registry.wait_for_lock(0.01)
    with closing(sqlite3.connect(desk.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert messages(wire.Refused, desk.tell(activate(NEW)))
        assert desk.patience_ms == 0
        other.execute("ROLLBACK")

    desk.tell(activate(NEW))

    assert desk.patience_ms == 1000 * BUSY_TIMEOUT_S
