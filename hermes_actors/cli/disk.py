"""What ``hermes-ctl`` does with a home without a running supervisor, in the shapes that it would answer.

Reading locks nothing; whoever changes something holds the home's lock meanwhile, as a supervisor does.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click
import structlog

from hermes_actors.cli.command import Failed
from hermes_actors.config.load import stored
from hermes_actors.core.operators.views import session_line, session_shown
from hermes_actors.core.sessions.ledger import Ledger
from hermes_actors.core.sessions.marks import resume
from hermes_actors.core.state import SessionEntry
from hermes_actors.home import Home
from hermes_actors.pool.cores import usable_cores, usual_shards
from hermes_actors.records.ledger_file import LedgerFile, LedgerUnusable, read
from hermes_actors.records.registry import BadCursor, Registry, find_sessions
from hermes_actors.records.registry_file import MIGRATIONS, RegistryUnusable
from hermes_actors.supervisor.home_lock import HomeBusy, HomeUnusable, hold
from hermes_actors.supervisor.marking import Marking
from hermes_actors.supervisor.ownership import as_owner

NAMES_SHOWN = 5  # of sessions that an ambiguous name may mean


def ask(home: Home, operation: str, **arguments: Any) -> dict[str, Any]:
    """What :func:`hermes_actors.operators.client.ask` would return for the operations of :data:`OPERATIONS`.

    Raises:
        Failed: it cannot be done; with the error codes of the supervisor where it has them.
    """
    return OPERATIONS[operation](home, **arguments)


# -- reading -----------------------------------------------------------------------------------------------------------


def list_sessions(home: Home, *, limit: int, after: str | None) -> dict[str, Any]:
    """A page of all sessions, as ``sessions.list`` of the control socket."""
    if not home.registry.exists():
        return {"sessions": [], "next": None}
    ledger = strikes(home)
    try:
        with opened(home) as registry:
            entries, following = registry.page(None, after, limit)
            owners = registry.owners()
    except BadCursor as error:
        raise Failed("bad_request", f"after: {error}") from error
    return {
        "sessions": [session_line(entry, owners, (), ledger.count(entry.key)) for entry in entries],
        "next": following,
    }


def show_session(home: Home, *, session: str) -> dict[str, Any]:
    """One session, as ``sessions.show`` of the control socket; no worker is there to tell more."""
    with opened(home) as registry:
        entry = found(home, session)
        return session_shown(entry, registry.owners(), (), strikes(home).count(entry.key), {})


def found(home: Home, session: str) -> SessionEntry:
    """The one session with this key or last part of one.

    Raises:
        Failed: there is none, or several, or the registry cannot be read.
    """
    with opened(home):
        entries = find_sessions(home.registry, session, NAMES_SHOWN)
    if not entries:
        raise Failed("not_found", f"no session is named {session!r}, nor ends with it")
    if len(entries) > 1:
        raise Failed("ambiguous", f"{session!r} may mean {', '.join(entry.key for entry in entries)}")
    return entries[0]


@contextlib.contextmanager
def opened(home: Home) -> Iterator[Registry]:
    """The registry, opened so that it cannot be written.

    Raises:
        Failed: there is none, or it cannot be read.
    """
    if not home.registry.exists():
        raise Failed("not_found", f"{home.root} has no sessions")
    try:
        with contextlib.closing(sqlite3.connect(f"{home.registry.as_uri()}?mode=ro", uri=True)) as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version != len(MIGRATIONS):
                why = (
                    "a newer one"
                    if version > len(MIGRATIONS)
                    else "an earlier one: start the gateway once, it adapts it"
                )
                raise Failed("unreadable", f"{home.registry} is not of this release, but of {why}")
            yield Registry(database, home.registry)
    except sqlite3.Error as error:
        raise Failed("unreadable", f"{home.registry} cannot be read: {error}") from error


def strikes(home: Home) -> Ledger:
    """The ledger as it is on disk; empty, and stderr says why, where it cannot be read."""
    try:
        return read(home.ledger)
    except LedgerUnusable as error:
        click.echo(f"strikes are not known: {error}", err=True)
        return Ledger()


# -- changing ----------------------------------------------------------------------------------------------------------


def change_session(home: Home, change: Callable[[Marking, str], object], session: str) -> dict[str, Any]:
    """Change how a session stands, as ``sessions.suspend``, ``.resume`` and ``.reset`` of the control socket."""
    entry = found(home, session)
    if change is Marking.resume and resume(entry.marks, entry.session_id) is None:
        raise Failed("not_suspended", f"{entry.key} is not suspended, and no transcript of it was set aside")
    with _held(home) as marking:
        change(marking, entry.key)
    return show_session(home, session=entry.key)


def clear_strikes(home: Home, *, session: str | None) -> dict[str, Any]:
    """Forget strikes, as ``ledger.clear`` of the control socket."""
    with _held(home) as marking:
        return {"cleared": list(marking.clear(None if session is None else [session]))}


@contextlib.contextmanager
def _held(home: Home) -> Iterator[Marking]:
    """Marks and strikes in the hands of their one writer; durable at the end of the block."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for the answer
    threshold = stored(home).supervisor.stuck_threshold
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(as_owner(home))
            stack.enter_context(hold(home))
            usual = usual_shards(usable_cores())
            registry = Registry.open(home, shards=None, usual_shards=usual, durability="power_loss")
            stack.callback(registry.close)
            file = LedgerFile.open(home.ledger)
            marking = Marking(registry, file, lambda: threshold)
            stack.callback(marking.close)
            if file.aside is not None:
                click.echo(f"{file.aside.why}; it was moved to {file.aside.path}, and its strikes are gone", err=True)
            yield marking
            marking.commit()
            fault = marking.facts()["fault"]
    except HomeBusy as error:
        raise Failed("busy", f"{error}; try again") from error
    except (HomeUnusable, RegistryUnusable, LedgerUnusable) as error:
        raise Failed("unreadable", str(error)) from error
    except sqlite3.Error as error:
        raise Failed("not_written", f"{home.registry} cannot be written: {error}; nothing changed") from error
    if fault is not None:
        raise Failed("not_written", fault)


OPERATIONS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "sessions.list": list_sessions,
    "sessions.show": show_session,
    "sessions.suspend": lambda home, session: change_session(home, Marking.suspend, session),
    "sessions.resume": lambda home, session: change_session(home, Marking.resume, session),
    "sessions.reset": lambda home, session: change_session(home, Marking.reset, session),
    "ledger.clear": clear_strikes,
}
