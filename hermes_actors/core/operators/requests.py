"""Requests of operators, and which workers are heard."""

from __future__ import annotations

from typing import assert_never

from hermes_actors.core.drain import restart as preparation
from hermes_actors.core.effects import Effect, FindSessions, Log, Reply, Send
from hermes_actors.core.events import OperatorAsked, SessionsFound
from hermes_actors.core.operators import reload
from hermes_actors.core.operators.pending import send
from hermes_actors.core.operators.views import session_line, status
from hermes_actors.core.pool.lifecycle import Result
from hermes_actors.core.sessions import marking, records
from hermes_actors.core.sessions.book import BadCursor, Book
from hermes_actors.core.sessions.names import NotOne, only
from hermes_actors.core.state import DrainRequest, Owner, Pending, Process, ReplyTo, SessionEntry, State
from hermes_actors.operations import requests as op
from hermes_actors.operations.requests import OnSession
from hermes_actors.operations.results import SessionsListed, StrikesCleared
from hermes_actors.operations.workers import (
    InspectConnections,
    InspectSession,
    InspectTurns,
    RestartConnections,
    StopRunning,
    WorkerRequest,
)
from hermes_actors.wire.messages import OfShard, Refused, SucceededOnFallback
from hermes_actors.wire.refusals import RefusalCode

# -- workers -----------------------------------------------------------------------------------------------------------


def refusal(state: State, process: Process, message: OfShard) -> Effect | None:
    """The refusal of a worker that does not own the shard of its message, or no longer; None where it owns it."""
    owner = Owner(process.slot, message.fence)
    if 0 <= message.shard < len(state.owners) and state.owners[message.shard] == owner:
        return None
    why = f"shard {message.shard} is not owned by worker {process.slot} with fence {message.fence}"
    if isinstance(message, SucceededOnFallback):
        return Log(level="warning", text=f"ignored {type(message).__name__}", fields={"why": why})
    refused = Refused(request=message.request, code=RefusalCode.STALE_FENCE, why=why)
    return Send(to=(process,), message=refused)


# -- operators ---------------------------------------------------------------------------------------------------------


def operator_asked(state: State, event: OperatorAsked, now: float, book: Book) -> Result:
    """One request of the control socket."""
    reply_to = event.reply_to
    match event.operation:
        case op.ShowStatus():
            return state, (Reply(reply_to=reply_to, result=status(state, book.rows.stored(), now)),)
        case op.ListAllSessions(limit=limit, after=after):
            return state, (_page(state, event, limit, after, book),)
        case op.ShowSession() | op.SuspendSession() | op.ResumeSession() | op.ResetSession() | op.StopTurn() as found:
            return state, (FindSessions(reply_to=reply_to, operation=found),)
        case op.ClearStrikes(session=key):
            cleared = StrikesCleared(cleared=marking.clear(book, key))
            return state, (Reply(reply_to=reply_to, result=cleared),)
        case op.ListConnections() as listing:
            return _collect(state, event, listing, _serving(state), InspectConnections(), now)
        case op.RestartServer() as restart:
            return _restart_server(state, event, restart, now)
        case op.Reload():
            return reload.asked(state, reply_to)
        case op.BeginDrain() as drain:
            return _drain(state, drain, reply_to, now, book)
        case op.CancelDrain():
            return preparation.cancel(state, reply_to, book)
        case op.ShowDrain() | op.PlanDrain() as drain:
            return _collect(state, event, drain, state.live, InspectTurns(), now)
        case _:
            assert_never(event.operation)


def sessions_found(state: State, event: SessionsFound, now: float, book: Book) -> Result:
    """Go on with the request, if the name matches exactly one session."""
    reply_to, operation = event.reply_to, event.operation
    try:
        entry = only(operation.session, event.found)
    except NotOne as error:
        return state, (Reply(reply_to=reply_to, error=error.code, why=str(error)),)
    if isinstance(operation, op.SuspendSession | op.ResumeSession | op.ResetSession):
        return records.change(state, reply_to, operation, entry, now, book)
    asked = StopRunning(key=entry.key) if isinstance(operation, op.StopTurn) else InspectSession(key=entry.key)
    return _collect(state, event, operation, records.owner_of(state, entry), asked, now, entry)


def _collect(
    state: State,
    asker: OperatorAsked | SessionsFound,
    operation: OnSession | op.ListConnections | op.RestartServer | op.ShowDrain | op.PlanDrain,
    to: tuple[Process, ...],
    request: WorkerRequest,
    now: float,
    entry: SessionEntry | None = None,
) -> Result:
    """Send workers a request, and answer the operator when they have responded."""
    pending = Pending(
        reply_to=asker.reply_to,
        operation=operation,
        response=request.result,
        waiting=frozenset(to),
        entry=entry,
    )
    return send(state, pending, request, now)


def _restart_server(state: State, event: OperatorAsked, restart: op.RestartServer, now: float) -> Result:
    server = restart.server
    if server in state.servers:
        return _collect(state, event, restart, _serving(state), RestartConnections(server=server), now)
    why = f"no MCP server is named {server!r}; configured: {', '.join(state.servers) or 'none'}"
    return state, (Reply(reply_to=event.reply_to, error=RefusalCode.NOT_FOUND, why=why),)


def _drain(state: State, operation: op.BeginDrain, reply_to: ReplyTo, now: float, book: Book) -> Result:
    request = DrainRequest(
        then=operation.then, timeout_s=operation.timeout, by="hermes-ctl", asker=operation.asker, reply_to=reply_to
    )
    return preparation.asked(state, request, now, book)


def _page(state: State, event: OperatorAsked, limit: int, after: str | None, book: Book) -> Effect:
    reply_to = event.reply_to
    try:
        entries, cursor = book.rows.page(None, after, limit)
    except BadCursor as error:
        return Reply(reply_to=reply_to, error=RefusalCode.BAD_REQUEST, why=f"after: {error}")
    lines = (session_line(entry, state.owners, state.up, book.strikes(entry.key)) for entry in entries)
    return Reply(reply_to=reply_to, result=SessionsListed(sessions=tuple(lines), next=cursor))


def _serving(state: State) -> tuple[Process, ...]:
    return tuple(map(state.process, state.up))
