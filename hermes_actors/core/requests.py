"""What workers and operators ask of the supervisor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hermes_actors.core import reload
from hermes_actors.core.effects import (
    ActivateSession,
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
    OperatorAsked,
    PageWanted,
    RenameWanted,
    SessionDropped,
    SessionsFound,
    SessionWanted,
    StopAsked,
    TurnFellBack,
)
from hermes_actors.core.lifecycle import Result, stop
from hermes_actors.core.model import ListConnections, Owner, Process, RestartServer, ShowSession, State
from hermes_actors.core.questions import query
from hermes_actors.core.views import status

PAGE_MOST = 1000  # sessions
PAGE_USUAL = 100  # sessions
NAMES_SHOWN = 5  # of sessions that an ambiguous name may mean


class BadArgument(Exception):
    """An operator's request has an argument that cannot be used."""


# -- workers -----------------------------------------------------------------------------------------------------------


def session_wanted(state: State, event: SessionWanted) -> Result:
    """Activate for the shard's owner only."""
    refused = _stale(state, event)
    if refused is not None:
        return state, (refused,)
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
    """Forget for the shard's owner only."""
    refused = _stale(state, event)
    if refused is not None:
        return state, (refused,)
    forget = ForgetSession(slot=event.slot, generation=event.generation, request=event.request, key=event.key)
    return state, (forget,)


def rename_wanted(state: State, event: RenameWanted) -> Result:
    """Give a fresh id for the shard's owner only."""
    refused = _stale(state, event)
    if refused is not None:
        return state, (refused,)
    rename = RenameSession(slot=event.slot, generation=event.generation, request=event.request, key=event.key)
    return state, (rename,)


def fell_back(state: State, event: TurnFellBack) -> Result:
    """Have the actor restarted for the shard's owner only: with another owner the session has another actor."""
    if not _owns(state, event):
        fields = {"worker": event.slot, "session": event.key, "turn": event.turn_id}
        return state, (
            Log(level="warning", text="a fallback was reported by who does not own the shard", fields=fields),
        )
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


def _stale(state: State, event: SessionWanted | SessionDropped | RenameWanted) -> SendRefused | None:
    """The refusal of a worker that does not own the shard, or not any more."""
    if _owns(state, event):
        return None
    why = f"shard {event.shard} is not owned by worker {event.slot} with fence {event.fence}"
    return SendRefused(slot=event.slot, generation=event.generation, request=event.request, code="stale_fence", why=why)


def _owns(state: State, event: SessionWanted | SessionDropped | RenameWanted | TurnFellBack) -> bool:
    owner = state.owners[event.shard] if 0 <= event.shard < len(state.owners) else None
    return owner == Owner(event.slot, event.fence)


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
            case "sessions.show":
                wanted = _text(arguments, "session")
                return state, (FindSessions(client=client, request=request, wanted=wanted),)
            case "mcp":
                return query(state, event, ListConnections(), _serving(state), "mcp", "", now)
            case "mcp.restart":
                return _restart_server(state, event, now)
            case "reload":
                return reload.asked(state, client, request)
            case "stop":
                at_once = arguments.get("now", False)
                if not isinstance(at_once, bool):
                    raise BadArgument("now: a boolean is wanted")
                state, effects = stop(state, StopAsked(now=at_once, by="hermes-ctl"), now)
                return state, (Reply(client=client, request=request), *effects)
            case unknown:
                raise BadArgument(f"unknown operation {unknown!r}")
    except BadArgument as error:
        return state, (Reply(client=client, request=request, error="bad_request", why=str(error)),)


def sessions_found(state: State, event: SessionsFound, now: float) -> Result:
    """Ask the session's worker for the rest, when the name means exactly one session."""
    client, request, found = event.client, event.request, event.found
    if not found:
        why = f"no session is named {event.wanted!r}, nor ends with it"
        return state, (Reply(client=client, request=request, error="not_found", why=why),)
    if len(found) > 1:
        names = ", ".join(entry.key for entry in found[:NAMES_SHOWN])
        more = ", …" if len(found) > NAMES_SHOWN else ""
        why = f"{event.wanted!r} may mean {names}{more}"
        return state, (Reply(client=client, request=request, error="ambiguous", why=why),)
    (entry,) = found
    owner = state.owners[entry.shard].slot
    to = (state.process(owner),) if owner in state.up else ()
    return query(state, event, ShowSession(entry=entry), to, "session", entry.key, now)


def _restart_server(state: State, event: OperatorAsked, now: float) -> Result:
    server = _text(event.arguments, "server")
    if server in state.servers:
        return query(state, event, RestartServer(), _serving(state), "restart_mcp", server, now)
    why = f"no MCP server is named {server!r}; configured: {', '.join(state.servers) or 'none'}"
    return state, (Reply(client=event.client, request=event.request, error="not_found", why=why),)


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


def _text(arguments: Mapping[str, Any], name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str) or not value:
        raise BadArgument(f"{name}: a text is wanted")
    return value
