"""Why a server cannot be used: in words for people and models, and in its own words for its operator alone.

What a server writes, on its standard error or as the body of an HTTP error, may hold anything, secrets too. So it goes
to who asks with the operator's tools, and neither to a model nor into the gateway's log.
"""

from __future__ import annotations

from pathlib import Path

from mcp import MCPError

from workers.tools.content import clean, shorten
from workers.tools.outcomes import CONNECTION_CLOSED, kind_of
from workers.tools.stdio import NotStarted
from workers.tools.target import ServerTarget

MAX_ERROR_CHARS = 500
MAX_ANSWER_CHARS = 4_000  # of an error that is a server's answer to a call
MAX_BODY_CHARS = 200  # of an HTTP error
MAX_LINES = 5  # of standard error, the last
MAX_LINES_CHARS = 1_000  # of these together
TAIL_BYTES = 8 * 1024  # of the log that are looked at for them


def words(error: BaseException, limit: int = MAX_ERROR_CHARS) -> str:
    """An error as text of at most ``limit`` characters."""
    return shorten(clean(str(error)) or type(error).__name__, limit)


def kind(error: BaseException) -> str:
    """What an error is, without its words, which may be the server's."""
    error = first(error)
    return kind_of(error.code) if isinstance(error, MCPError) else type(error).__name__


def first(error: BaseException) -> BaseException:
    """The error, or the first of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def why_not_connected(error: BaseException, target: ServerTarget) -> str:
    """Why an attempt to connect failed, for people and models."""
    error = first(error)
    if isinstance(error, NotStarted):
        return f"its command cannot be run: {error}"
    if isinstance(error, MCPError) and error.code == CONNECTION_CLOSED:
        return f"it closed the connection; see logs/{target.log.name}" if target.command else "it hung up"
    return words(error)


def shown(body: bytes) -> str:
    """The beginning of the body of an HTTP error, for an operator."""
    text = body[: 16 * MAX_BODY_CHARS].decode(errors="replace")
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= MAX_BODY_CHARS else text[: MAX_BODY_CHARS - 1] + "…"


def size_of(log: Path) -> int:
    """Where the next words in a log will begin."""
    try:
        return log.stat(follow_symlinks=False).st_size
    except OSError:  # there is none yet
        return 0


def last_words(log: Path, *, since: int) -> str:
    """The last lines in a log behind a place in it, for an operator; or ``""``."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, 2)
            start = max(since if since <= end else 0, end - TAIL_BYTES)  # it was emptied meanwhile
            file.seek(start)
            written = file.read(TAIL_BYTES)
    except OSError:
        return ""
    lines = [line.rstrip() for line in written.decode(errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[-MAX_LINES:])[-MAX_LINES_CHARS:]
