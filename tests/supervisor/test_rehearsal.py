"""The rehearsal of a restart: the command line judges what is on disk, and opens nothing."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from hermes_actors import logs
from hermes_actors.config.model import Config, Settings
from hermes_actors.pool.listeners import ListenFailed
from hermes_actors.pool.pool import TooManyWorkers
from hermes_actors.records.registry import ShardsFixed
from hermes_actors.restart import dry_run as rehearsal
from hermes_actors.restart.dry_run import VARIABLE, CannotRestart, Running, asked_for, check, rehearse
from hermes_actors.restart.handover import CommandLine
from hermes_actors.wire.refusals import RefusalCode

RUNNING = Running(port=8642, shards=8)
ENTRY = "json:dumps"
MARK = "home:boot:"


def settings(**sections: dict[str, Any]) -> Settings:
    config = Config.model_validate({"model": {"provider": "demo"}, **sections})
    return Settings(config=config, environment={}, api_keys={"default": "key"})


def python(code: str, **environment: str) -> CommandLine:
    return CommandLine(words=(sys.executable, "-c", code), environment={**os.environ, **environment})


async def test_a_command_line_that_has_nothing_to_object_may_restart() -> None:
    code = f"import json, os; assert json.loads(os.environ['{VARIABLE}']) == {{'port': 8642, 'shards': 8}}"

    assert await rehearse(python(code), RUNNING, MARK) is None


@pytest.mark.parametrize(
    ("code", "refusal"),
    [
        ("import sys; sys.stderr.write('Error: line 7\\n'); sys.exit(78)", ("configuration", "line 7")),
        ("import sys; sys.exit('Error: the port is taken')", ("cannot_restart", "the port is taken")),
        ("import sys; sys.exit(3)", ("cannot_restart", "the new start ended with exit code 3")),
        ("import os; os.kill(os.getpid(), 9)", ("cannot_restart", "the new start ended with exit code -9")),
    ],
)
async def test_what_the_command_line_objects_is_why_there_is_no_restart(code: str, refusal: tuple[Any, str]) -> None:
    assert await rehearse(python(code), RUNNING, MARK) == CannotRestart(error=refusal[0], why=refusal[1])


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (
            "def begin():\n    raise SystemError('broken code\\nin many words')\nbegin()",
            "SystemError: broken code ({}:2)",
        ),
        ("def begin(:\n    pass", "SyntaxError: invalid syntax ({}:1)"),
        ("import json\ntry:\n    {}['a']\nexcept KeyError:\n    assert False", "AssertionError ({}:5)"),
    ],
)
async def test_code_that_breaks_is_told_in_a_sentence_and_logged_whole(tmp_path: Path, code: str, error: str) -> None:
    program = tmp_path / "broken.py"
    program.write_text(code)

    with capture_logs() as logged:
        refusal = await rehearse(
            CommandLine(words=(sys.executable, str(program)), environment={**os.environ}), RUNNING, MARK
        )

    assert refusal is not None
    assert refusal.error == RefusalCode.CANNOT_RESTART
    assert refusal.why == (
        f"The code on disk cannot be started: {error.format(program)}. Nothing changed; the gateway goes on. "
        "The whole traceback is in logs/supervisor.log."
    )
    (line,) = logged
    assert line["exception"].splitlines()[-1] in ("in many words", "SyntaxError: invalid syntax", "AssertionError")
    assert str(program) in line["exception"]


async def test_long_words_are_cut_at_the_end_of_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "TOLD_CHARS", 15)

    refusal = await rehearse(python("import sys; sys.exit('first line\\nsecond line\\n3rd')"), RUNNING, MARK)

    assert refusal == CannotRestart(error=RefusalCode.CANNOT_RESTART, why="3rd")


async def test_secrets_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_secrets", set())
    logs.protect(["of-the-secret-kind"])

    refusal = await rehearse(python("import sys; sys.exit('key of-the-secret-kind is bad')"), RUNNING, MARK)

    assert refusal is not None
    assert refusal.why == f"key {logs.MASK} is bad"


async def test_a_command_line_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "TIMEOUT_S", 0.2)

    refusal = await rehearse(python("import time; time.sleep(600)"), RUNNING, MARK)

    assert refusal == CannotRestart(error=RefusalCode.CANNOT_RESTART, why="the new start gave no word within 0.2 s")


async def test_a_program_that_is_gone_cannot_be_tried() -> None:
    with pytest.raises(FileNotFoundError):
        await rehearse(CommandLine(words=("/nowhere/python",), environment={}), RUNNING, MARK)


def test_a_process_knows_once_that_it_is_to_rehearse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, '{"port": 8642, "shards": 8}')

    assert asked_for() == RUNNING
    assert asked_for() is None


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"supervisor": {"workers": 3, "shards": 8}},
        {"api_server": {"port": 0}},
        {"api_server": {"host": "0.0.0.0", "port": 8642}},  # the gateway itself has that port
    ],
)
def test_what_can_serve_passes(sections: dict[str, Any]) -> None:
    check(settings(**sections), RUNNING, ENTRY)


@pytest.mark.parametrize(
    ("sections", "error"),
    [
        ({"supervisor": {"shards": 16}}, ShardsFixed),
        ({"api_server": {"host": "no-such-host.invalid"}}, ListenFailed),
        ({"supervisor": {"workers": 250}}, TooManyWorkers),
    ],
)
def test_what_could_not_serve_does_not(sections: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        check(settings(**sections), RUNNING, ENTRY)


def test_a_port_that_another_has_does_not_pass() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenFailed, match="in use"):
            check(settings(api_server={"port": port}), RUNNING, ENTRY)

        check(settings(api_server={"port": port}), replace(RUNNING, port=port), ENTRY)


def test_workers_that_cannot_be_loaded_do_not_pass() -> None:
    with pytest.raises(ImportError):
        check(settings(), RUNNING, "workers.gone:main")
