"""``hermes-ctl mcp test`` and ``mcp tools``: real servers, in a process of their own, without a gateway."""

from __future__ import annotations

import json
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from fakes.operations import made
from rich.console import Console

from hermes_actors.cli import mcp_view, render
from hermes_actors.cli.ctl import ctl
from hermes_actors.home import Home
from hermes_actors.operations.results import Connection

SCRIPT = Path(__file__).parents[1] / "fakes/mcp_offering_server.py"
KEY = "a-key-that-is-long-enough"


@pytest.fixture(autouse=True)
def configured(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home with a server that works, one that does not, and one that is off."""
    servers: dict[str, Any] = {
        "full": {"command": sys.executable, "args": [str(SCRIPT), "full"]},
        "loud": {"command": sys.executable, "args": [str(SCRIPT), "loud"]},
        "off": {"command": "x", "enabled": False},
    }
    home.config.write_text(yaml.safe_dump({"model": {"provider": "demo"}, "mcp_servers": servers}))
    monkeypatch.setenv("API_SERVER_KEY", KEY)


def run(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(ctl, ["mcp", *arguments, "--home", str(home.root)])


def test_a_server_that_works_is_tried_step_by_step(home: Home) -> None:
    ran = run(home, "test", "full")

    assert ran.exit_code == 0, ran.output
    assert [line.split()[:2] for line in ran.stdout.splitlines()] == [
        ["ok", what] for what in ("command", "start", "protocol", "tools", "prompts", "resources", "instructions")
    ]


def test_a_server_that_fails_is_told_with_its_last_words_and_exit_code_1(home: Home) -> None:
    people, machines = run(home, "test", "loud"), run(home, "test", "loud", "--json")

    assert (people.exit_code, machines.exit_code) == (1, 1)
    assert "failed  start" in people.stdout
    assert "  | Error: no contexts are defined" in people.stdout
    assert "\x1b" not in people.stdout
    assert json.loads(machines.stdout)["detail"].startswith("loading\nError: no contexts")


@pytest.mark.parametrize("name", ["nosuch", "off"])
def test_a_server_that_is_not_configured_or_off_is_named_with_those_that_are(home: Home, name: str) -> None:
    ran = run(home, "test", name)

    assert ran.exit_code == 1
    assert f"no MCP server is named {name!r} and enabled; there are: full, loud" in ran.stderr


def test_the_tools_of_all_servers_are_listed_with_totals(home: Home) -> None:
    people, machines = run(home, "tools"), run(home, "tools", "--json")

    data = json.loads(machines.stdout)
    assert (people.exit_code, machines.exit_code) == (1, 1)  # one cannot be used
    assert [report["server"] for report in data["servers"]] == ["full", "loud"]
    assert data["offered"] == 1
    assert data["tokens"] == data["servers"][0]["tools"][0]["tokens"] > 20
    assert "mcp__full__look" in people.stdout
    assert "loud\n  cannot be used: " in people.stdout
    assert f"1 tools offered, about {data['tokens']} tokens in each request" in people.stdout
    assert run(home, "tools", "full").exit_code == 0


def test_a_configuration_that_cannot_be_used_has_its_own_exit_code(home: Home) -> None:
    home.config.write_text("mcp_servers: {s: {comand: x}}")

    assert run(home, "tools").exit_code == 78


# -- what people see --------------------------------------------------------------------------------------------------


def drawn(part: Any, width: int = 80) -> list[str]:
    screen = Console(width=width, record=True, file=StringIO())
    screen.print(part)
    return screen.export_text().splitlines()


def tool(name: str | None, own: str, *, renamed: bool = False, why: str | None = None) -> dict[str, Any]:
    return {"name": name, "tool": own, "is_renamed": renamed, "tokens": 1234, "left_out": why}


def test_a_table_of_tools_fits_80_columns_and_says_what_was_renamed_or_left_out() -> None:
    tools = [
        tool("mcp__s__" + "x" * 43 + "_e6ea80abb31f", "x" * 90, renamed=True),
        tool("mcp__s__plain", "plain"),
        tool(None, "odd", why="its input schema is that of string, not of an object"),
    ]
    report = {"server": "s", "ok": True, "steps": [], "tools": tools, "detail": "", "warnings": []}
    data = {"servers": [report], "offered": 2, "tokens": 2468, "warnings": ["s: tools.include: no tool is named 'x'"]}

    lines = drawn(mcp_view.offered(data))

    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "mcp__s__plain" in text
    assert "odd" in text
    assert "left out: its input schema" in " ".join(text.split())
    assert "warning: s: tools.include: no tool is named 'x'" in text


def test_why_connections_failed_stands_below_them_once_for_each_reason() -> None:
    row = {"worker": 0, "server": "s", "state": "waiting", "since": 90.0, "last_error": "it is away", "detail": "a\nb"}
    rows = [made(Connection, one) for one in (row, {**row, "worker": 1}, {**row, "last_error": None})]

    lines = drawn(render.connections(rows, 100.0), 120)

    assert sum("it is away (10 s ago)" in line for line in lines) == 1
    assert "  the server said:" in lines
    assert lines[-2:] == ["  | a", "  | b"]
