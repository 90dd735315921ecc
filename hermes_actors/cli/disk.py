"""What ``hermes-ctl`` reads from a home without a running supervisor, in the shapes that it would answer."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hermes_actors.cli.command import Failed
from hermes_actors.core.views import session_line, session_shown
from hermes_actors.home import Home
from hermes_actors.registry import BadCursor, Registry, find_sessions

NAMES_SHOWN = 5  # of sessions that an ambiguous name may mean


def ask(home: Home, operation: str, **arguments: Any) -> dict[str, Any]:
    """What :func:`hermes_actors.control.client.ask` would return for ``sessions.list`` and ``sessions.show``."""
    return READERS[operation](home, **arguments)


def list_sessions(home: Home, *, limit: int, after: str | None) -> dict[str, Any]:
    """A page of all sessions, as ``sessions.list`` of the control socket.

    Raises:
        Failed: the registry cannot be read, or ``after`` is no cursor.
    """
    if not home.registry.exists():
        return {"sessions": [], "next": None}
    try:
        with _opened(home) as registry:
            entries, following = registry.page(None, after, limit)
            owners = registry.owners()
    except BadCursor as error:
        raise Failed("bad_request", f"after: {error}") from error
    return {"sessions": [session_line(entry, owners, ()) for entry in entries], "next": following}


def show_session(home: Home, *, session: str) -> dict[str, Any]:
    """One session, as ``sessions.show`` of the control socket; no worker is there to tell more.

    Raises:
        Failed: no session is named so, or several may be, or the registry cannot be read.
    """
    if not home.registry.exists():
        raise Failed("not_found", f"{home.root} has no sessions")
    with _opened(home) as registry:
        found = find_sessions(home.registry, session, NAMES_SHOWN)
        owners = registry.owners()
    if not found:
        raise Failed("not_found", f"no session is named {session!r}, nor ends with it")
    if len(found) > 1:
        raise Failed("ambiguous", f"{session!r} may mean {', '.join(entry.key for entry in found)}")
    return session_shown(found[0], owners, (), {})


READERS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "sessions.list": list_sessions,
    "sessions.show": show_session,
}


@contextlib.contextmanager
def _opened(home: Home) -> Iterator[Registry]:
    """The registry, opened so that it cannot be written."""
    try:
        with contextlib.closing(sqlite3.connect(f"{home.registry.as_uri()}?mode=ro", uri=True)) as database:
            yield Registry(database, home.registry)
    except sqlite3.Error as error:
        raise Failed("unreadable", f"{home.registry} cannot be read: {error}") from error
