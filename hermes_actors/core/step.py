"""The table: ``step(state, event, now, rows) -> (state, effects)``.

The shell performs the effects in their order. ``now`` and all times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import assert_never

from hermes_actors.core.drain import drain
from hermes_actors.core.drain import restart as preparation
from hermes_actors.core.effects import Announce, Effect, NoteLife, Reply, Send
from hermes_actors.core.events import (
    DiskRefused,
    Event,
    OperatorAsked,
    ProcessEvent,
    ReloadAsked,
    RestartPrepared,
    RestartRefused,
    Said,
    SessionsFound,
    SettingsLoaded,
    SettingsRefused,
    Started,
    StopAsked,
    Tick,
    WorkerExited,
    WorkerLost,
    WorkerSpawned,
)
from hermes_actors.core.operators import pending, reload, requests
from hermes_actors.core.pool import lifecycle
from hermes_actors.core.pool.lifecycle import Result
from hermes_actors.core.pool.placement import covered
from hermes_actors.core.sessions import records
from hermes_actors.core.sessions.book import Book, Rows
from hermes_actors.core.state import Process, State
from hermes_actors.operations.requests import (
    ClearStrikes,
    ListAllSessions,
    ResetSession,
    ResumeSession,
    ShowStatus,
    SuspendSession,
)
from hermes_actors.operations.results import Phase, WorkerState
from hermes_actors.wire import messages as wire
from hermes_actors.wire.refusals import RefusalCode

_OPEN = (Phase.SERVING, Phase.DRAINING, Phase.HELD)  # new turns are taken, or refused with an answer

_REFUSES = "the registry cannot be written; the log says why"

LATE_S = 1.0  # a tick or a commit that is later than this shows that the supervisor itself did not run


def step(state: State, event: Event, now: float, rows: Rows) -> Result:
    """The state after an event, and what the shell has to do.

    Args:
        state: before the event.
        event: what happened.
        now: monotonic seconds.
        rows: the registry as the open transaction has it.
    """
    if isinstance(event, ProcessEvent) and event.process != state.process(event.process.slot):
        return state, ()
    book = Book(rows, state, now, event.why if isinstance(event, DiskRefused) else None)
    after, effects = _react(state, event, now, book)
    if after is not state:
        after = drain.died(state, after)
    after, drained = drain.settle(after, now, book)
    after, answers = pending.settle(after, now, book)
    after, announced = _announced(after, book)
    ended = drain.ended(after, now) if after.phase is Phase.STOPPED and state.phase is not Phase.STOPPED else ()
    changes = _changes(state, after) if after is not state else ()  # most events leave the state as it is
    return book.into(after), (*book.effects, *effects, *drained, *answers, *changes, *announced, *ended)


def recorded(state: State, decided_at: float, now: float) -> State:
    """The state once a batch is on disk. If that took long, no worker could be heard meanwhile: give them more time."""
    return _forgive(state, now) if now - decided_at > LATE_S else state


def due(state: State) -> float | None:
    """When the next :class:`Tick` must come."""
    return min((at for at, _ in _alarms(state)), default=None)


def _react(state: State, event: Event, now: float, book: Book) -> Result:
    match event:
        case Started():
            return lifecycle.start(state, now, book)
        case Tick():
            return _tick(state, event, now, book)
        case WorkerSpawned():
            return lifecycle.spawned(state, event, drain.greeting(state, event.process))
        case Said():
            return _hear(state, event.process, event.message, now, book)
        case WorkerLost():
            return lifecycle.lost(state, event, now)
        case WorkerExited():
            return lifecycle.exited(state, event, now, book)
        case StopAsked():
            return preparation.asked(state, drain.signalled(event), now, book)
        case RestartPrepared():
            return preparation.prepared(state, event, now)
        case RestartRefused():
            return preparation.refused(state, event)
        case OperatorAsked():
            return requests.operator_asked(state, event, now, book)
        case SessionsFound():
            return requests.sessions_found(state, event, now, book)
        case ReloadAsked():
            return reload.asked(state, None)
        case SettingsLoaded():
            return reload.loaded(state, event, now)
        case SettingsRefused():
            return reload.refused(state, event)
        case DiskRefused():
            return _do_without(state, event.event, now, book)
        case _:
            assert_never(event)


def _do_without(state: State, event: Event, now: float, book: Book) -> Result:
    """An event while the disk refuses: refuse what would have been recorded, and go on with the rest."""
    match event:
        case Said(process=process, message=message) if isinstance(message, wire.OfShard):
            state = lifecycle.goes_on(state, process.slot, now)
            if isinstance(message, wire.SucceededOnFallback):  # the turn is over; its session's next one reports again
                return state, ()
            return state, (_refused(process, message.request),)
        case Said(process=process, message=wire.ListSessions(request=request)):
            return state, (_refused(process, request),)
        case OperatorAsked(operation=ClearStrikes() | ShowStatus() | ListAllSessions()):
            return state, (_store_failed(event),)
        case SessionsFound(operation=SuspendSession() | ResumeSession() | ResetSession()):
            return state, (_store_failed(event),)
        case _:
            return _react(state, event, now, book)


def _refused(process: Process, request: int) -> Effect:
    return Send(to=(process,), message=wire.Refused(request=request, code=RefusalCode.STORE_FAILED, why=_REFUSES))


def _store_failed(asker: OperatorAsked | SessionsFound) -> Effect:
    return Reply(reply_to=asker.reply_to, error=RefusalCode.STORE_FAILED, why=_REFUSES)


def _hear(state: State, process: Process, message: wire.FromWorker, now: float, book: Book) -> Result:
    """Handle a worker's message."""
    if isinstance(message, wire.OfShard):
        refused = requests.refusal(state, process, message)
        return _record(state, process, message, now, book) if refused is None else (state, (refused,))
    match message:
        case wire.Ready():
            return lifecycle.ready(state, process.slot, now)
        case wire.Heartbeat():
            return lifecycle.beat(state, process.slot, message, now, book)
        case wire.NoTurnRuns():
            return drain.drained(state, process, message)
        case wire.Sealed():
            return drain.sealed(state, process, message)
        case wire.RestartWanted():
            return preparation.asked(state, drain.wanted(message), now, book)
        case wire.QueryResponse():
            return pending.responded(state, process, message)
        case wire.ShardBroken():
            state, logged = lifecycle.shard_broke(state, process.slot, message)
            return records.heard(state, message.shard, None, book), logged
        case wire.ListSessions():
            return state, records.page(process, message, book)
        case _:
            assert_never(message)


def _record(state: State, process: Process, message: wire.OfShard, now: float, book: Book) -> Result:
    """Handle a message of a shard's owner, which changes the records."""
    match message:
        case wire.Activate():
            return state, records.activate(process, message, book)
        case wire.Reset():
            return state, records.reset(process, message, book)
        case wire.Resume():
            return state, records.resume(process, message, book)
        case wire.Forget():
            return state, records.forget(process, message, book)
        case wire.Succeeded():
            return state, records.succeeded(process, message, book)
        case wire.SucceededOnFallback():
            return state, records.fell_back(process, message, book)
        case wire.Opened() | wire.Attest():
            return records.opened(state, process, message, now, book)
        case wire.Recovered():
            return records.recovered(state, process, message, book)
        case _:
            assert_never(message)


def _alarms(state: State) -> Iterator[lifecycle.Alarm]:
    yield from lifecycle.alarms(state)
    yield from drain.alarms(state)
    yield from pending.alarms(state)


def _tick(state: State, event: Tick, now: float, book: Book) -> Result:
    if now - event.due > LATE_S:
        state = _forgive(state, now)
    effects: tuple[Effect, ...] = ()
    for act in [act for at, act in _alarms(state) if at <= now]:
        state, more = act(state, now, book)
        effects += more
    return state, effects


def _forgive(state: State, now: float) -> State:
    return drain.forgive(lifecycle.forgive(state, now), now)


def _announced(state: State, book: Book) -> Result:
    """The gateway serves once every worker has started or failed for the first time, and one is up."""
    if state.phase is not Phase.STARTING or not state.up:
        return state, ()
    if any(worker.state is WorkerState.STARTING for worker in state.workers):
        return state, ()
    book.write(NoteLife(milestone="ready_at", at=book.at))
    return replace(state, phase=Phase.SERVING), (Announce(about="ready"),)


# -- what follows from a changed state --------------------------------------------------------------------------------


def _changes(before: State, after: State) -> Iterator[Effect]:
    """Send the workers what changed for them: the table, and where to accept connections. Drop an unused next life."""
    yield from preparation.dropped(before, after)
    linked = tuple(after.process(worker.slot) for worker in after.workers if worker.pid is not None)
    if linked and (before.owners, before.up) != (after.owners, after.up):
        yield Send(to=linked, message=lifecycle.table(after))
    old = _listening(before)
    for process, slots in _listening(after).items():
        if old.get(process) != slots:
            yield Send(to=(process,), message=wire.Listen(slots=list(slots)))


def _listening(state: State) -> dict[Process, tuple[int, ...]]:
    """Each live process -> the slots on whose sockets it accepts.

    Workers that start at the same time do not cover for each other: connections wait in the sockets until then.
    """
    sockets = len(state.workers) + state.spare_sockets
    accepts = covered(state.up, sockets) if state.phase in _OPEN else {}
    return {process: accepts.get(process.slot, (process.slot,)) for process in state.live}
