"""Tests wait for events and in virtual time: no test sleeps or shortens a bound, but for those named here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
REAL = {
    "docs",
    "e2e",
    "fakes",
    "kill_matrix",
    "real_clients",
    "real_models",
    "real_tools",
    "scaling",
    "scaling_tools",
    "upgrade",
}  # processes
UNIT_TESTS = sorted(path for path in TESTS.rglob("*.py") if path.relative_to(TESTS).parts[0] not in REAL)

# By file; each has its reason. To make this list shorter is always right.
SLEEPS = {
    "cli/test_supervisor_command.py": "the signals that another process blocks are to be read from /proc alone",
    "supervisor/test_restart_in_place.py": "the open files of another process are to be read from /proc alone",
    "test_virtual_time.py": "it is about sleeping",
    "tools/owner_process.py": "a process that is to be killed",
    "tools/test_mcp_http.py": "the beat of a server whose fault is that it only beats",
    "tools/test_mcp_servers.py": "asks a real process again and again for a second",
}
PATCHES = {
    "cli/test_chat_client.py": {"SILENCE_S"},  # a blocking client, in this thread
    "cli/test_control_client.py": {"ANSWER_S", "VACANT_S"},  # the same
    "cli/test_ctl_commands.py": {"ANSWER_S"},  # the same
    "cli/test_ctl_drain.py": {"POLL_S", "SUCCESSOR_S", "END_S", "BEGIN_S", "MARGIN_S"},  # the same
    "cli/test_ctl_marks.py": {"BUSY_TIMEOUT_S"},  # SQLite waits in C
    "routing/test_router.py": {"ADMIT_TIMEOUT_S"},  # nothing shorter: a deadline that is over before it is sent
    "store/test_journal.py": {"CLOSE_S"},  # a thread that hangs, which virtual time would wait for
    "store/test_store_file.py": {"BUSY_S"},  # SQLite waits in C
    "supervisor/test_pool.py": {"STUCK_S"},  # real processes, as in the ones below
    "supervisor/test_rehearsal.py": {"TIMEOUT_S"},
    "tools/test_mcp_foreign_servers.py": {"TURN_WAIT_S"},
    "tools/test_mcp_http.py": {"CLOSE_GRACE_S", "NOTICE_TIMEOUT_S"},  # shorter than a call of a real server
    "tools/test_mcp_logs.py": {"LOOK_INTERVAL_S"},
    "tools/test_mcp_offer.py": {"TURN_WAIT_S"},
    "tools/test_mcp_operations.py": {"FIRST_PAUSE_S", "RETIRE_TIMEOUT_S", "CLOSE_GRACE_S"},
    "tools/test_mcp_reasons.py": {"TURN_WAIT_S"},
    "tools/test_mcp_servers.py": {"CLOSE_GRACE_S", "CALL_CAP_S"},
    "tools/test_mcp_stdio.py": {"CLOSE_GRACE_S", "TURN_WAIT_S"},
    "tools/test_mcp_survival.py": {"PATIENCE_S"},
}


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def is_sleep(call: ast.Call) -> bool:
    match call.func:
        case ast.Attribute(value=ast.Name(id="asyncio" | "time"), attr="sleep") | ast.Name(id="sleep"):
            return True
    return False


def patched_bounds(call: ast.Call) -> Iterator[str]:
    """The seconds that are set in another module, by name."""
    if isinstance(call.func, ast.Attribute) and call.func.attr == "setattr":
        for given in call.args[:2]:
            if isinstance(given, ast.Constant) and isinstance(given.value, str) and given.value.endswith("_S"):
                yield given.value.rpartition(".")[2]


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: str(path.relative_to(TESTS)))
def test_a_unit_test_waits_for_events_or_in_virtual_time(path: Path) -> None:
    name = str(path.relative_to(TESTS))

    assert any(map(is_sleep, calls(path))) == (name in SLEEPS), "see fakes/virtual_time.py"
    assert {bound for call in calls(path) for bound in patched_bounds(call)} == PATCHES.get(name, set())


def test_each_exception_is_of_a_file_that_is_there() -> None:
    assert SLEEPS.keys() | PATCHES.keys() <= {str(path.relative_to(TESTS)) for path in UNIT_TESTS}
