"""What ``hermes-ctl`` does with a home without a running supervisor, with the results that a supervisor would return.

Reading locks nothing. A change holds the home's lock meanwhile, as a supervisor does; the same ``step`` decides it.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, TypeVar, cast

import click
import structlog

from hermes_actors.config.load import stored
from hermes_actors.core.effects import Reply
from hermes_actors.core.events import Event, OperatorAsked, SessionsFound
from hermes_actors.core.operators.views import session_line, session_shown
from hermes_actors.core.sessions.book import BadCursor
from hermes_actors.core.sessions.ledger import Ledger
from hermes_actors.core.sessions.marking import left_over
from hermes_actors.core.sessions.names import MOST_SOUGHT, NotOne, only
from hermes_actors.core.state import ReplyTo, SessionEntry, State
from hermes_actors.core.step import step
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
from hermes_actors.operations.results import Phase, SessionShown, SessionsListed
from hermes_actors.operators.client import OperationFailed
from hermes_actors.pool.cores import usable_cores, usual_shards
from hermes_actors.records.database import RegistryFailed
from hermes_actors.records.ledger_file import LedgerFile, LedgerUnusable, read
from hermes_actors.records.registry import Registry, find_sessions
from hermes_actors.records.registry_file import RegistryUnusable, read_only
from hermes_actors.supervisor.home_lock import HomeBusy, HomeUnusable, hold
from hermes_actors.supervisor.ownership import as_owner
from hermes_actors.supervisor.recorder import NotWritable, Recorder
from hermes_actors.supervisor.settings import limits
from hermes_actors.wire.refusals import RefusalCode

R = TypeVar("R")


def request(home: Home, operation: Operation[R]) -> R:
    """What :func:`hermes_actors.operators.client.ask` would return, for operations on sessions and strikes.

    Raises:
        OperationFailed: it cannot be done; the code is that of the supervisor, if it has one for this.
    """
    result: Any
    match operation:
        case ListAllSessions(limit=limit, after=after):
            result = list_sessions(home, limit, after)
        case ShowSession(session=session):
            result = show_session(home, session)
        case SuspendSession() | ResumeSession() | ResetSession():
            entries = (found(home, operation.session),)
            result = decide(home, SessionsFound(reply_to=ReplyTo(0, 0), operation=operation, found=entries))
        case ClearStrikes():
            result = decide(home, OperatorAsked(reply_to=ReplyTo(0, 0), operation=operation))
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
        raise OperationFailed(RefusalCode.BAD_REQUEST, f"after: {error}") from error
    lines = (session_line(entry, owners, (), ledger.count(entry.key)) for entry in entries)
    return SessionsListed(sessions=tuple(lines), next=following)


def show_session(home: Home, session: str) -> SessionShown:
    """One session, without what only a worker knows."""
    with opened(home) as registry:
        entry = found(home, session)
        return session_shown(entry, registry.owners(), (), strikes(home).count(entry.key), None)


def found(home: Home, session: str) -> SessionEntry:
    """The one session with this key, or whose key ends with this.

    Raises:
        OperationFailed: there is none, or several, or the registry cannot be read.
    """
    with opened(home):
        entries = find_sessions(home.registry, session, MOST_SOUGHT)
    try:
        return only(session, entries)
    except NotOne as error:
        raise OperationFailed(error.code, str(error)) from error


@contextlib.contextmanager
def opened(home: Home) -> Iterator[Registry]:
    """The registry, opened so that it cannot be written.

    Raises:
        OperationFailed: there is none, or it cannot be read.
    """
    if not home.registry.exists():
        raise OperationFailed(RefusalCode.NOT_FOUND, f"{home.root} has no sessions")
    try:
        with contextlib.closing(read_only(home.registry)) as database:
            yield Registry(database, home.registry)
    except RegistryUnusable as error:
        raise OperationFailed("unreadable", str(error)) from error
    except RegistryFailed as error:
        raise OperationFailed("unreadable", f"{home.registry} cannot be read: {error}") from error


def strikes(home: Home) -> Ledger:
    """The ledger as it is on disk; empty, and stderr says why, where it cannot be read."""
    try:
        return read(home.ledger)
    except LedgerUnusable as error:
        click.echo(f"strikes are not known: {error}", err=True)
        return Ledger()


# -- changing ----------------------------------------------------------------------------------------------------------


def decide(home: Home, event: Event) -> Any:
    """Decide an event as a supervisor does, with no worker, record it, and return the result for the operator.

    Raises:
        OperationFailed: it cannot be done.
    """
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for the answer
    config = stored(home)
    try:
        with _held(home) as (registry, file):
            recorder = Recorder(registry, file, None, lambda: config.supervisor.stuck_threshold)
            now = time.monotonic()
            state = State(
                limits=limits(config),
                workers=(),
                owners=registry.owners(),
                phase=Phase.SERVING,
                ledger=left_over(file.ledger, registry.session, lost=registry.behind is not None),
                epoch=time.time() - now,
            )
            with recorder.batch():
                state, effects = step(state, event, now, recorder)
                (reply,) = [effect for effect in recorder.perform(effects) if isinstance(effect, Reply)]
                recorder.commit(state.ledger)
    except HomeBusy as error:
        raise OperationFailed(RefusalCode.BUSY, f"{error}; try again") from error
    except (HomeUnusable, RegistryUnusable, LedgerUnusable) as error:
        raise OperationFailed("unreadable", str(error)) from error
    except (NotWritable, RegistryFailed) as error:
        raise OperationFailed("not_written", f"{home.registry} cannot be written: {error}; nothing changed") from error
    if reply.error is not None:
        raise OperationFailed(reply.error, reply.why)
    if recorder.ledger_fault is not None:
        raise OperationFailed("not_written", recorder.ledger_fault)
    return reply.result


@contextlib.contextmanager
def _held(home: Home) -> Iterator[tuple[Registry, LedgerFile]]:
    """The records, opened by their one writer."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(as_owner(home))
        stack.enter_context(hold(home))
        usual = usual_shards(usable_cores())
        registry = Registry.open(home, shards=None, usual_shards=usual, durability="power_loss")
        stack.callback(registry.close)
        file = LedgerFile.open(home.ledger)
        stack.callback(file.close)
        if file.aside is not None:
            click.echo(f"{file.aside.why}; it was moved to {file.aside.path}, and its strikes are gone", err=True)
        yield registry, file
