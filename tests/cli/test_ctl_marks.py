"""``hermes-ctl ledger``, ``why`` and what changes sessions: by the supervisor, or on the disk where none runs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fakes.control_peer import Behaviour, FakeSupervisor, answering
from fakes.marking import Marking, add

from hermes_actors.cli import disk
from hermes_actors.cli.ctl import ctl
from hermes_actors.core.sessions.marks import Standing
from hermes_actors.home import Home
from hermes_actors.operations import requests
from hermes_actors.operations.operation import Operation
from hermes_actors.operators.client import OperationFailed
from hermes_actors.records import registry_file
from hermes_actors.records.ledger_file import LedgerFile, LedgerNotWritten, read
from hermes_actors.records.registry import Registry
from hermes_actors.supervisor.home_lock import hold
from hermes_actors.wire.records import CutTurn
from hermes_actors.wire.refusals import RefusalCode
from hermes_actors.wire.sharding import shard_of

Start = Callable[[Behaviour], FakeSupervisor]

STUCK, CUT_ONCE, CALM = "api:default:stuck", "api:default:cut", "api:default:calm"


def run(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(ctl, [*arguments, "--home", str(home.root)])


@pytest.fixture
def kept(home: Home) -> Home:
    """A stopped gateway: one session was suspended after three crashes, one was cut by a restart, one is calm."""
    home.config.write_text("model: {provider: demo}\n")
    registry = Registry.open(home, shards=8, usual_shards=8, durability="process")
    marking = Marking(registry, LedgerFile.open(home.ledger), lambda: 3)
    now = time.time()
    registry.history.begin_life("b1", now - 100)
    for key in (STUCK, CUT_ONCE, CALM):
        add(registry, key, "default", 0, now - 200)
    registry.history.reached("settled_at", now - 99)
    for number in range(3):
        marking.cut([CutTurn(STUCK, f"turn_{number}")], "crash")
        marking.suspend_stuck(shard_of(STUCK, 8))
    marking.cut([CutTurn(CUT_ONCE, "turn_9")], "restart_timeout")
    registry.history.reached("ended_at", now - 5, how="stop")
    marking.commit()
    marking.close()
    registry.close()
    return home


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can give files away")
def test_root_works_on_a_home_of_another_user_and_leaves_it_that_users(kept: Home) -> None:
    owner = 4711
    for path in (kept.root, *kept.root.rglob("*")):
        os.chown(path, owner, owner)

    results = [
        run(kept, *words)
        for words in (
            ("sessions", "list"),
            ("why", STUCK),
            ("sessions", "resume", STUCK),
            ("sessions", "reset", CUT_ONCE),
            ("ledger", "show"),
            ("ledger", "clear", STUCK),
        )
    ]

    assert [result.exit_code for result in results] == [0] * len(results), [result.output for result in results]
    assert standing(kept, STUCK)[0] is Standing.RESUME_PENDING
    assert {path.stat().st_uid for path in (kept.root, *kept.root.rglob("*"))} == {owner}


def standing(home: Home, key: str) -> tuple[Standing, int]:
    with disk.opened(home) as registry:
        entry = registry.session(key)
    assert entry is not None
    return entry.marks.standing, read(home.ledger).count(key)


# -- the ledger -------------------------------------------------------------------------------------------------------


def test_the_ledger_is_shown_from_the_disk_whoever_runs(kept: Home) -> None:
    with hold(kept):
        people, machines = run(kept, "ledger", "show"), run(kept, "ledger", "show", "--json")

    assert (people.exit_code, people.stderr) == (0, "")
    for text in (CUT_ONCE, "1 of 3", "restart_timeout", "turn_9", "0 s ago"):
        assert text in people.stdout
    (row,) = json.loads(machines.stdout)["sessions"]
    assert {name: row[name] for name in ("key", "strikes", "threshold", "causes", "last_cut")} == {
        "key": CUT_ONCE,
        "strikes": 1,
        "threshold": 3,
        "causes": ["restart_timeout"],
        "last_cut": "turn_9",
    }


def test_one_session_of_the_ledger_is_shown_by_a_last_part(kept: Home) -> None:
    assert len(json.loads(run(kept, "ledger", "show", "cut", "--json").stdout)["sessions"]) == 1
    assert json.loads(run(kept, "ledger", "show", "nobody", "--json").stdout)["error"]["code"] == "not_found"


def test_a_session_without_strikes_has_none_to_show_or_to_clear(kept: Home) -> None:
    people, machines = run(kept, "ledger", "show", "calm"), run(kept, "ledger", "show", "calm", "--json")

    assert (people.exit_code, people.stdout) == (0, f"{CALM} has no strikes\n")
    assert json.loads(machines.stdout) == {"sessions": []}
    assert run(kept, "ledger", "clear", "calm").stdout == "cleared: there were no strikes\n"


def test_a_home_without_a_ledger_has_no_strikes(home: Home) -> None:
    shown = run(home, "ledger", "show")

    assert (shown.exit_code, shown.stdout) == (0, "no strikes\n")
    assert run(Home(home.root / "typo"), "ledger", "show").exit_code == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "is not a ledger"), ('{"version": 2, "sessions": {}}', "a newer release wrote it")],
)
def test_a_ledger_that_cannot_be_read_is_told_and_left_alone(kept: Home, content: str, words: str) -> None:
    kept.ledger.write_text(content)

    shown = run(kept, "ledger", "show")

    assert shown.exit_code == 1
    assert words in shown.stderr
    assert kept.ledger.read_text() == content


def test_sessions_are_listed_and_shown_where_the_ledger_cannot_be_read(kept: Home) -> None:
    kept.ledger.write_text("{")

    listed = run(kept, "sessions", "list", "--json")

    assert listed.exit_code == 0
    assert len(json.loads(listed.stdout)["sessions"]) == 3
    assert "strikes are not known" in listed.stderr


@pytest.mark.parametrize("words", [(), (CUT_ONCE, "--all")])
def test_a_clear_wants_one_session_or_all(kept: Home, words: tuple[str, ...]) -> None:
    told = run(kept, "ledger", "clear", *words)

    assert told.exit_code == 2
    assert "--all" in told.stderr


@pytest.mark.parametrize("words", ["cut", "--all"])
def test_strikes_are_cleared_on_the_disk_where_no_supervisor_runs(kept: Home, words: str) -> None:
    told = run(kept, "ledger", "clear", words, "--json")

    assert (told.exit_code, json.loads(told.stdout)) == (0, {"cleared": [CUT_ONCE]})
    assert "changed on the disk" in told.stderr
    assert standing(kept, CUT_ONCE) == (Standing.RESUME_PENDING, 0)
    assert run(kept, "ledger", "clear", "--all").stdout == "cleared: there were no strikes\n"


def test_strikes_are_cleared_by_the_supervisor_that_runs(kept: Home, supervisor: Start) -> None:
    fake = supervisor(answering({"ledger.clear": {"cleared": [CUT_ONCE]}}))

    told, all_of_them = run(kept, "ledger", "clear", "cut"), run(kept, "ledger", "clear", "--all")

    assert (told.exit_code, told.stdout) == (0, f"cleared: {CUT_ONCE}\n")
    assert all_of_them.exit_code == 0
    assert [request.arguments for request in fake.requests] == [{"session": CUT_ONCE}, {}]
    assert standing(kept, CUT_ONCE)[1] == 1


# -- sessions ---------------------------------------------------------------------------------------------------------


def test_a_list_shows_marks_and_strikes(kept: Home) -> None:
    rows = {line.split()[0]: line for line in run(kept, "sessions", "list").stdout.splitlines() if "api:" in line}

    assert "suspended" in rows[STUCK]
    assert re.search(r"resume pending \(restart_timeout\) +1 ", rows[CUT_ONCE])
    assert "suspended" not in rows[CALM]
    assert "pending" not in rows[CALM]


def test_one_session_is_shown_with_its_marks(kept: Home) -> None:
    shown = run(kept, "sessions", "show", "cut").stdout

    assert re.search(r"^mark +resume pending \(restart_timeout\), 0 s ago, turn_9$", shown, re.MULTILINE)
    assert re.search(r"^strikes +1$", shown, re.MULTILINE)
    for name in ("marks", "suspended", "resume reason"):
        assert not re.search(rf"^{name} ", shown, re.MULTILINE)


def test_a_suspended_session_is_resumed_on_the_disk(kept: Home) -> None:
    told = run(kept, "sessions", "resume", "stuck")

    assert told.exit_code == 0
    assert f"{STUCK} continues with its transcript ses_" in told.stdout
    assert standing(kept, STUCK) == (Standing.RESUME_PENDING, 0)


def test_a_session_is_suspended_and_reset_on_the_disk(kept: Home) -> None:
    before = json.loads(run(kept, "sessions", "show", "calm", "--json").stdout)["session_id"]

    suspended = json.loads(run(kept, "sessions", "suspend", "calm", "--json").stdout)
    assert (suspended["suspended"], suspended["session_id"]) == (True, before)
    reset = json.loads(run(kept, "sessions", "reset", "calm", "--json").stdout)

    assert reset["suspended"] is False
    assert reset["session_id"] != before
    assert reset["marks"]["former_id"] == before


def test_a_session_that_was_never_suspended_has_nothing_to_resume(kept: Home) -> None:
    told = run(kept, "sessions", "resume", "calm", "--json")

    assert told.exit_code == 1
    assert json.loads(told.stdout)["error"]["code"] == "not_suspended"
    assert "changed on the disk" not in told.stderr


@pytest.mark.parametrize("what", ["suspend", "resume", "reset"])
def test_a_running_supervisor_changes_its_sessions_itself(kept: Home, supervisor: Start, what: str) -> None:
    fake = supervisor(answering({f"sessions.{what}": {"key": CALM, "session_id": "ses_7"}}))

    told = run(kept, "sessions", what, "calm")

    assert told.exit_code == 0
    assert CALM in told.stdout
    assert "ses_7" in told.stdout
    assert fake.requests[0].arguments == {"session": "calm"}


@pytest.mark.parametrize(("stopped", "words"), [(True, "stopped\n"), (False, "no turn runs in it\n")])
def test_a_turn_is_stopped_by_the_supervisor(kept: Home, supervisor: Start, stopped: bool, words: str) -> None:
    supervisor(answering({"sessions.stop": {"stopped": stopped, "missing": [1]}}))

    told = run(kept, "sessions", "stop", "calm")

    assert (told.exit_code, told.stdout, told.stderr) == (0, words, "worker 1 gave no answer\n")


def test_without_a_supervisor_no_turn_runs_to_be_stopped(kept: Home) -> None:
    assert run(kept, "sessions", "stop", "calm").exit_code == 4


@pytest.mark.parametrize("what", ["suspend", "resume", "reset", "stop"])
def test_a_home_that_is_not_there_has_no_sessions_to_change(home: Home, what: str) -> None:
    assert run(Home(home.root / "typo"), "sessions", what, "x").exit_code == 4


def test_a_home_that_somebody_holds_is_not_changed_behind_its_back(kept: Home) -> None:
    with hold(kept):
        told = run(kept, "sessions", "suspend", "calm")

    assert told.exit_code == 4
    assert standing(kept, CALM) == (Standing.CLEAR, 0)


@pytest.mark.parametrize("asked", [("sessions.suspend", "calm"), ("ledger.clear", None)])
def test_a_supervisor_that_starts_meanwhile_keeps_its_home(kept: Home, asked: tuple[str, str | None]) -> None:
    operation, session = asked
    wanted: Operation[Any] = requests.read(operation, {"session": session})
    with hold(kept), pytest.raises(OperationFailed, match="already running") as refused:
        disk.request(kept, wanted)

    assert refused.value.code == RefusalCode.BUSY
    assert standing(kept, CALM) == (Standing.CLEAR, 0)


def test_a_ledger_that_cannot_be_written_is_no_success(kept: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise LedgerNotWritten("no space left on device")

    monkeypatch.setattr(LedgerFile, "commit", full)

    told = run(kept, "ledger", "clear", "--all", "--json")

    assert told.exit_code == 1
    assert json.loads(told.stdout)["error"] == {"code": "not_written", "why": "no space left on device"}


def test_a_registry_that_somebody_writes_to_is_told_as_one_and_not_changed(
    kept: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_file, "BUSY_TIMEOUT_S", 0.05)
    with contextlib.closing(sqlite3.connect(kept.registry, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        told = run(kept, "sessions", "suspend", CALM, "--json")

    assert told.exit_code == 1
    assert json.loads(told.stdout)["error"]["code"] in ("not_written", "unreadable")
    assert standing(kept, CALM)[0] is Standing.CLEAR


def test_a_corrupt_ledger_that_a_command_sets_aside_is_told(kept: Home) -> None:
    kept.ledger.write_text("{")

    told = run(kept, "sessions", "suspend", CALM)

    assert told.exit_code == 0
    (aside,) = kept.ledger.parent.glob("*.corrupt-*")
    assert f"it was moved to {aside}, and its strikes are gone" in told.stderr


def test_a_registry_of_another_release_is_told_as_one(kept: Home) -> None:
    registry = Registry.open(kept, shards=None, usual_shards=8, durability="process")
    registry._database._connection.execute("PRAGMA user_version = 2")
    registry.close()

    told = run(kept, "sessions", "list")

    assert told.exit_code == 1
    assert "start the gateway once" in told.stderr


# -- why --------------------------------------------------------------------------------------------------------------


def test_why_tells_the_chain_of_causes_and_the_way_out(kept: Home) -> None:
    told = run(kept, "why", "stuck")

    assert told.exit_code == 0
    shown = " ".join(told.stdout.split())
    for text in (
        f"{STUCK}: suspended",
        "its worker died, or hung and was killed, and cut turn turn_0: strike 1 of 3",
        "cut turn turn_2: strike 3 of 3",
        "suspended after 3 cuts in a row",
        "the next message starts a fresh transcript",
        f"hermes-ctl sessions resume {STUCK}",
        "supervisor.stuck_threshold = 3",
    ):
        assert text in shown


def test_why_gives_machines_the_same(kept: Home) -> None:
    told = json.loads(run(kept, "why", CUT_ONCE, "--json").stdout)

    assert (told["standing"], told["strikes"], told["threshold"]) == ("resume_pending", 1, 3)
    assert [line["what"] for line in told["lines"]][1:] == [
        "a planned restart reached its deadline and cut turn turn_9: strike 1 of 3"
    ]
    assert [setting["key"] for setting in told["settings"]] == [
        "supervisor.stuck_threshold",
        "agent.restart_drain_timeout",
        "sessions.resume_fresh_seconds",
    ]


def test_why_reads_the_disk_while_a_supervisor_runs(kept: Home) -> None:
    with hold(kept):
        told = run(kept, "why", "calm")

    assert (told.exit_code, told.stderr) == (0, "")
    assert "continues this transcript" in told.stdout
    assert "Nothing was ever cut." in told.stdout
    assert [line for line in told.stdout.splitlines() if line != line.rstrip()] == []


def test_why_of_nobody_is_not_found(kept: Home) -> None:
    assert json.loads(run(kept, "why", "nobody", "--json").stdout)["error"]["code"] == "not_found"
    assert run(Home(kept.root / "typo"), "why", "x").exit_code == 4


def test_reading_changes_nothing(kept: Home) -> None:
    before = kept.registry.read_bytes(), kept.ledger.read_bytes()

    for words in (("why", "stuck"), ("ledger", "show"), ("sessions", "show", "stuck")):
        run(kept, *words)

    assert (kept.registry.read_bytes(), kept.ledger.read_bytes()) == before
