"""What ``hermes-ctl`` does with a home without a running supervisor, in the shapes that it would answer.

Reading locks nothing; whoever changes something holds the home's lock meanwhile, as a supervisor does.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import click
import structlog

from hermes_actors.config.load import stored
from hermes_actors.core.operators.views import session_line, session_shown
from hermes_actors.core.sessions.ledger import Ledger
from hermes_actors.core.sessions.marks import resume
from hermes_actors.core.sessions.names import MOST_SOUGHT, NotOne, only
from hermes_actors.core.state import SessionEntry
from hermes_actors.home import Home
from hermes_actors.operations.operation import Operation
from hermes_actors.operations.requests import (
    ClearStrikes,
    ListAllSessions,
    ResetSession,
    ResumeSession,
    ShowSession,
    SuspendSession,
)
from hermes_actors.operations.results import SessionShown, SessionsListed, StrikesCleared
from hermes_actors.operators.client import RequestFailed
from hermes_actors.pool.cores import usable_cores, usual_shards
from hermes_actors.records.database import RegistryFailed
from hermes_actors.records.ledger_file import LedgerFile, LedgerUnusable, read
from hermes_actors.records.registry import BadCursor, Registry, find_sessions
from hermes_actors.records.registry_file import RegistryUnusable, read_only
from hermes_actors.supervisor.home_lock import HomeBusy, HomeUnusable, hold
from hermes_actors.supervisor.marking import Marking
from hermes_actors.supervisor.ownership import as_owner
from hermes_actors.wire.refusals import RefusalCode

R = TypeVar("R")


def request(home: Home, operation: Operation[R]) -> R:
    """What :func:`hermes_actors.operators.client.ask` would return, for operations on sessions and strikes.

    Raises:
        RequestFailed: it cannot be done; with the codes of the supervisor where it has them.
    """
    result: Any
    match operation:
        case ListAllSessions(limit=limit, after=after):
            result = list_sessions(home, limit, after)
        case ShowSession(session=session):
            result = show_session(home, session)
        case SuspendSession(session=session):
            result = change_session(home, Marking.suspend, session)
        case ResumeSession(session=session):
            result = change_session(home, Marking.resume, session)
        case ResetSession(session=session):
            result = change_session(home, Marking.reset, session)
        case ClearStrikes(session=key):
            result = clear_strikes(home, key)
        case _:
            raise NotImplementedError(f"{operation.name} needs a supervisor")
    return cast("R", result)


# -- reading -----------------------------------------------------------------------------------------------------------


def list_sessions(home: Home, limit: int, after: str | None) -> SessionsListed:
    """A page of all sessions."""
    if not home.registry.exists():
        return SessionsListed(sessions=(), next=None)
    ledger = strikes(home)
    try:
        with opened(home) as registry:
            entries, following = registry.page(None, after, limit)
            owners = registry.owners()
    except BadCursor as error:
        raise RequestFailed(RefusalCode.BAD_REQUEST, f"after: {error}") from error
    lines = (session_line(entry, owners, (), ledger.count(entry.key)) for entry in entries)
    return SessionsListed(sessions=tuple(lines), next=following)


def show_session(home: Home, session: str) -> SessionShown:
    """One session; no worker is there to tell more."""
    with opened(home) as registry:
        entry = found(home, session)
        return session_shown(entry, registry.owners(), (), strikes(home).count(entry.key), None)


def found(home: Home, session: str) -> SessionEntry:
    """The one session with this key or last part of one.

    Raises:
        RequestFailed: there is none, or several, or the registry cannot be read.
    """
    with opened(home):
        entries = find_sessions(home.registry, session, MOST_SOUGHT)
    try:
        return only(session, entries)
    except NotOne as error:
        raise RequestFailed(error.code, str(error)) from error


@contextlib.contextmanager
def opened(home: Home) -> Iterator[Registry]:
    """The registry, opened so that it cannot be written.

    Raises:
        RequestFailed: there is none, or it cannot be read.
    """
    if not home.registry.exists():
        raise RequestFailed(RefusalCode.NOT_FOUND, f"{home.root} has no sessions")
    try:
        with contextlib.closing(read_only(home.registry)) as database:
            yield Registry(database, home.registry)
    except RegistryUnusable as error:
        raise RequestFailed("unreadable", str(error)) from error
    except RegistryFailed as error:
        raise RequestFailed("unreadable", f"{home.registry} cannot be read: {error}") from error


def strikes(home: Home) -> Ledger:
    """The ledger as it is on disk; empty, and stderr says why, where it cannot be read."""
    try:
        return read(home.ledger)
    except LedgerUnusable as error:
        click.echo(f"strikes are not known: {error}", err=True)
        return Ledger()


# -- changing ----------------------------------------------------------------------------------------------------------


def change_session(home: Home, change: Callable[[Marking, str], object], session: str) -> SessionShown:
    """Change how a session stands."""
    entry = found(home, session)
    if change is Marking.resume and resume(entry.marks, entry.session_id) is None:
        raise RequestFailed(
            RefusalCode.NOT_SUSPENDED, f"{entry.key} is not suspended, and no transcript of it was set aside"
        )
    with _held(home) as marking:
        change(marking, entry.key)
    return show_session(home, entry.key)


def clear_strikes(home: Home, key: str | None) -> StrikesCleared:
    """Clear the strikes of a session, or all."""
    with _held(home) as marking:
        return StrikesCleared(cleared=tuple(marking.clear(None if key is None else [key])))


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
            fault = marking.facts().fault
    except HomeBusy as error:
        raise RequestFailed(RefusalCode.BUSY, f"{error}; try again") from error
    except (HomeUnusable, RegistryUnusable, LedgerUnusable) as error:
        raise RequestFailed("unreadable", str(error)) from error
    except RegistryFailed as error:
        raise RequestFailed("not_written", f"{home.registry} cannot be written: {error}; nothing changed") from error
    if fault is not None:
        raise RequestFailed("not_written", fault)
