"""Requests of operators that wait for workers: each gets its reply when these have responded, died, or are late."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, assert_never

from hermes_actors.core.drain import plan
from hermes_actors.core.effects import Effect, Log, Reply, Send
from hermes_actors.core.operators.views import drain_shown, session_shown
from hermes_actors.core.pool.lifecycle import Alarm, Result
from hermes_actors.core.sessions.book import Book
from hermes_actors.core.state import Pending, Process, State
from hermes_actors.operations.plain import Misfit, from_plain, to_plain
from hermes_actors.operations.requests import (
    ListConnections,
    PlanDrain,
    Reload,
    ResetSession,
    RestartServer,
    ResumeSession,
    ShowDrain,
    ShowSession,
    StopTurn,
    SuspendSession,
)
from hermes_actors.operations.results import (
    ConfigurationReloaded,
    ConnectionsListed,
    ServerRestarted,
    SessionShown,
    TurnStopped,
)
from hermes_actors.operations.workers import WorkerRequest
from hermes_actors.wire.messages import Query, QueryResponse

RESPONSE_TIMEOUT_S = 3.0  # for the workers' responses


def send(state: State, pending: Pending, request: WorkerRequest, now: float) -> Result:
    """Send a request to the workers that ``pending`` waits for, and wait."""
    state, number = wait(state, pending, now)
    if not pending.waiting:
        return state, ()
    return state, (Send(to=tuple(sorted(pending.waiting)), message=query(number, request)),)


def query(number: int, request: WorkerRequest) -> Query:
    """A request to workers as it travels."""
    return Query(request=number, operation=request.name, arguments=to_plain(request))


def wait(state: State, pending: Pending, now: float) -> tuple[State, int]:
    """Wait for the responses of workers; with the number that they are to repeat."""
    number = state.asked + 1
    pending = replace(pending, deadline=now + RESPONSE_TIMEOUT_S)
    return replace(state, asked=number, pending={**state.pending, number: pending}), number


def responded(state: State, process: Process, answer: QueryResponse) -> Result:
    """Keep a worker's response; drop one that is late, or from a worker that got no request."""
    pending = state.pending.get(answer.request)
    if pending is None or process not in pending.waiting:
        return state, ()
    responses, effects = pending.responses, list[Effect]()
    if answer.found and pending.response is not None:
        try:
            responses = {**responses, process.slot: from_plain(pending.response, answer.data)}
        except Misfit as error:
            effects.append(Log(level="error", text="a worker's response is not used", fields={"why": str(error)}))
    heard = replace(pending, waiting=pending.waiting - {process}, responses=responses)
    return replace(state, pending={**state.pending, answer.request: heard}), tuple(effects)


def settle(state: State, now: float, book: Book) -> Result:
    """Reply to the operators whose requests wait for no live worker any more, or have waited long enough."""
    if not state.pending:
        return state, ()
    live = frozenset(state.live)
    over = {number: one for number, one in state.pending.items() if now >= one.deadline or one.waiting.isdisjoint(live)}
    if not over:
        return state, ()
    left = {number: one for number, one in state.pending.items() if number not in over}
    return replace(state, pending=left), tuple(_concluded(state, one, now, book) for one in over.values())


def alarms(state: State) -> list[Alarm]:
    """When requests get their replies without the workers that are late: :func:`settle` does it, after every event."""
    return [(one.deadline, lambda later, _now, _book: (later, ())) for one in state.pending.values()]


def _concluded(state: State, pending: Pending, now: float, book: Book) -> Effect:
    responses = dict(sorted(pending.responses.items()))
    missing = tuple(sorted(slot for slot, _ in pending.waiting))
    result: Any
    match pending.operation:
        case ShowSession() | SuspendSession() | ResumeSession() | ResetSession():
            result = _session(state, pending, book)
        case PlanDrain(timeout=timeout_s):
            timeout_s = state.limits.drain_timeout_s if timeout_s is None else timeout_s
            result = plan.planned(responses, missing, timeout_s, state.wall(now), book)
        case ShowDrain():
            result = drain_shown(state, plan.running(responses), plan.queued(responses), missing, now)
        case StopTurn():
            result = TurnStopped(stopped=any(one.count for one in responses.values()), missing=missing)
        case ListConnections():
            rows = (replace(row, worker=slot) for slot, one in responses.items() for row in one.connections)
            result = ConnectionsListed(connections=tuple(rows), missing=missing)
        case RestartServer():
            result = ServerRestarted(restarted=sum(one.count for one in responses.values()), missing=missing)
        case Reload():
            result = ConfigurationReloaded(changes=pending.changes, missing=missing)
        case _:
            assert_never(pending.operation)
    if pending.reply_to is None:
        return Log(level="info", text="the workers have the configuration", fields={"missing": list(missing)})
    return Reply(reply_to=pending.reply_to, result=result)


def _session(state: State, pending: Pending, book: Book) -> SessionShown:
    """The session as it is now, and what its worker knows of it."""
    assert pending.entry is not None
    entry = book.session(pending.entry.key) or pending.entry
    known = pending.responses.get(state.owners[entry.shard].slot)
    return session_shown(entry, state.owners, state.up, book.strikes(entry.key), known)
