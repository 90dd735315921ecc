"""What workers and operators ask of the supervisor."""

from __future__ import annotations

from typing import assert_never

from hermes_actors.core.drain import restart as preparation
from hermes_actors.core.effects import (
    ActivateSession,
    ClearStrikes,
    Effect,
    FindSessions,
    ForgetSession,
    Log,
    PageForOperator,
    PageForWorker,
    RecordFallback,
    RenameSession,
    Reply,
    ReplyStatus,
    SendRefused,
)
from hermes_actors.core.events import (
    FromOwner,
    OperatorAsked,
    OwnerAsked,
    PageWanted,
    RenameWanted,
    SessionDropped,
    SessionsFound,
    SessionWanted,
    TurnFellBack,
)
from hermes_actors.core.operators import reload
from hermes_actors.core.operators.pending import send
from hermes_actors.core.pool.lifecycle import Result
from hermes_actors.core.sessions import records
from hermes_actors.core.sessions.names import NotOne, only
from hermes_actors.core.state import Owner, Pending, Process, SessionEntry, State, Waiting, Wish
from hermes_actors.operations import requests as op
from hermes_actors.operations.requests import OnSession
from hermes_actors.operations.workers import (
    InspectConnections,
    InspectSession,
    InspectTurns,
    RestartConnections,
    StopRunning,
    WorkerRequest,
)
from hermes_actors.wire.refusals import RefusalCode

PAGE_MOST = 1000  # sessions


# -- workers -----------------------------------------------------------------------------------------------------------


def session_wanted(state: State, event: SessionWanted) -> Result:
    """Which transcript a session goes on with."""
    activate = ActivateSession(
        slot=event.slot,
        generation=event.generation,
        request=event.request,
        key=event.key,
        principal=event.principal,
        shard=event.shard,
        create=event.create,
    )
    return state, (activate,)


def session_dropped(state: State, event: SessionDropped) -> Result:
    """A session was deleted."""
    forget = ForgetSession(slot=event.slot, generation=event.generation, request=event.request, key=event.key)
    return state, (forget,)


def rename_wanted(state: State, event: RenameWanted) -> Result:
    """A session begins another transcript."""
    rename = RenameSession(slot=event.slot, generation=event.generation, request=event.request, key=event.key)
    return state, (rename,)


def fell_back(state: State, event: TurnFellBack) -> Result:
    """Have the session's actor restarted, once."""
    reason = f"{event.turn_id} succeeded on fallback {event.provider}/{event.model}"
    record = RecordFallback(
        slot=event.slot, generation=event.generation, key=event.key, turn_id=event.turn_id, reason=reason
    )
    return state, (record,)


def page_wanted(state: State, event: PageWanted) -> Result:
    """A page for whichever worker the caller came to."""
    page = PageForWorker(
        slot=event.slot,
        generation=event.generation,
        request=event.request,
        principal=event.principal,
        after=event.after,
        limit=max(1, min(event.limit, PAGE_MOST)),
    )
    return state, (page,)


def refusal(state: State, event: FromOwner) -> Effect | None:
    """What becomes of the word of a worker that does not own the shard, or not any more; None where it does."""
    if 0 <= event.shard < len(state.owners) and state.owners[event.shard] == Owner(event.slot, event.fence):
        return None
    why = f"shard {event.shard} is not owned by worker {event.slot} with fence {event.fence}"
    if not isinstance(event, OwnerAsked):
        return Log(level="warning", text=f"ignored {type(event).__name__}", fields={"why": why})
    return SendRefused(
        slot=event.slot, generation=event.generation, request=event.request, code=RefusalCode.STALE_FENCE, why=why
    )


# -- operators ---------------------------------------------------------------------------------------------------------


def operator_asked(state: State, event: OperatorAsked, now: float) -> Result:
    """One request of the control socket."""
    client, request = event.client, event.request
    match event.operation:
        case op.ShowStatus():
            return state, (ReplyStatus(client=client, request=request, state=state, now=now),)
        case op.ListAllSessions(limit=limit, after=after):
            page = PageForOperator(
                client=client, request=request, after=after, limit=limit, owners=state.owners, up=state.up
            )
            return state, (page,)
        case op.ShowSession() | op.SuspendSession() | op.ResumeSession() | op.ResetSession() | op.StopTurn() as found:
            return state, (FindSessions(client=client, request=request, operation=found),)
        case op.ClearStrikes(session=key):
            return state, (ClearStrikes(client=client, request=request, key=key),)
        case op.ListConnections() as listing:
            return _collect(state, event, listing, _serving(state), InspectConnections(), now)
        case op.RestartServer() as restart:
            return _restart_server(state, event, restart, now)
        case op.Reload():
            return reload.asked(state, client, request)
        case op.BeginDrain() | op.CancelDrain() as drain:
            return _drain(state, drain, Waiting(client, request), now)
        case op.ShowDrain() | op.PlanDrain() as drain:
            return _collect(state, event, drain, state.live, InspectTurns(), now)
        case _:
            assert_never(event.operation)


def sessions_found(state: State, event: SessionsFound, now: float) -> Result:
    """Go on with the request, if the name means exactly one session."""
    client, request, operation = event.client, event.request, event.operation
    try:
        entry = only(operation.session, event.found)
    except NotOne as error:
        return state, (Reply(client=client, request=request, error=error.code, why=str(error)),)
    if isinstance(operation, op.SuspendSession | op.ResumeSession | op.ResetSession):
        return records.change(state, client, request, operation, entry, now)
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
        client=asker.client,
        request=asker.request,
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
    return state, (Reply(client=event.client, request=event.request, error=RefusalCode.NOT_FOUND, why=why),)


def _drain(state: State, operation: op.BeginDrain | op.CancelDrain, waiting: Waiting, now: float) -> Result:
    if isinstance(operation, op.CancelDrain):
        return preparation.cancel(state, waiting)
    wish = Wish(
        then=operation.then,
        timeout_s=operation.timeout,
        by="hermes-ctl",
        asker=operation.asker,
        waiting=waiting,
    )
    return preparation.asked(state, wish, now)


def _serving(state: State) -> tuple[Process, ...]:
    return tuple(map(state.process, state.up))
