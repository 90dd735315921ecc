"""What workers and operators ask of the supervisor."""

from __future__ import annotations

from hermes_actors.core.drain import requests as drain_requests
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
from hermes_actors.core.operators.arguments import BadArgument, text
from hermes_actors.core.operators.questions import query
from hermes_actors.core.operators.views import status
from hermes_actors.core.pool.lifecycle import Result
from hermes_actors.core.sessions import records
from hermes_actors.core.state import ListConnections, Owner, Process, RestartServer, ShowSession, State
from hermes_actors.wire.refusals import RefusalCode

PAGE_MOST = 1000  # sessions
PAGE_USUAL = 100  # sessions
NAMES_SHOWN = 5  # of sessions that an ambiguous name may mean


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
    client, request, arguments = event.client, event.request, event.arguments
    try:
        match event.operation:
            case "status":
                return state, (ReplyStatus(client=client, request=request, data=status(state, now)),)
            case "sessions.list":
                return state, (_page(state, event),)
            case "sessions.show" | "sessions.suspend" | "sessions.resume" | "sessions.reset" | "sessions.stop":
                wanted = text(arguments, "session")
                find = FindSessions(client=client, request=request, wanted=wanted, operation=event.operation)
                return state, (find,)
            case "ledger.clear":
                key = None if arguments.get("session") is None else text(arguments, "session")
                return state, (ClearStrikes(client=client, request=request, key=key),)
            case "mcp":
                return query(state, event, ListConnections(), _serving(state), "mcp", "", now)
            case "mcp.restart":
                return _restart_server(state, event, now)
            case "reload":
                return reload.asked(state, client, request)
            case operation if operation in drain_requests.OPERATIONS:
                return drain_requests.answer(state, event, now)
            case unknown:
                raise BadArgument(f"unknown operation {unknown!r}")
    except BadArgument as error:
        return state, (Reply(client=client, request=request, error=RefusalCode.BAD_REQUEST, why=str(error)),)


def sessions_found(state: State, event: SessionsFound, now: float) -> Result:
    """Ask the session's worker for the rest, when the name means exactly one session."""
    client, request, found = event.client, event.request, event.found
    if not found:
        why = f"no session is named {event.wanted!r}, nor ends with it"
        return state, (Reply(client=client, request=request, error=RefusalCode.NOT_FOUND, why=why),)
    if len(found) > 1:
        names = ", ".join(entry.key for entry in found[:NAMES_SHOWN])
        more = ", …" if len(found) > NAMES_SHOWN else ""
        why = f"{event.wanted!r} may mean {names}{more}"
        return state, (Reply(client=client, request=request, error=RefusalCode.AMBIGUOUS, why=why),)
    (entry,) = found
    if event.operation in records.CHANGES:
        return records.change(state, event, entry, records.CHANGES[event.operation], now)
    if event.operation == "sessions.stop":
        return records.stop_turn(state, event, entry, now)
    to = records.owner_of(state, entry)
    return query(state, event, ShowSession(entry=entry), to, "session", entry.key, now)


def _restart_server(state: State, event: OperatorAsked, now: float) -> Result:
    server = text(event.arguments, "server")
    if server in state.servers:
        return query(state, event, RestartServer(), _serving(state), "restart_mcp", server, now)
    why = f"no MCP server is named {server!r}; configured: {', '.join(state.servers) or 'none'}"
    return state, (Reply(client=event.client, request=event.request, error=RefusalCode.NOT_FOUND, why=why),)


def _serving(state: State) -> tuple[Process, ...]:
    return tuple(map(state.process, state.up))


def _page(state: State, event: OperatorAsked) -> Effect:
    limit = event.arguments.get("limit", PAGE_USUAL)
    after = event.arguments.get("after")
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= PAGE_MOST:
        raise BadArgument(f"limit: a number from 1 to {PAGE_MOST} is wanted")
    if after is not None and not isinstance(after, str):
        raise BadArgument("after: the text of an earlier page's next is wanted")
    return PageForOperator(
        client=event.client, request=event.request, after=after, limit=limit, owners=state.owners, up=state.up
    )
