"""Marks and strikes together, on a real registry and a real ledger file."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes.marking import Marking, add
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hermes_actors.core.sessions.ledger import Cause
from hermes_actors.core.sessions.marks import Standing
from hermes_actors.core.state import SessionEntry
from hermes_actors.home import Home
from hermes_actors.records import ledger_file, registry_file
from hermes_actors.records.database import RegistryDatabase
from hermes_actors.records.ledger_file import LedgerFile, LedgerUnreadable
from hermes_actors.records.registry import Registry
from hermes_actors.supervisor.recorder import open_ledger
from hermes_actors.wire.records import CutTurn
from hermes_actors.wire.sharding import shard_of

KEY = "api:a:x"
SHARDS = 8
LATER = float("inf")


class Clock:
    def __init__(self) -> None:
        self.at = 1_000_000.0

    def __call__(self) -> float:
        self.at += 1.0
        return self.at


class Book:
    """A home's marks and strikes, opened anew as often as a test likes."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.home.make()
        self.clock = Clock()
        self.open()
        add(self.registry, KEY, "a", 3, 1.0)
        self.marking.commit()

    def open(self) -> None:
        self.registry = Registry.open(self.home, shards=SHARDS, usual_shards=SHARDS, durability="process")
        self.registry.history.begin_life("boot", self.clock())
        self.marking = Marking(self.registry, open_ledger(self.home.ledger), lambda: 3, self.clock)

    def close(self) -> None:
        self.marking.close()
        self.registry.close()

    def killed(self) -> None:
        """The process dies: what was not committed is gone."""
        self.close()
        self.open()

    def cut(self, turn_id: str, cause: Cause = "crash", key: str = KEY) -> None:
        self.marking.cut([CutTurn(key, turn_id)], cause)

    def suspend_stuck(self) -> tuple[str, ...]:
        """Its shard is recovered."""
        return self.marking.suspend_stuck(shard_of(KEY, SHARDS))

    @property
    def entry(self) -> SessionEntry:
        entry = self.registry.session(KEY)
        assert entry is not None
        return entry

    @property
    def standing(self) -> tuple[str, str | None, int]:
        return self.entry.marks.standing.value, self.entry.marks.reason, self.marking.strikes(KEY)

    @property
    def told(self) -> list[tuple[str, str | None, int]]:
        return [(line.what, line.reason, line.strikes) for line in self.registry.history.of(KEY)]


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = Book(tmp_path)
    yield made
    made.close()


# -- cuts --------------------------------------------------------------------------------------------------------------


def test_a_cut_strikes_and_marks_its_session(book: Book) -> None:
    book.cut("turn_1", "restart_timeout")

    assert book.standing == ("resume_pending", "restart_timeout", 1)
    assert book.told == [("cut", "restart_timeout", 1)]


def test_a_cut_that_a_start_finds_again_strikes_once_and_keeps_its_reason(book: Book) -> None:
    book.cut("turn_1", "shutdown_timeout")
    book.marking.commit()
    book.killed()

    book.cut("turn_1", "crash")

    assert book.standing == ("resume_pending", "shutdown_timeout", 1)
    assert len(book.told) == 1


def test_a_kill_between_the_two_commits_loses_neither_mark_nor_strike(book: Book) -> None:
    book.cut("turn_1", "restart_timeout")
    book.registry.commit()
    book.killed()
    assert book.standing == ("resume_pending", "restart_timeout", 0)

    book.cut("turn_1", "crash")

    assert book.standing == ("resume_pending", "restart_timeout", 1)
    assert book.told == [("cut", "restart_timeout", 1)]


def test_a_second_cut_after_a_kill_between_the_two_commits_of_the_first_is_told_for_itself(book: Book) -> None:
    book.cut("turn_1")
    book.registry.commit()
    book.killed()
    book.cut("turn_1")
    book.marking.commit()
    book.killed()

    book.cut("turn_2")

    assert [what for what, _, _ in book.told] == ["cut", "cut"]
    assert book.standing == ("resume_pending", "crash", 2)


def test_a_kill_between_the_two_commits_of_a_suspension_tells_it_once(book: Book) -> None:
    for number in range(3):
        book.cut(f"turn_{number}")
    book.marking.commit()
    book.suspend_stuck()
    book.registry.commit()
    book.killed()

    book.suspend_stuck()

    assert [what for what, _, _ in book.told] == ["cut", "cut", "cut", "suspended"]
    assert book.standing == ("suspended", "crash", 0)


def test_a_kill_between_the_two_commits_tells_once_that_an_idle_session_lost_its_strikes(book: Book) -> None:
    book.cut("turn_1")
    book.marking.commit()
    book.marking.drop_idle(set(), set(), cut_since=LATER)
    book.registry.commit()
    book.killed()

    book.marking.drop_idle(set(), set(), cut_since=LATER)

    assert [what for what, _, _ in book.told] == ["cut", "idle"]
    assert book.marking.strikes(KEY) == 0


def test_a_kill_between_the_two_commits_of_a_success_leaves_no_strike(book: Book) -> None:
    book.cut("turn_1")
    book.marking.commit()
    book.marking.succeeded(KEY, "turn_2")
    book.registry.commit()

    book.killed()

    assert book.standing == ("clear", None, 0)


def test_a_session_that_was_reset_meanwhile_is_neither_struck_nor_marked_for_its_earlier_transcript(book: Book) -> None:
    cut = CutTurn(KEY, "turn_1", book.entry.session_id)
    book.marking.reset(KEY)

    book.marking.cut([cut], "crash")
    before = book.standing
    book.marking.cut([CutTurn(KEY, "turn_2", book.entry.session_id)], "crash")

    assert [before, book.standing] == [("clear", None, 0), ("resume_pending", "crash", 1)]


def test_a_session_that_was_deleted_meanwhile_gets_no_strike(book: Book) -> None:
    book.cut("turn_1", key="api:a:gone")

    assert book.marking.strikes("api:a:gone") == 0


# -- suspension --------------------------------------------------------------------------------------------------------


def stick(book: Book) -> None:
    for number in range(3):
        book.cut(f"turn_{number}")
    assert book.suspend_stuck() == (KEY,)


def test_three_cuts_in_a_row_suspend_and_remove_the_strikes(book: Book) -> None:
    stick(book)

    assert book.standing == ("suspended", "crash", 0)
    assert book.told[-1] == ("suspended", "crash", 3)


def test_a_session_of_another_shard_is_left_alone_it_may_be_about_to_succeed(book: Book) -> None:
    for number in range(3):
        book.cut(f"turn_{number}")

    assert book.marking.suspend_stuck((shard_of(KEY, SHARDS) + 1) % SHARDS) == ()
    assert book.standing == ("resume_pending", "crash", 3)


def test_a_success_in_a_session_that_an_operator_suspended_meanwhile_changes_nothing(book: Book) -> None:
    book.cut("turn_1")
    book.marking.suspend(KEY)
    told = book.told

    book.marking.succeeded(KEY, "turn_2")

    assert (book.standing[0], book.told) == ("suspended", told)


def test_two_do_not(book: Book) -> None:
    book.cut("turn_1")
    book.cut("turn_2")

    assert book.suspend_stuck() == ()
    assert book.standing == ("resume_pending", "crash", 2)


def test_a_success_between_them_begins_the_count_anew(book: Book) -> None:
    book.cut("turn_1")
    book.cut("turn_2")
    book.marking.succeeded(KEY, "turn_3")
    assert book.standing == ("clear", None, 0)

    book.cut("turn_4")

    assert book.suspend_stuck() == ()


def test_a_kill_after_the_suspension_and_before_the_ledger_suspends_again_and_no_more(book: Book) -> None:
    for number in range(3):
        book.cut(f"turn_{number}")
    book.marking.commit()
    book.suspend_stuck()
    book.registry.commit()
    book.killed()

    assert book.suspend_stuck() == (KEY,)
    assert book.standing == ("suspended", "crash", 0)


def test_a_suspended_session_is_not_struck(book: Book) -> None:
    book.marking.suspend(KEY)

    book.cut("turn_1")

    assert book.standing == ("suspended", "operator", 0)


def test_a_message_to_a_suspended_session_begins_a_fresh_transcript_and_keeps_the_old_one(book: Book) -> None:
    stick(book)
    before = book.entry.session_id

    after = book.marking.activated(book.entry)

    assert after.session_id != before
    assert (after.marks.standing, after.marks.former_id, after.marks.untold_reason) == ("clear", before, "crash")
    assert book.marking.activated(after) == after


def test_what_was_set_aside_can_be_resumed(book: Book) -> None:
    stick(book)
    before = book.entry.session_id
    book.marking.activated(book.entry)

    resumed = book.marking.resume(KEY)

    assert resumed is not None
    assert resumed.session_id == before
    assert [line[0] for line in book.told[-2:]] == ["fresh", "resumed"]


def test_there_is_nothing_to_resume_in_a_session_that_never_was_suspended(book: Book) -> None:
    assert book.marking.resume(KEY) is None


# -- ends of marks and strikes -----------------------------------------------------------------------------------------


def test_a_reset_clears_marks_and_strikes(book: Book) -> None:
    book.cut("turn_1")
    before = book.entry.session_id

    after = book.marking.reset(KEY)

    assert after is not None
    assert after.session_id != before
    assert book.standing == ("clear", None, 0)


def test_a_transcript_that_begins_after_the_clock_was_set_back_is_the_newest_of_its_session(book: Book) -> None:
    ids = [book.entry.session_id]
    for back in (book.marking.reset, book.marking.suspend, book.marking.resume, book.marking.reset):
        book.clock.at = 1000.0
        back(KEY)
        ids.append(book.marking.activated(book.entry).session_id)

    first, reset, fresh, resumed, again = ids
    assert first < reset < fresh < again
    assert resumed == reset


def test_a_session_that_was_idle_loses_its_strikes_and_keeps_its_mark(book: Book) -> None:
    book.cut("turn_1")

    book.marking.drop_idle(frozenset(), frozenset(), cut_since=LATER)

    assert book.standing == ("resume_pending", "crash", 0)
    assert book.told[-1] == ("idle", None, 0)


def test_an_idle_session_that_reached_the_threshold_keeps_its_strikes_and_is_suspended_next(book: Book) -> None:
    for number in range(3):
        book.cut(f"turn_{number}")

    book.marking.drop_idle(frozenset(), frozenset(), cut_since=LATER)

    assert book.suspend_stuck() == (KEY,)


@pytest.mark.parametrize("busy", [True, False])
def test_a_busy_session_and_one_that_nobody_could_ask_for_keep_their_strikes(book: Book, busy: bool) -> None:
    book.cut("turn_1")

    everything = frozenset(range(SHARDS))
    book.marking.drop_idle(frozenset({KEY} if busy else ()), frozenset() if busy else everything, cut_since=LATER)

    assert book.standing[2] == 1


def test_an_operator_clears_strikes_and_no_marks(book: Book) -> None:
    book.cut("turn_1")

    assert book.marking.clear(KEY) == (KEY,)
    assert book.standing == ("resume_pending", "crash", 0)
    book.cut("turn_2")
    assert book.marking.clear(None) == (KEY,)


def test_the_history_of_a_session_is_bounded(book: Book) -> None:
    for number in range(80):
        book.cut(f"turn_{number}")

    assert len(book.told) == 50
    assert book.told[-1][2] == 80


# -- the ledger's file -------------------------------------------------------------------------------------------------


def test_a_ledger_that_cannot_be_written_is_told_remembered_and_tried_again(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise ledger_file.LedgerNotWritten("no space left")

    book.cut("turn_1")
    with monkeypatch.context() as disk:
        disk.setattr(ledger_file, "_replace", full)
        book.marking.commit()
        assert book.marking.facts().fault == "no space left"
        assert book.standing == ("resume_pending", "crash", 1)

    book.marking.commit()

    assert book.marking.facts().fault is None
    assert ledger_file.read(book.home.ledger).count(KEY) == 1


def test_a_ledger_that_cannot_be_used_is_remembered_and_told(book: Book) -> None:
    book.close()
    book.home.ledger.mkdir()

    book.open()
    book.cut("turn_1")
    book.marking.commit()

    assert book.standing == ("resume_pending", "crash", 1)
    assert str(book.home.ledger) in (book.marking.facts().fault or "")
    with pytest.raises(LedgerUnreadable):
        ledger_file.read(book.home.ledger)


def test_a_corrupt_ledger_is_set_aside_and_told(book: Book) -> None:
    book.close()
    book.home.ledger.write_text("{")

    book.open()

    facts = book.marking.facts()
    assert (facts.sessions, facts.fault) == (0, None)
    assert Path(facts.set_aside or "").read_text() == "{"


# -- whatever happens --------------------------------------------------------------------------------------------------


@dataclass
class Known:
    """What must be true of a session."""

    strikes: int = 0
    standing: Standing = Standing.CLEAR
    running: str | None = None
    queued: bool = False


KEYS = tuple(f"api:a:{name}" for name in "xyz")


class Lives(RuleBasedStateMachine):
    """Turns, deaths of workers, drains and starts in any order, with kills between the two commits."""

    @initialize()
    def first_start(self) -> None:
        database = sqlite3.connect(":memory:", isolation_level=None)
        for script in registry_file.MIGRATIONS:
            database.executescript(script)
        self.registry = Registry(RegistryDatabase(database), Path("nowhere"))
        self.clock = Clock()
        self.file = LedgerFile.remembered(Path("nowhere"), LedgerUnreadable("in memory"))
        self.known = {key: Known() for key in KEYS}
        self.turns = itertools.count(1)
        self.stopped_at: float | None = None
        for key in KEYS:
            add(self.registry, key, "a", 0, 1.0)
        self.registry.commit()
        self.awake()

    def awake(self) -> None:
        self.registry.history.begin_life(f"boot-{next(self.turns)}", self.clock())
        self.marking = Marking(self.registry, self.file, lambda: 3, self.clock)

    def commit(self, torn: bool) -> None:
        """``torn``: the supervisor is killed between the registry's commit and the ledger's."""
        if torn:
            self.registry.commit()
        else:
            self.marking.commit()

    def cut(self, cause: Cause, keys: frozenset[str]) -> dict[str, str]:
        turns = {key: turn for key in sorted(keys) if (turn := self.known[key].running) is not None}
        self.marking.cut([CutTurn(*item) for item in turns.items()], cause)
        for key in turns:
            known = self.known[key]
            known.running = None
            known.strikes += 1
            known.standing = Standing.RESUME_PENDING
        return turns

    def suspend(self) -> None:
        for shard in range(SHARDS):
            self.marking.suspend_stuck(shard)
        for known in self.known.values():
            if known.strikes >= 3:
                known.strikes, known.standing = 0, Standing.SUSPENDED

    @rule(key=st.sampled_from(KEYS))
    def a_turn_begins(self, key: str) -> None:
        known = self.known[key]
        if known.running is None:
            entry = self.registry.session(key)
            assert entry is not None
            self.marking.activated(entry)
            self.marking.commit()
            if known.standing is Standing.SUSPENDED:
                known.standing = Standing.CLEAR
            known.running, known.queued = f"turn_{next(self.turns)}", False

    @rule(key=st.sampled_from(KEYS))
    def a_turn_waits(self, key: str) -> None:
        self.known[key].queued = True

    @rule(key=st.sampled_from(KEYS), well=st.booleans())
    def a_turn_ends(self, key: str, well: bool) -> None:
        known = self.known[key]
        if known.running is not None and well:
            self.marking.succeeded(key, known.running)
            self.marking.commit()
            known.strikes, known.standing = 0, Standing.CLEAR
        known.running = None

    @rule(keys=st.frozensets(st.sampled_from(KEYS)), torn=st.booleans())
    def a_worker_dies(self, keys: frozenset[str], torn: bool) -> None:
        turns = self.cut("crash", keys)
        self.commit(torn)
        if torn:
            self.start(turns)
        else:
            self.suspend()
            self.marking.commit()

    @rule(torn=st.booleans(), shards_knew=st.booleans())
    def a_drain_times_out(self, torn: bool, shards_knew: bool) -> None:
        """``shards_knew``: the interruptions were on disk before the end."""
        began = self.clock()
        self.registry.history.reached("stop_began_at", began)
        turns = self.cut("shutdown_timeout", frozenset(KEYS))
        busy = frozenset(turns) | {key for key in KEYS if self.known[key].queued}
        self.marking.drop_idle(busy, frozenset(), cut_since=LATER)
        self.commit(torn)
        for key in KEYS:
            if key not in busy:
                self.known[key].strikes = 0
        self.start({} if shards_knew and not torn else turns)

    @rule()
    def everything_is_killed(self) -> None:
        turns = {key: known.running for key, known in self.known.items() if known.running is not None}
        for key in turns:
            known = self.known[key]
            known.running, known.standing, known.strikes = None, Standing.RESUME_PENDING, known.strikes + 1
        self.start(turns)

    def start(self, found_running: dict[str, str]) -> None:
        """A new life recovers the shards; strikes of idle sessions go, but for those of the stop before."""
        lives = self.registry.history.lives(2)
        stopped = lives[0].stop_began_at is not None
        self.registry.commit()
        self.awake()
        self.marking.cut([CutTurn(*item) for item in found_running.items()], "crash")
        kept = frozenset(found_running) | {key for key in KEYS if self.known[key].queued}
        self.suspend()
        since = lives[0].stop_began_at if stopped else self.clock()
        assert since is not None
        cut_by_the_stop = {key for key, entry in self.marking.state.ledger.entries.items() if entry.last_at >= since}
        self.marking.drop_idle(kept, frozenset(), cut_since=since)
        for key in KEYS:
            if key not in kept | cut_by_the_stop:
                self.known[key].strikes = 0
        self.marking.commit()

    @precondition(lambda self: hasattr(self, "known"))
    @invariant()
    def marks_and_strikes_are_right(self) -> None:
        for key, known in self.known.items():
            entry = self.registry.session(key)
            assert entry is not None
            assert (key, self.marking.strikes(key), entry.marks.standing) == (key, known.strikes, known.standing)
            assert self.marking.strikes(key) < 3

    def teardown(self) -> None:
        if hasattr(self, "registry"):
            self.registry.close()


TestLives = Lives.TestCase
TestLives.settings = settings(stateful_step_count=30)


def test_the_lives_of_the_supervisor_are_kept_and_bounded(book: Book) -> None:
    history = book.registry.history
    history.reached("ready_at", 5.0)
    history.reached("ready_at", 9.0)
    history.reached("stop_began_at", 6.0)
    history.goes_on("stop_began_at")
    history.reached("ended_at", 7.0, how="restart")

    life = history.lives(1)[0]

    assert life.stop_began_at is None
    assert (life.boot, life.ready_at, life.ended_at, life.how) == ("boot", 5.0, 7.0, "restart")
    for number in range(300):
        history.begin_life(f"boot-{number}", float(number))
    assert len(history.lives(1000)) == 200
    with closing(sqlite3.connect(book.home.registry)) as other:
        assert other.execute("SELECT count(*) FROM boots").fetchone() == (1,)
