"""What stands in the logs, and what must never."""

from __future__ import annotations

import io
import json
import logging
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from fakes.control_peer import BOUND_S
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors import logs
from hermes_actors.config.problems import ConfigError
from hermes_actors.tracebacks import MOST_EXCEPTIONS

SECRET = "correct-horse-battery"


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what configuring does to the process, and forget the secrets."""
    for variable in (logs.LEVEL_VARIABLE, logs.FORMAT_VARIABLE):
        monkeypatch.setenv(variable, "")
    root, ours = logging.getLogger(), [logging.getLogger(name) for name in ("hermes_actors", "workers")]
    before = (root.level, [logger.level for logger in ours], logging.raiseExceptions)
    yield
    while logs._handlers:
        handler = logs._handlers.pop()
        root.removeHandler(handler)
        handler.close()
    root.setLevel(before[0])
    for logger, level in zip(ours, before[1], strict=True):
        logger.setLevel(level)
    logging.raiseExceptions = before[2]
    logging.captureWarnings(capture=False)
    logs._secrets.clear()
    logs.protect([])
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def configured(monkeypatch: pytest.MonkeyPatch, directory: Path | None = None, **options: Any) -> io.StringIO:
    """Configure this process, and return what it takes for stderr."""
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    logs.configure(process="worker-0", directory=directory, **options)
    return stderr


def logger() -> Any:
    return structlog.get_logger("hermes_actors.a_module")


def lines(stderr: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stderr.getvalue().splitlines()]


def test_an_event_is_one_json_line_with_its_ids_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = configured(monkeypatch)

    with structlog.contextvars.bound_contextvars(session="api:default:cli", turn="t1"):
        logger().info("turn_ended", state="completed")

    (line,) = lines(stderr)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "turn_ended",
        "state": "completed",
        "session": "api:default:cli",
        "turn": "t1",
        "level": "info",
        "logger": "hermes_actors.a_module",
        "process": "worker-0",
    }


def test_the_log_file_has_the_same_lines_and_only_its_owner_reads_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "worker-0.log"
    file.touch(mode=0o644)
    stderr = configured(monkeypatch, tmp_path)

    logger().info("hello")

    assert file.read_text() == stderr.getvalue()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_full_log_file_is_rotated_into_private_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(logs, "LOG_FILE_BYTES", 300)
    configured(monkeypatch, tmp_path)

    for number in range(20):
        logger().info("event", number=number)

    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["worker-0.log", *(f"worker-0.log.{n}" for n in range(1, 6))]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_no_file_is_made_before_the_first_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    configured(monkeypatch, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_console_line_holds_no_control_characters_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = configured(monkeypatch, format="console")

    logger().warning("name \x1b[31m", session="\x1b]0;owned\x07", nested={"x": "\x1b[2J"})

    assert "\x1b" not in stderr.getvalue()
    assert "\\x1b]0;owned" in stderr.getvalue()


@pytest.mark.parametrize(("level", "heard"), [("debug", ["d", "i", "e"]), ("info", ["i", "e"]), ("error", ["e"])])
def test_the_level_holds_for_our_loggers(monkeypatch: pytest.MonkeyPatch, level: logs.Level, heard: list[str]) -> None:
    stderr = configured(monkeypatch, level=level)

    logger().debug("d")
    logger().info("i")
    logging.getLogger("workers.another").error("e")

    assert [line["event"] for line in lines(stderr)] == heard


def test_third_parties_are_heard_from_warning_on_whatever_our_level(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = configured(monkeypatch, level="debug")

    logging.getLogger("aiohttp.access").info("GET /")
    logging.getLogger("aiohttp.server").warning("slow %s", "client")

    assert [line["event"] for line in lines(stderr)] == ["slow client"]


def test_a_process_that_is_started_later_logs_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    configured(monkeypatch, level="error", format="json")
    child = (
        "import structlog; from hermes_actors import logs; logs.configure(process='worker-1', directory=None);"
        "log = structlog.get_logger('workers'); log.info('no'); log.error('yes')"
    )

    ran = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, timeout=BOUND_S, check=True)

    (line,) = ran.stderr.splitlines()
    assert json.loads(line)["event"] == "yes"


@pytest.mark.parametrize(
    "field",
    ["authorization", "Authorization", "api_key", "openai_api_key", "key", "token", "access_token", "password",
     "client_secret", "headers", "request_headers", "set-cookie"],
)  # fmt: skip
def test_a_field_named_like_a_secret_is_masked(field: str) -> None:
    assert logs.redact(None, "", {field: "x", "inner": {field: ["x"]}}) == {
        field: logs.MASK,
        "inner": {field: logs.MASK},
    }


@pytest.mark.parametrize("field", ["key_env", "prompt_tokens", "max_tokens", "session", "turn", "monkey"])
def test_a_field_that_only_resembles_one_is_not(field: str) -> None:
    assert logs.redact(None, "", {field: "x"}) == {field: "x"}


@pytest.mark.parametrize("field", ["text", "content", "messages", "body", "arguments"])
def test_a_message_body_is_dropped_at_any_depth(field: str) -> None:
    event = {field: "said", "event": "e", "inner": [{"choice": {field: "said", "index": 0}}]}

    assert logs.redact(None, "", event) == {"event": "e", "inner": [{"choice": {"index": 0}}]}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("sent Authorization: Bearer abc.def", "sent Authorization: [redacted]"),
        ("Incorrect API key provided: sk-proj-abcdef123456.", "Incorrect API key provided: [redacted]."),
        ("GET http://user:pw@host/x", "GET http://[redacted]@host/x"),
        ("GET http://host/x?key=abc&alt=sse", "GET http://host/x[redacted]&alt=sse"),
        ("a task-queue and a risk-free ask", "a task-queue and a risk-free ask"),
    ],
)
def test_what_looks_like_a_secret_is_masked_within_text(text: str, left: str) -> None:
    assert logs.mask(text) == left


def test_what_everybody_knows_is_not_masked_though_a_configuration_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    logs.protect(["/home/alice"])

    assert logs.mask("/home/alice/x") == "/home/alice/x"


def test_a_short_secret_is_masked_only_where_it_stands_alone() -> None:
    logs.protect(["abc"])

    assert [logs.mask("abc"), logs.mask("alphabacus abcd")] == [logs.MASK, "alphabacus abcd"]


def test_a_traceback_says_where_and_of_which_kind_and_not_what_somebody_said(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = configured(monkeypatch)
    said = "meet me at noon"

    try:
        try:
            int(said)
        except ValueError as error:
            raise ExceptionGroup(said, [KeyError(said)]) from error
    except ExceptionGroup:
        logger().exception("failed")
        logging.getLogger("aiohttp.server").exception("failed")

    for line in lines(stderr):
        assert "test_logs.py" in line["exception"]
        assert [text for text in line["exception"].splitlines() if not text.startswith(" ")] == [
            "ValueError",
            "ExceptionGroup",
            "KeyError",
        ]
    assert said not in stderr.getvalue()


def test_a_traceback_keeps_the_words_of_the_system_of_sqlite_and_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    logs.protect([SECRET])
    stderr = configured(monkeypatch)

    ours = ConfigError([])
    for error in (OSError(28, "No space left", f"/{SECRET}"), sqlite3.OperationalError("disk I/O error"), ours):
        logger().error("failed", exc_info=error)

    assert [line["exception"] for line in lines(stderr)] == [
        f"OSError: [Errno 28] No space left: '/{logs.MASK}'",
        "sqlite3.OperationalError: disk I/O error",
        "hermes_actors.config.problems.ConfigError: configuration: 0 problems",
    ]


def test_a_long_chain_of_exceptions_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = configured(monkeypatch)
    error = ValueError()
    for _ in range(10_000):
        after = ValueError()
        after.__context__ = error
        error = after

    logger().error("failed", exc_info=error)

    (line,) = lines(stderr)
    assert line["exception"].splitlines() == ["ValueError"] * MOST_EXCEPTIONS


def test_a_structure_that_contains_itself_is_cut() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless

    assert "…" in repr(logs.redact(None, "", {"x": endless}))


@dataclass
class Holder:
    value: object


secrets = st.text(st.characters(codec="utf-8"), min_size=logs.MIN_SECRET_CHARS, max_size=30)
plain = st.none() | st.booleans() | st.text(max_size=5)


@given(secret=secrets, around=st.text(max_size=10), data=st.data())
def test_a_protected_secret_never_comes_out_wherever_it_stands(secret: str, around: str, data: st.DataObject) -> None:
    logs._secrets.clear()
    logs.protect([secret])
    hidden = st.sampled_from([secret, around + secret, secret + around, f"{around}{secret}{secret}"])
    leaf = plain | hidden | hidden.map(Holder) | hidden.map(Path) | hidden.map(str.encode)
    value = data.draw(
        st.recursive(leaf, lambda inner: st.lists(inner) | st.dictionaries(hidden | plain.map(str), inner))
    )

    redacted = logs.redact(None, "", {"event": f"{around}{secret}", "field": value})

    assert not any(secret in piece for text in _strings(redacted) for piece in text.split(logs.MASK))


def _strings(value: Any) -> Iterator[str]:
    """Every string in a redacted event; nothing but plain data may be in one."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from (name, *_strings(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
    elif isinstance(value, str):
        yield value
    else:
        assert value is None or isinstance(value, bool | int | float)
