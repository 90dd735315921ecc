"""Programs of MCP entries: found, or named."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.config_desk import KEYS, Desk

from hermes_actors.config.programs import missing_programs


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk.at(tmp_path / "home")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """An executable in a directory of its own."""
    path = tmp_path / "tools" / "server"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o700)
    return path


def missing(desk: Desk, entry: str, **environ: str) -> list[str]:
    settings = desk.accepted(f"mcp_servers: {{a: {{{entry}}}}}", KEYS | environ)
    return [str(problem) for problem in missing_programs(settings, environ)]


def test_a_command_that_is_nowhere_is_named_with_what_to_do(desk: Desk) -> None:
    (told,) = missing(desk, "command: no-such-server", PATH="/usr/bin")

    assert told.startswith("mcp_servers.a.command: it is not on PATH: no-such-server\n")


def test_a_file_that_is_not_there_or_not_executable_is_named(desk: Desk, program: Path) -> None:
    assert missing(desk, f"command: {program}") == []
    program.chmod(0o600)

    (told,) = missing(desk, f"command: {program}")
    assert "there is no such program" in told


@pytest.mark.parametrize(
    "entry",
    [
        "command: server",
        "command: '${NAME}'",
        "command: other, enabled: false",
        "url: 'http://h/mcp'",
        "command: ./server, cwd: '${TOOLS}'",
        "command: server, env: {PATH: '${TOOLS}'}",
    ],
)
def test_a_command_is_looked_for_as_a_worker_does(desk: Desk, program: Path, entry: str) -> None:
    path = "/nowhere" if "PATH" in entry else str(program.parent)

    assert missing(desk, entry, PATH=path, TOOLS=str(program.parent), NAME="server") == []


def test_an_entry_with_a_path_of_its_own_is_not_looked_for_on_ours(desk: Desk, program: Path) -> None:
    assert missing(desk, "command: server, env: {PATH: /nowhere}", PATH=str(program.parent))
