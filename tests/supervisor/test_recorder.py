"""Effects on a real registry: what they answer, and what becomes of them while the disk is full."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.operations import made

from hermes_actors.core import effects as fx
from hermes_actors.core.state import Limits, Owner, Process, SessionEntry, State
from hermes_actors.home import Home
from hermes_actors.operations.plain import to_plain
from hermes_actors.operations.requests import SuspendSession
from hermes_actors.operations.results import Drained, ProcessFacts
from hermes_actors.operations.workers import EvictSession
from hermes_actors.records import ledger_file
from hermes_actors.records.database import RegistryFailed
from hermes_actors.records.registry import Registry
from hermes_actors.records.registry_file import BUSY_TIMEOUT_S
from hermes_actors.supervisor.marking import Marking, open_ledger
from hermes_actors.supervisor.recorder import NotWritable, Recorder, Tell
from hermes_actors.wire import messages as wire
from hermes_actors.wire.records import CutTurn

SHARDS = 8
KNOWN = "api:a:known"


STATE = State(
    limits=Limits(heartbeat_s=5.0, max_restarts=3, restart_window_s=60.0, drain_timeout_s=60.0), workers=(), owners=()
)


class Desk:
    """A recorder, whose disk can be full."""

    def __init__(self, root: Path) -> None:
        home = Home(root)
        home.make()
        self.path = home.registry
        self.registry = Registry.open(home, shards=SHARDS, usual_shards=SHARDS, durability="process")
        self.marking = Marking(self.registry, open_ledger(home.ledger), lambda: 3)
        self.recorder = Recorder(self.registry, self.marking, made(ProcessFacts, {"version": "1"}))
        self.registry.chronicle.begin_life("boot", 1.0)
        self.registry.add(KNOWN, "a", 3, 1.0)
        self.marking.commit()

    def full(self, full: bool) -> None:
        database = self.registry._database._connection
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages if full else 1_000_000}")

    @property
    def patience_ms(self) -> int:
        (value,) = self.registry._database._connection.execute("PRAGMA busy_timeout").fetchone()
        return int(value)

    def activate(self, key: str) -> fx.ActivateSession:
        """Keys so long that each new session needs a page of its own."""
        return fx.ActivateSession(slot=0, generation=1, request=7, key=key, principal="a", shard=3, create=True)

    def status(self) -> dict[str, Any]:
        (reply,) = self.recorder.record([fx.ReplyStatus(client=1, request=1, state=STATE, now=0.0)])
        assert isinstance(reply, fx.Reply)
        plain: dict[str, Any] = to_plain(reply.result)
        return plain


def shown(entry: SessionEntry) -> fx.ReplySession:
    """What an operator hears after a change."""
    return fx.ReplySession(
        client=1, request=1, entry=entry, changed=True, known=None, owners=(Owner(0, 1),) * SHARDS, up=()
    )


NEW = "api:a:" + "n" * 5000


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.marking.close()
    made.registry.close()


def test_answers_stand_where_their_effects_stood(desk: Desk) -> None:
    log = fx.Log(level="info", text="hello")

    first, middle, last = desk.recorder.record([desk.activate(KNOWN), log, desk.activate(NEW)])

    assert isinstance(first, Tell)
    assert isinstance(first.message, wire.Activated)
    assert middle is log
    assert isinstance(last, Tell)
    assert desk.registry.session(NEW) is not None


def test_a_disk_that_became_read_only_is_one_that_cannot_be_written_now(desk: Desk) -> None:
    desk.registry._database._connection.execute("PRAGMA query_only = ON")
    (refused,) = desk.recorder.record([desk.activate(NEW)])
    desk.registry._database._connection.execute("PRAGMA query_only = OFF")
    (known,) = desk.recorder.record([desk.activate(NEW)])

    assert isinstance(refused, fx.SendRefused)
    assert refused.code == "store_failed"
    assert isinstance(known, Tell)


def test_while_the_disk_is_full_what_would_write_is_refused_and_the_rest_is_answered(desk: Desk) -> None:
    desk.full(True)

    known, refused = desk.recorder.record([desk.activate(KNOWN), desk.activate(NEW)])

    assert isinstance(known, Tell)
    assert isinstance(known.message, wire.Activated)
    assert isinstance(refused, fx.SendRefused)
    assert (refused.code, refused.request) == ("store_failed", 7)
    assert desk.registry.session(NEW) is None
    assert "full" in desk.status()["registry"]["fault"]


def test_what_nobody_waits_for_is_left_out_while_the_disk_is_full(desk: Desk) -> None:
    desk.full(True)

    assert desk.recorder.record([desk.activate(NEW), fx.TouchSessions(active={KNOWN: 9.0})])[1:] == []


def test_an_operator_whose_change_could_not_be_written_is_told_so(desk: Desk) -> None:
    entry = desk.registry.session(KNOWN)
    assert entry is not None
    desk.full(True)
    desk.recorder.record(
        [fx.ChangeSession(key=KNOWN, change=SuspendSession(session=KNOWN), then=None), desk.activate(NEW)]
    )

    (reply,) = desk.recorder.record([shown(entry)])

    assert isinstance(reply, fx.Reply)
    assert reply.error == "store_failed"


def test_what_is_shown_of_a_session_is_answered_on_a_full_disk(desk: Desk) -> None:
    entry = desk.registry.session(KNOWN)
    assert entry is not None
    desk.full(True)
    desk.recorder.record([desk.activate(NEW)])

    (reply,) = desk.recorder.record([replace(shown(entry), changed=False)])

    assert isinstance(reply, fx.Reply)
    assert reply.error is None


def test_a_worker_lets_go_of_a_session_only_once_the_change_is_recorded(desk: Desk) -> None:
    evict = fx.SendQuery(to=(Process(0, 1),), request=1, operation=EvictSession(key=KNOWN))
    change = fx.ChangeSession(key=KNOWN, change=SuspendSession(session=KNOWN), then=evict)
    desk.full(True)

    assert desk.recorder.record([change, desk.activate(NEW)])[:-1] == []

    desk.full(False)
    assert desk.recorder.record([change]) == [evict]


def test_damage_is_no_lack_of_space(desk: Desk) -> None:
    desk.registry._database._connection.execute("DROP TABLE history")
    desk.registry.commit()
    desk.full(True)

    with pytest.raises(RegistryFailed, match="no such table"):
        desk.recorder.record(
            [desk.activate(NEW), fx.ChangeSession(key=KNOWN, change=SuspendSession(session=KNOWN), then=None)]
        )


def test_the_fault_is_over_when_the_disk_has_room_again(desk: Desk) -> None:
    desk.full(True)
    desk.recorder.record([desk.activate(NEW)])
    desk.full(False)

    (told,) = desk.recorder.record([desk.activate(NEW)])

    assert isinstance(told, Tell)
    assert isinstance(told.message, wire.Activated)
    assert desk.status()["registry"]["fault"] is None


def test_strikes_of_what_could_not_be_recorded_are_forgotten_with_the_marks(desk: Desk) -> None:
    desk.full(True)
    cut = fx.RecordRecovered(
        slot=0, generation=1, request=7, shard=3, shards=SHARDS, cuts=(CutTurn(KNOWN, "turn_" + "1" * 5000),)
    )

    (refused,) = desk.recorder.record([cut])

    assert isinstance(refused, fx.SendRefused)
    assert desk.marking.strikes(KNOWN) == 0


@pytest.mark.parametrize(
    "effect",
    [
        fx.CommitTable(owners={0: Owner(0, 2_000_000_000)}),
        fx.RecordCuts(
            cuts=(), reason="crash", drop_idle=False, busy=frozenset(), unknown=frozenset(), shards=SHARDS, since=0.0
        ),
    ],
)
def test_what_others_rely_on_is_never_left_out_but_to_be_decided_anew(desk: Desk, effect: fx.Effect) -> None:
    desk.full(True)

    with pytest.raises(NotWritable, match="full"):
        desk.recorder.record([effect, desk.activate(NEW)])

    assert desk.registry.session(NEW) is None
    assert desk.registry.owners()[0].fence < 2_000_000_000
    assert "full" in desk.status()["registry"]["fault"]


def test_that_marks_could_be_written_is_known_by_writing(desk: Desk) -> None:
    assert desk.recorder.record([fx.ProveWritable()]) == []

    with closing(sqlite3.connect(desk.path)) as other:
        before = other.execute("SELECT value FROM meta WHERE name = 'proved_at'").fetchone()
        desk.recorder.record([fx.ProveWritable()])
        assert other.execute("SELECT value FROM meta WHERE name = 'proved_at'").fetchone() > before


def test_neither_could_strikes_where_the_ledger_cannot_be_written(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise ledger_file.LedgerNotWritten("no space left")

    with monkeypatch.context() as disk:
        disk.setattr(ledger_file, "_replace", full)
        with pytest.raises(NotWritable, match="no space left"):
            desk.recorder.record([fx.ProveWritable(), desk.activate(NEW)])

    assert desk.registry.session(NEW) is None, "the batch is decided anew"
    assert desk.recorder.record([fx.ProveWritable()]) == []


def test_while_another_process_has_the_registry_for_long_only_the_first_write_waits_for_it(desk: Desk) -> None:
    desk.registry.wait_for_lock(0.01)
    with closing(sqlite3.connect(desk.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        (refused,) = desk.recorder.record([desk.activate(NEW)])
        assert isinstance(refused, fx.SendRefused)
        assert desk.patience_ms == 0
        other.execute("ROLLBACK")

    desk.recorder.record([desk.activate(NEW)])

    assert desk.patience_ms == 1000 * BUSY_TIMEOUT_S


def cuts(since: float, *turns: CutTurn) -> fx.RecordCuts:
    """Of a drain that stops the gateway."""
    return fx.RecordCuts(
        cuts=turns,
        reason="shutdown_timeout",
        drop_idle=True,
        busy=frozenset(turn.key for turn in turns),
        unknown=frozenset(),
        shards=SHARDS,
        since=since,
    )


def test_a_stop_whose_beginning_could_not_be_written_is_known_with_its_cuts(desk: Desk) -> None:
    desk.full(True)
    desk.recorder.record([desk.activate(NEW), fx.RecordStopBegan(at=5.0)])
    desk.full(False)

    desk.recorder.record([cuts(5.0, CutTurn(KNOWN, "turn_1"))])

    assert desk.registry.chronicle.lives(1)[0].stop_began_at == 5.0


def test_who_of_the_cut_was_cut_too_often_is_told_with_the_end_of_a_drain(desk: Desk) -> None:
    for number in range(3):
        desk.marking.cut([CutTurn(KNOWN, f"turn_{number}")], "shutdown_timeout")

    (reply,) = desk.recorder.record(
        [fx.ReplyDrained(client=1, request=1, drained=made(Drained, {"marked": 1}), cut=(KNOWN, "b"))]
    )

    assert isinstance(reply, fx.Reply)
    assert (reply.result.marked, reply.result.suspended) == (1, (KNOWN,))
