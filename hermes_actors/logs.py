"""Logging: one structured line an event, to the home's log file and to stderr, without secrets or message bodies.

A module asks for its logger once, ``log = structlog.get_logger(__name__)``, and says ``log.info("ended", turn=turn)``.
Ids that hold for a while (``session``, ``turn``, ``worker``) are bound with ``structlog.contextvars``.
The loggers of the standard library and of third parties go the same way, from WARNING on.

What must not be written is taken out before anything renders it: fields that carry message bodies are dropped, fields
named like secrets are masked, and so is each known secret (:func:`protect`), wherever in a string it stands. Tracebacks
come without the words of exceptions that may quote a message.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor

from hermes_actors.home import PRIVATE_FILE
from hermes_actors.terminal import printable
from hermes_actors.tracebacks import traceback_of

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "console", "json"]

LOG_FILE_BYTES = 10 * 1024 * 1024  # then it becomes <process>.log.1
LOG_FILES_KEPT = 5  # of each process, besides the one being written
LEVEL_VARIABLE = "HERMES_ACTORS_LOG_LEVEL"
FORMAT_VARIABLE = "HERMES_ACTORS_LOG_FORMAT"

MASK = "[redacted]"
MIN_SECRET_CHARS = 6  # a shorter value is masked only where it is all there is: as part of words it would eat the log
MAX_DEPTH = 8  # of containers in a field; what lies deeper is left out

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_OURS = ("hermes_actors", "workers")
_BODIES = frozenset({"text", "content", "messages", "body", "arguments"})
_FORMATTER_KEYS = frozenset({"_record", "_from_structlog"})  # structlog's own, removed before rendering
_SECRET_NAME = re.compile(
    r"(^|[_-])(key|token|secret|password|passwd|credentials?)$|api_?keys?$|authorization|cookie|headers$", re.IGNORECASE
)
_SECRET_SHAPES = (
    r"(?i:\bbearer)\s+\S+",
    r"\bsk-[\w-]{8,}",
    r"(?<=://)[^/\s@]+(?=@)",  # user and password of a URL
    r"(?i:[?&](?:api_?key|key|access_token|token)=)[^&\s]+",
)
_ORDINARY = ("HOME", "USER", "LOGNAME", "PATH", "PWD", "SHELL", "LANG", "TERM", "TMPDIR", "HOSTNAME")

_secrets: set[str] = set()
_secret = re.compile("|".join(_SECRET_SHAPES))
_handlers: list[logging.Handler] = []


def protect(values: Iterable[str]) -> None:
    """Mask these values from now on, wherever they stand in a field or message.

    Values that the environment holds for everybody (``$HOME``, ``$PATH``…) are no secrets, though configurations
    name them too.
    """
    global _secret  # the one pattern that all lines are matched against
    ordinary = {os.environ.get(name) for name in _ORDINARY}
    _secrets.update(value for value in values if value and value not in ordinary)
    longest_first = sorted((value for value in _secrets if len(value) >= MIN_SECRET_CHARS), key=len, reverse=True)
    _secret = re.compile("|".join([*map(re.escape, longest_first), *_SECRET_SHAPES]))


def configure(
    *,
    process: str,
    directory: Path | None,
    level: Level | None = None,
    format: Format | None = None,  # noqa: A002  # the name of the option it comes from
) -> None:
    """Set logging up for this process; once, before its first line.

    Args:
        process: ``supervisor`` or ``worker-<slot>``; names the file and stands in each line.
        directory: where ``<process>.log`` is kept (JSON lines, mode 0600, rotated); None: stderr alone.
        level: of our own loggers. None: what the process that started this one was given, else ``info``.
        format: of stderr; ``auto`` is ``console`` on a terminal, else ``json``. None: as for ``level``.
    """
    chosen_level = _inherited(LEVEL_VARIABLE, level, "info").upper()
    chosen_format = _inherited(FORMAT_VARIABLE, format, "auto")
    number = logging.getLevelNamesMapping().get(chosen_level, logging.INFO)

    prepare = _preparation(process)
    structlog.configure(
        processors=[*prepare, ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    while _handlers:
        old = _handlers.pop()
        root.removeHandler(old)
        old.close()
    _handlers.append(_to_stderr(sys.stderr, chosen_format, prepare))
    if directory is not None:
        _handlers.append(_to_file(directory / f"{process}.log", prepare))
    for handler in _handlers:
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(number)
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False  # a full disk must not turn each line into a traceback: stderr has the line


def redact(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """The processor that takes secrets and message bodies out of an event; nothing but plain data is left in it."""
    return {
        name: value if name in _FORMATTER_KEYS else _field(name, value, 0)
        for name, value in event.items()
        if name not in _BODIES
    }


def _field(name: str, value: Any, depth: int) -> Any:
    if value is not None and _SECRET_NAME.search(name):
        return MASK
    return _plain(value, depth)


def _plain(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return mask(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth == MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {
            mask(str(name)): _field(str(name), inner, depth + 1)
            for name, inner in value.items()
            if str(name) not in _BODIES
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner, depth + 1) for inner in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    return mask(repr(value))


def mask(text: str) -> str:
    """The text without what is known to be secret or looks like it."""
    return MASK if text in _secrets else _secret.sub(MASK, text)


def _inherited(variable: str, given: str | None, default: str) -> str:
    """A choice of this process, kept in the environment for the processes it starts."""
    chosen = given or os.environ.get(variable) or default
    os.environ[variable] = chosen
    return chosen


def _preparation(process: str) -> list[Processor]:
    """From what the caller said to what may be rendered; the same for our loggers and for everybody else's."""

    def name_process(_logger: Any, _method: str, event: EventDict) -> EventDict:
        event["process"] = process
        return event

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _without_words,  # here, so that tracebacks are redacted too
        name_process,
        redact,
    ]


_without_words = structlog.processors.ExceptionRenderer(lambda raised: traceback_of(raised[1]))


def _visible(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """No control characters for the terminal; JSON escapes them anyway."""
    return {name: printable(value) if isinstance(value, str) else value for name, value in event.items()}


def _formatter(prepare: list[Processor], *render: Processor) -> ProcessorFormatter:
    return ProcessorFormatter(
        foreign_pre_chain=prepare, processors=[ProcessorFormatter.remove_processors_meta, *render]
    )


def _to_stderr(stream: TextIO, wanted: str, prepare: list[Processor]) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    if wanted == "console" or (wanted == "auto" and stream.isatty()):
        colors = stream.isatty() and not os.environ.get("NO_COLOR")
        handler.setFormatter(_formatter(prepare, _visible, structlog.dev.ConsoleRenderer(colors=colors)))
    else:
        handler.setFormatter(_formatter(prepare, structlog.processors.JSONRenderer()))
    return handler


def _to_file(path: Path, prepare: list[Processor]) -> logging.Handler:
    handler = _PrivateFile(path, maxBytes=LOG_FILE_BYTES, backupCount=LOG_FILES_KEPT, encoding="utf-8", delay=True)
    handler.setFormatter(_formatter(prepare, structlog.processors.JSONRenderer()))
    return handler


class _PrivateFile(RotatingFileHandler):
    """A rotated file that only its owner reads, from its first byte."""

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: ARG002, N802  # the library's signature
        """Whether the file is full; the library's own renders each line once more, to ask before it would be."""
        return self.stream is not None and self.stream.tell() >= self.maxBytes

    def _open(self) -> TextIOWrapper:
        opened = os.open(self.baseFilename, _APPEND, PRIVATE_FILE)
        os.fchmod(opened, PRIVATE_FILE)  # one that was there already may be open to others
        return cast("TextIOWrapper", os.fdopen(opened, self.mode, encoding=self.encoding))
