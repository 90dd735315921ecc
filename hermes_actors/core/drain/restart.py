"""A planned restart is prepared before it drains anything. Requests for one wait together until it is.

Where the next life could not serve, nothing was drained. A later request to hold or to stop does not wait: it overrules
the restart, and drops what was prepared. An operator can cancel the restart too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hermes_actors.core.drain import drain
from hermes_actors.core.drain.drain import MOST_WAITING
from hermes_actors.core.effects import DropNextLife, Effect, Log, PrepareRestart, ProveWritable, Reply
from hermes_actors.core.events import RestartPrepared, RestartRefused
from hermes_actors.core.pool.lifecycle import Result
from hermes_actors.core.sessions.book import Book
from hermes_actors.core.state import DrainRequest, Preparation, ReplyTo, State
from hermes_actors.operations.results import Phase, Then
from hermes_actors.wire.refusals import RefusalCode


def asked(state: State, request: DrainRequest, now: float, book: Book) -> Result:
    """Begin a drain. One after which the gateway goes on needs a disk that can mark what it cuts."""
    if request.then is Then.STOP:
        return _begun(state, request, now)
    if book.fault is not None:
        return state, _not_begun(request, book.fault)
    book.write(ProveWritable())
    return _begun(state, request, now)


def _not_begun(request: DrainRequest, fault: str) -> tuple[Effect, ...]:
    why = f"the disk cannot be written ({fault}), so what a drain cuts could not be marked; nothing was drained"
    log = Log(level="error", text="a drain is refused, and everything goes on", fields={"by": request.by, "why": fault})
    why = f"{why}. Make room, or end what has it locked, and ask again"
    return (log, *_replies((request,), RefusalCode.STORE_FAILED, why))


def _begun(state: State, request: DrainRequest, now: float) -> Result:
    """Drain at once, unless a next life must be prepared first."""
    if request.then is not Then.RESTART:
        why = f"{request.by} came later, and wants the gateway to {request.then.value}"
        state, ended = _end(state, RefusalCode.OVERRULED, why)
        state, effects = drain.asked(state, request, now)
        return state, (*ended, *effects)
    ends = state.drain is not None and state.drain.then is not Then.HOLD
    if ends or state.phase is Phase.STOPPED:  # the next life is ready, or is not to be
        return drain.asked(state, request, now)
    return _prepare(state, request)


def _prepare(state: State, request: DrainRequest) -> Result:
    if state.preparation is None:
        preparation = Preparation(number=state.preparations + 1, requests=(request,))
        state = replace(state, preparation=preparation, preparations=preparation.number)
        log = Log(level="info", text="preparing a restart", fields={"by": request.by})
        return state, (log, PrepareRestart(number=preparation.number))
    requests = state.preparation.requests
    if len(requests) >= MOST_WAITING:
        return state, _replies((request,), RefusalCode.BUSY, f"{MOST_WAITING} requests wait for the restart already")
    return replace(state, preparation=replace(state.preparation, requests=(*requests, request))), ()


def prepared(state: State, event: RestartPrepared, now: float) -> Result:
    """Drain for all requests that wait for the restart."""
    preparation = state.preparation
    if preparation is None or event.number != preparation.number:  # that one was dropped
        return state, ()
    state = replace(state, preparation=None)
    effects: tuple[Effect, ...] = ()
    for request in preparation.requests:
        state, more = drain.asked(state, request, now)
        effects += more
    return state, effects


def refused(state: State, event: RestartRefused) -> Result:
    """Reply to all requests that wait for the restart: everything goes on."""
    if state.preparation is None or event.number != state.preparation.number:
        return state, ()
    log = Log(level="error", text="the restart is refused, and everything goes on", fields={"why": event.why})
    state, replies = _end(state, event.error, event.why)
    return state, (log, *replies)


def cancel(state: State, by: ReplyTo, book: Book) -> Result:
    """Cancel restart and drain, if nothing was cut yet or the gateway is held."""
    if state.preparation is None:
        return drain.cancel(state, by, book)
    state, ended = _end(state, RefusalCode.CANCELLED, "an operator cancelled the restart")
    effects: tuple[Effect, ...] = (Log(level="info", text="restart cancelled"),)
    if state.drain is None:
        return state, (*effects, *ended, Reply(reply_to=by))
    state, more = drain.cancel(state, by, book)
    return state, (*effects, *ended, *more)


def dropped(before: State, after: State) -> Iterator[Effect]:
    """Drop the next life when no restart follows any more."""
    if _wanted(before) and not _wanted(after):
        yield DropNextLife()


def _wanted(state: State) -> bool:
    return state.preparation is not None or (state.drain is not None and state.drain.then is Then.RESTART)


def _end(state: State, error: RefusalCode, why: str) -> Result:
    requests = () if state.preparation is None else state.preparation.requests
    return replace(state, preparation=None), _replies(requests, error, why)


def _replies(requests: tuple[DrainRequest, ...], error: RefusalCode, why: str) -> tuple[Effect, ...]:
    waiting = (request.reply_to for request in requests if request.reply_to is not None)
    return tuple(Reply(reply_to=reply_to, error=error, why=why) for reply_to in waiting)
