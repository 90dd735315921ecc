"""What workers and operators ask of the supervisor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hermes_actors.core.effects import (
    ActivateSession,
    Effect,
    FindSessions,
    ForgetSession,
    PageForOperator,
    PageForWorker,
    Reply,
    ReplyStatus,
    SendQuery,
    SendRefused,
)
from hermes_actors.core.events import (
    OperatorAsked,
    PageWanted,
    QueryAnswered,
    SessionDropped,
    SessionsFound,
    SessionWanted,
    StopAsked,
)
from hermes_actors.core.lifecycle import Alarm, Result, stop
from hermes_actors.core.model import Owner, Question, SessionEntry, State, Worker

QUERY_TIMEOUT_S = 3.0  # for a worker's answer to an operator's question
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


def _stale(state: State, event: SessionWanted | SessionDropped) -> SendRefused | None:
    """The refusal of a worker that does not own the shard, or not any more."""
    owner = state.owners[event.shard] if 0 <= event.shard < len(state.owners) else None
    if owner == Owner(event.slot, event.fence):
        return None
    why = f"shard {event.shard} is not owned by worker {event.slot} with fence {event.fence}"
    return SendRefused(slot=event.slot, generation=event.generation, request=event.request, code="stale_fence", why=why)


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
    owner = state.owners[entry.shard]
    if owner.slot not in state.up:
        return state, (_shown(state, client, request, entry, {}),)
    asked = state.asked + 1
    generation = state.workers[owner.slot].generation
    question = Question(
        client=client,
        request=request,
        slot=owner.slot,
        generation=generation,
        deadline=now + QUERY_TIMEOUT_S,
        entry=entry,
    )
    query = SendQuery(slot=owner.slot, generation=generation, request=asked, key=entry.key)
    return replace(state, asked=asked, questions={**state.questions, asked: question}), (query,)


def query_answered(state: State, event: QueryAnswered) -> Result:
    """Pass a worker's answer on; one that comes too late is nobody's."""
    question = state.questions.get(event.request)
    if question is None or (question.slot, question.generation) != (event.slot, event.generation):
        return state, ()
    known = event.data if event.found else {}
    return _answered(state, event.request), (_shown(state, question.client, question.request, question.entry, known),)


def question_alarms(state: State) -> list[Alarm]:
    """When the questions that wait are answered without their worker."""

    def overdue(asked: int, question: Question) -> Alarm:
        reply = (_shown(state, question.client, question.request, question.entry, {}),)
        return question.deadline, lambda later, _: (_answered(later, asked), reply)

    return [overdue(asked, question) for asked, question in state.questions.items()]


def _answered(state: State, asked: int) -> State:
    return replace(state, questions={one: question for one, question in state.questions.items() if one != asked})


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


def _shown(state: State, client: int, request: int, entry: SessionEntry, known: Mapping[str, Any]) -> Reply:
    data = {**session_line(entry, state.owners, state.up), "actor": None, "mcp": [], "turns": {}, **known}
    return Reply(client=client, request=request, data=data)


# -- plain data --------------------------------------------------------------------------------------------------------


def session_line(entry: SessionEntry, owners: tuple[Owner, ...], up: tuple[int, ...]) -> dict[str, Any]:
    """A session as operators see it in a list."""
    slot = owners[entry.shard].slot
    return {
        "key": entry.key,
        "session_id": entry.session_id,
        "worker": slot,
        "state": "available" if slot in up else "unavailable",
        "created_at": entry.created_at,
        "last_active_at": entry.last_active_at,
    }


def status(state: State, now: float) -> dict[str, Any]:
    """The part of the status that the state knows (hermes_actors.control.messages)."""
    broken = [
        {"shard": shard, "why": fault.why, "set_aside": fault.set_aside, "serving": fault.serving}
        for shard, fault in sorted(state.broken.items())
    ]
    return {
        "phase": state.phase.value,
        "workers": [_worker_line(state, worker, now) for worker in state.workers],
        "shards": {"total": len(state.owners), "broken": broken},
    }


def _worker_line(state: State, worker: Worker, now: float) -> dict[str, Any]:
    load = worker.load
    return {
        "slot": worker.slot,
        "generation": worker.generation,
        "pid": worker.pid,
        "state": worker.state.value,
        "shards": list(state.shards_of(worker.slot)),
        "resident": load.resident,
        "running": load.running,
        "queued": load.queued,
        "turns": load.turns,
        "mcp": load.mcp,
        "heartbeat_age_s": None if worker.ready_at is None else round(now - worker.heard_at, 3),
        "restarts": max(0, worker.generation - 1),
        "last_exit": worker.last_exit,
    }
