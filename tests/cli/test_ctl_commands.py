"""``hermes-ctl`` against a fake supervisor: what people see, what machines get, how it exits."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fakes.commands import at_terminal, piped, python
from fakes.commands import ctl as ctl_line
from fakes.control_peer import Behaviour, FakeSupervisor, answer, answering
from fakes.marking import add
from fakes.operations import filled_result

from hermes_actors.cli.ctl import ctl
from hermes_actors.core.state import Owner
from hermes_actors.home import Home
from hermes_actors.operators import client
from hermes_actors.records.registry import Registry

Start = Callable[[Behaviour], FakeSupervisor]

NOW = time.time()
WORKER = {
    "slot": 0, "generation": 2, "pid": 4711, "state": "ready", "shards": [0, 2, 4, 6], "resident": 12, "running": 3,
    "queued": 1, "turns": 90, "mcp": 2, "heartbeat_age_s": 0.4, "restarts": 1, "last_exit": -9,
}  # fmt: skip
STATUS = {
    "version": "0.1.0", "pid": 4700, "boot": "b", "home": "/srv/gw", "phase": "serving", "started_at": NOW - 7200,
    "http": {"host": "127.0.0.1", "port": 8642}, "workers": [WORKER, {**WORKER, "slot": 1, "state": "given_up"}],
    "shards": {"total": 8, "broken": [{"shard": 3, "why": "not a database", "set_aside": "/x.bad", "serving": True}]},
    "sessions": 42,
}  # fmt: skip
SESSION = {
    "key": "api:default:cli",
    "session_id": "ses_1",
    "worker": 1,
    "state": "available",
    "last_active_at": NOW - 5400,
}


def run(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(ctl, [*arguments, "--home", str(home.root)])


def test_status_shows_people_the_workers_and_what_is_broken(home: Home, supervisor: Start) -> None:
    supervisor(answering({"status": STATUS}))

    shown = run(home, "status")

    assert shown.exit_code == 0
    for text in ("serving", "2 h", "http://127.0.0.1:8642", "42", "8, 1 broken", "given_up", "4711", "-9"):
        assert text in shown.stdout
    assert "shard 3 continues with what is left: not a database; the broken file is kept as /x.bad" in shown.stdout


def test_status_shows_people_a_drain_the_marks_and_a_ledger_that_is_not_kept(home: Home, supervisor: Start) -> None:
    ledger = {"sessions": 2, "fault": "it cannot be locked", "set_aside": "/x.corrupt"}
    drain = {"then": "restart", "left_s": 41.2}
    marked = {"suspended": 1, "resume_pending": 2, "ledger": ledger, "drain": drain, "phase": "draining"}
    supervisor(answering({"status": STATUS | marked}))

    shown = run(home, "status").stdout

    for text in ("then restart, 41 s left", "42, 1 suspended, 2 resume pending", "it cannot be locked", "/x.corrupt"):
        assert text in shown


def test_status_shows_people_that_a_restart_is_prepared(home: Home, supervisor: Start) -> None:
    supervisor(answering({"status": STATUS | {"preparing": True}}))

    assert re.search("restart +is being prepared", run(home, "status").stdout)


def test_status_gives_machines_the_data_as_it_is(home: Home, supervisor: Start) -> None:
    supervisor(answering({"status": STATUS}))

    assert json.loads(run(home, "status", "--json").stdout) == filled_result("status", STATUS)


def test_workers_shows_and_gives_only_the_workers(home: Home, supervisor: Start) -> None:
    supervisor(answering({"status": STATUS}))

    assert "4711" in run(home, "workers").stdout
    assert json.loads(run(home, "workers", "--json").stdout) == {"workers": STATUS["workers"]}


def test_a_page_of_sessions_tells_how_to_go_on(home: Home, supervisor: Start) -> None:
    fake = supervisor(answering({"sessions.list": {"sessions": [SESSION], "next": "c1"}}))

    shown = run(home, "sessions", "list", "--limit", "1", "--after", "c0")

    assert "api:default:cli" in shown.stdout
    assert "1 h ago" in shown.stdout
    assert shown.stderr == "more: add --after c1\n"
    assert fake.requests[0].arguments == {"limit": 1, "after": "c0"}


def test_all_sessions_are_asked_for_page_by_page(home: Home, supervisor: Start) -> None:
    pages: dict[str | None, dict[str, Any]] = {
        None: {"sessions": [SESSION], "next": "c1"},
        "c1": {"sessions": [{**SESSION, "key": "b"}], "next": None},
    }
    supervisor(lambda connection, request: answer(connection, request, pages[request.arguments.get("after")]))

    got = json.loads(run(home, "sessions", "list", "--all", "--json").stdout)

    assert [session["key"] for session in got["sessions"]] == ["api:default:cli", "b"]
    assert got["next"] is None


def test_one_session_is_shown_with_what_its_worker_knows(home: Home, supervisor: Start) -> None:
    known = {
        "actor": {"generation": 2, "restarts": 1, "last_restart_reason": "fallback", "last_restart_at": NOW - 9000},
        "mcp": [{"server": "time", "state": "up", "since": NOW - 3 * 86400}],
        "turns": {"completed": 7, "failed": 1},
    }
    fake = supervisor(answering({"sessions.show": {**SESSION, **known}}))

    shown = run(home, "sessions", "show", "cli")

    for text in (
        "ses_1",
        "completed 7, failed 1",
        "3 d ago",
        "generation 2, restarts 1, last restart reason fallback, last restart at 2 h ago",
    ):
        assert text in shown.stdout
    assert fake.requests[0].arguments == {"session": "cli"}


def test_what_people_see_cannot_command_their_terminal_or_be_markup(home: Home, supervisor: Start) -> None:
    supervisor(answering({"sessions.list": {"sessions": [{**SESSION, "key": "\x1b[2J[red]x[/red]"}], "next": None}}))

    shown = run(home, "sessions", "list").stdout

    assert "\x1b" not in shown
    assert "\\x1b[2J[red]x[/red]" in shown


def test_a_row_is_one_line_where_there_is_no_terminal(home: Home, supervisor: Start) -> None:
    key = "api:default:" + "x" * 150
    supervisor(answering({"sessions.list": {"sessions": [{**SESSION, "key": key}], "next": None}}))

    assert any(key in line and "ses_1" in line for line in run(home, "sessions", "list").stdout.splitlines())


def test_a_row_is_not_folded_at_a_narrow_terminal(home: Home, supervisor: Start) -> None:
    supervisor(answering({"status": STATUS}))

    with at_terminal(ctl_line("workers", "--home", str(home.root)), COLUMNS="40") as terminal:
        assert terminal.end() == 0

    rows = terminal.shown.splitlines()
    assert any("heartbeat" in row and "last exit" in row for row in rows)
    assert any("4711" in row and "0.4 s ago" in row for row in rows)


# -- mcp and reload ---------------------------------------------------------------------------------------------------

CONNECTION = {
    "worker": 1, "server": "files", "scope": "session", "session": "api:default:cli", "state": "waiting",
    "since": NOW - 9000, "starts": 3, "calls": 12, "last_error": "its command ended", "detail": None, "pid": None,
}  # fmt: skip


def test_mcp_shows_every_connection(home: Home, supervisor: Start) -> None:
    shared = {**CONNECTION, "server": "time", "scope": "worker", "session": None, "state": "up", "pid": 4712}
    supervisor(answering({"mcp": {"connections": [CONNECTION, shared]}}))

    people, machines = run(home, "mcp"), run(home, "mcp", "--json")

    head, _, files, time_, _, why = people.stdout.splitlines()
    in_rows = [name for name in CONNECTION if name not in ("last_error", "detail")]
    assert re.split(r" {2,}", head.strip()) == in_rows
    assert why == "its command ended (2 h ago)"
    for text in ("files", "api:default:cli", "waiting", "2 h ago"):
        assert text in files
    for text in ("time", "worker", "up", "4712"):
        assert text in time_
    assert json.loads(machines.stdout) == {"connections": [CONNECTION, shared], "missing": []}


def test_mcp_says_that_there_is_no_connection(home: Home, supervisor: Start) -> None:
    supervisor(answering({"mcp": {"connections": []}}))

    people, machines = run(home, "mcp"), run(home, "mcp", "--json")

    assert (people.exit_code, people.stdout) == (0, "no connections\n")
    assert (machines.exit_code, json.loads(machines.stdout)) == (0, {"connections": [], "missing": []})


def test_mcp_restart_names_the_server_and_tells_how_many_connections_it_had(home: Home, supervisor: Start) -> None:
    fake = supervisor(answering({"mcp.restart": {"restarted": 3}}))

    people, machines = run(home, "mcp", "restart", "files"), run(home, "mcp", "restart", "files", "--json")

    assert (people.exit_code, people.stdout) == (0, "connections of files restarted: 3\n")
    assert json.loads(machines.stdout) == {"restarted": 3, "missing": []}
    assert [request.operation for request in fake.requests] == ["mcp.restart", "mcp.restart"]
    assert fake.requests[0].arguments == {"server": "files"}


@pytest.mark.parametrize(
    ("words", "operation", "data"),
    [
        (("mcp",), "mcp", {"connections": [CONNECTION]}),
        (("mcp", "restart", "files"), "mcp.restart", {"restarted": 1}),
        (("reload",), "reload", {"changes": []}),
    ],
)
def test_workers_that_gave_no_answer_are_named(
    home: Home, supervisor: Start, words: tuple[str, ...], operation: str, data: dict[str, Any]
) -> None:
    supervisor(answering({operation: {**data, "missing": [0, 2]}}))

    shown = run(home, *words)

    assert (shown.exit_code, shown.stderr) == (0, "worker 0 gave no answer\nworker 2 gave no answer\n")


def test_options_before_a_command_below_mcp_are_its_options(home: Home, supervisor: Start) -> None:
    supervisor(lambda connection, request: answer(connection, request, {}, "not_found", "no server is named so"))

    ran = CliRunner().invoke(ctl, ["mcp", "--json", "--home", str(home.root), "restart", "files"])

    assert ran.exit_code == 1
    assert json.loads(ran.stdout) == {"error": {"code": "not_found", "why": "no server is named so"}}


def test_mcp_without_a_supervisor_fails_like_every_command(home: Home) -> None:
    people, machines = run(home, "mcp"), run(home, "mcp", "--json")

    assert (people.exit_code, machines.exit_code) == (4, 4)
    assert json.loads(machines.stdout)["error"]["code"] == "not_running"


CHANGES = [
    {"key": "sessions.mailbox_limit", "when": "now", "what": "32 → 64"},
    {"key": "mcp_servers.files", "when": "next_turn", "what": "reconnects: args"},
    {"key": "model.default", "when": "next_turn", "what": "a → b"},
    {"key": "supervisor.workers", "when": "restart", "what": "2 → 4"},
]


def test_a_reload_tells_in_groups_what_changes_when(home: Home, supervisor: Start) -> None:
    supervisor(answering({"reload": {"changes": CHANGES}}))

    people, machines = run(home, "reload"), run(home, "reload", "--json")

    assert [" ".join(line.split()) for line in people.stdout.splitlines()] == [
        "now",
        "sessions.mailbox_limit 32 → 64",
        "at the next turn",
        "mcp_servers.files reconnects: args",
        "model.default a → b",
        "only after a restart",
        "supervisor.workers 2 → 4",
    ]
    assert json.loads(machines.stdout) == {"changes": CHANGES, "missing": []}


def test_a_reload_of_nothing_new_says_so(home: Home, supervisor: Start) -> None:
    supervisor(answering({"reload": {"changes": []}}))

    shown = run(home, "reload")

    assert (shown.exit_code, shown.stdout) == (0, "nothing changed\n")


def test_a_reload_of_a_bad_configuration_tells_all_of_it_and_exits_78(home: Home, supervisor: Start) -> None:
    problems = (
        "configuration: 1 problem\n/srv/gw/config.yaml:3: agent.max_turn: unknown key\n    did you mean max_turns?"
    )
    supervisor(lambda connection, request: answer(connection, request, {}, "configuration", problems))

    people, machines = run(home, "reload"), run(home, "reload", "--json")

    assert (people.exit_code, people.stdout) == (78, "")
    assert people.stderr == f"Error: {problems}\nNothing changed.\n"
    assert machines.exit_code == 78
    assert json.loads(machines.stdout)["error"]["code"] == "configuration"


# -- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        pytest.param(None, 4, "not_running", id="nobody"),
        pytest.param("not_found", 1, "not_found", id="refused"),
    ],
)
def test_a_failure_has_its_exit_code_and_with_json_its_document(
    home: Home, supervisor: Start, error: str | None, exit_code: int, code: str
) -> None:
    if error is not None:
        supervisor(lambda connection, request: answer(connection, request, {}, error, "so it is"))

    people, machines = run(home, "status"), run(home, "status", "--json")

    assert (people.exit_code, people.stdout) == (exit_code, "")
    assert people.stderr.startswith("Error: ")
    assert machines.exit_code == exit_code
    assert json.loads(machines.stdout)["error"]["code"] == code


def test_a_held_home_that_does_not_answer_is_told_in_other_words(
    home: Home, hold_lock: Callable[[], Callable[[], None]]
) -> None:
    hold_lock()

    shown = run(home, "status")

    assert shown.exit_code == 4
    assert "holds" in shown.stderr
    assert "no supervisor runs" not in shown.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("sessions", "list", "--limit", "0"),
        ("chat", "a\nb"),
        ("chat", "--json"),
        ("mcp", "restart"),
        ("stop", "--timeout", "0"),
        ("unknown",),
    ],
)
def test_wrong_usage_exits_2(home: Home, arguments: tuple[str, ...]) -> None:
    assert run(home, *arguments).exit_code == 2


def test_nothing_runs_on_a_home_that_is_a_file(home: Home) -> None:
    home.config.touch()

    assert run(Home(home.config), "status").exit_code == 4


# -- from the disk ----------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(home: Home) -> Home:
    """A home with three sessions on disk."""
    registry = Registry.open(home, shards=8, usual_shards=8, durability="process")
    for number, key in enumerate(("api:alice:cli", "api:bob:cli", "api:bob:work")):
        add(registry, key, "p", number, NOW - 100 + number)
    registry.write_owners({0: Owner(1, 1)})
    registry.commit()
    registry.close()
    return home


def test_sessions_are_read_from_the_disk_where_no_supervisor_runs(kept: Home) -> None:
    listed = run(kept, "sessions", "list", "--json")

    assert listed.exit_code == 0
    assert "read from the disk" in listed.stderr
    sessions = json.loads(listed.stdout)["sessions"]
    assert [session["key"] for session in sessions] == ["api:bob:work", "api:bob:cli", "api:alice:cli"]
    assert sessions[-1]["worker"] == 1


def test_pages_from_the_disk_follow_each_other(kept: Home) -> None:
    first = json.loads(run(kept, "sessions", "list", "--limit", "2", "--json").stdout)
    second = json.loads(run(kept, "sessions", "list", "--after", first["next"], "--json").stdout)

    assert [session["key"] for session in second["sessions"]] == ["api:alice:cli"]


def test_all_pages_from_the_disk_say_once_where_they_are_from(kept: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hermes_actors.cli.ctl.LARGEST_PAGE", 1)

    listed = run(kept, "sessions", "list", "--all", "--json")

    assert len(json.loads(listed.stdout)["sessions"]) == 3
    assert listed.stderr.count("read from the disk") == 1


def test_one_session_is_read_from_the_disk_by_its_unique_last_part(kept: Home) -> None:
    assert json.loads(run(kept, "sessions", "show", "work", "--json").stdout)["key"] == "api:bob:work"


@pytest.mark.parametrize(("named", "code"), [("cli", "ambiguous"), ("nobody", "not_found")])
def test_a_name_of_none_or_of_several_sessions_fails(kept: Home, named: str, code: str) -> None:
    shown = run(kept, "sessions", "show", named, "--json")

    assert shown.exit_code == 1
    assert json.loads(shown.stdout)["error"]["code"] == code


def test_reading_the_disk_writes_nothing(kept: Home) -> None:
    before = kept.registry.read_bytes()

    run(kept, "sessions", "list")

    assert kept.registry.read_bytes() == before
    with sqlite3.connect(kept.registry) as database:
        assert database.execute("PRAGMA quick_check").fetchone() == ("ok",)
    database.close()


def test_a_home_without_registry_has_no_sessions(home: Home) -> None:
    assert json.loads(run(home, "sessions", "list", "--json").stdout) == {"sessions": [], "next": None}
    assert run(home, "sessions", "show", "cli").exit_code == 1


@pytest.mark.parametrize("arguments", [("status",), ("sessions", "list"), ("sessions", "show", "cli")])
def test_a_home_that_is_not_there_is_told(home: Home, arguments: tuple[str, ...]) -> None:
    told = run(Home(home.root / "typo"), *arguments)

    assert (told.exit_code, told.stdout) == (4, "")
    assert f"no supervisor runs on {home.root}/typo, and there is no such directory" in told.stderr


def test_a_broken_registry_and_a_foreign_cursor_are_clear_failures(kept: Home) -> None:
    assert "no cursor" in run(kept, "sessions", "list", "--after", "???").stderr
    kept.registry.write_bytes(b"not a database at all" * 100)

    shown = run(kept, "sessions", "list")

    assert shown.exit_code == 1
    assert "registry.db cannot be read" in shown.stderr


# -- as a process -----------------------------------------------------------------------------------------------------


def test_help_needs_none_of_the_slow_imports() -> None:
    code = (
        "import sys; from hermes_actors.cli.ctl import ctl; ctl(['--help'], standalone_mode=False);"
        "assert not {'aiohttp', 'asyncio', 'rich', 'pydantic', 'structlog', 'yaml', 'sqlite3'} & set(sys.modules)"
    )

    ran = piped(python(code))

    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_exit_code_and_the_streams_are_those_of_the_process(home: Home) -> None:
    ran = piped(ctl_line("status", "--json", "--home", str(home.root)))

    assert ran.returncode == 4
    assert json.loads(ran.stdout)["error"]["code"] == "not_running"
    assert ran.stderr.startswith("Error: no supervisor runs on")


@pytest.mark.parametrize("script", ["hermes-ctl", "hermes-supervisor"])
def test_the_scripts_of_a_checkout_run_from_anywhere(script: str, tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "bin" / script

    ran = piped([sys.executable, str(path), "--version"], cwd=tmp_path)

    assert ran.stdout.startswith(f"{script}, version "), ran.stderr


def test_a_checkouts_own_virtual_environment_is_preferred(tmp_path: Path) -> None:
    script = tmp_path / "bin" / "hermes-ctl"
    script.parent.mkdir()
    shutil.copy(Path(__file__).parents[2] / "bin" / "hermes-ctl", script)
    own = tmp_path / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.write_text('#!/bin/sh\necho "own: $*"\n')
    own.chmod(0o755)

    ran = piped([sys.executable, str(script), "status"])

    assert ran.stdout == f"own: {script} status\n"


def test_colour_is_for_terminals_that_want_it(home: Home, supervisor: Start) -> None:
    supervisor(answering({"status": STATUS}))
    line = ctl_line("status", "--home", str(home.root))

    with at_terminal(line) as coloured, at_terminal(line, NO_COLOR="1") as plain:
        assert (coloured.end(), plain.end()) == (0, 0)

    assert "\x1b[32mserving" in coloured.shown
    assert "\x1b[32m" not in plain.shown
    assert "\x1b[" not in piped(line).stdout


def test_the_clients_bound_is_what_a_silent_supervisor_costs(
    home: Home, supervisor: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_S", 0.05)
    supervisor(lambda connection, request: None)

    assert run(home, "status").exit_code == 4
