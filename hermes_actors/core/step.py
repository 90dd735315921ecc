"""The table: ``step(state, event, now) -> (state, effects)``.

Effects come in the order in which they are to be done. ``now`` and all times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import assert_never

from hermes_actors.core.drain import drain
from hermes_actors.core.drain import restart as preparation
from hermes_actors.core.effects import Announce, Effect, NoteReady, SendListen, SendTable
from hermes_actors.core.events import (
    Event,
    FromOwner,
    FromWorker,
    OperatorAsked,
    PageWanted,
    ProcessEvent,
    QueryAnswered,
    RecordEvent,
    ReloadAsked,
    RenameWanted,
    RestartPrepared,
    RestartRefused,
    RestartWanted,
    RestoreWanted,
    SessionDropped,
    SessionsAttested,
    SessionsFound,
    SessionWanted,
    SettingsLoaded,
    SettingsRefused,
    ShardBroke,
    ShardOpened,
    ShardRecovered,
    Started,
    StopAsked,
    Tick,
    TurnFellBack,
    TurnSucceeded,
    WorkerBeat,
    WorkerDrained,
    WorkerExited,
    WorkerLost,
    WorkerReady,
    WorkerSealed,
    WorkerSpawned,
)
from hermes_actors.core.operators import pending, reload, requests
from hermes_actors.core.pool import lifecycle
from hermes_actors.core.pool.lifecycle import Result
from hermes_actors.core.pool.placement import covered
from hermes_actors.core.sessions import records
from hermes_actors.core.state import Process, State
from hermes_actors.operations.results import Phase, WorkerState

_OPEN = (Phase.SERVING, Phase.DRAINING, Phase.HELD)  # new turns are taken, or refused with an answer

LATE_S = 1.0  # what comes later than this, a tick or a commit, shows that the supervisor itself did not run


def step(state: State, event: Event, now: float) -> Result:
    """What becomes of the state, and what is to be done, when this happens now."""
    if isinstance(event, FromWorker) and event.generation != state.workers[event.slot].generation:
        return state, ()
    if isinstance(event, FromOwner) and (refused := requests.refusal(state, event)) is not None:
        return state, (refused,)
    after, effects = _react(state, event, now)
    after = drain.died(state, after)
    after, drained = drain.settle(after, now)
    after, answers = pending.settle(after, now)
    after, announced = _announced(after)
    ended = drain.ended(after, now) if after.phase is Phase.STOPPED and state.phase is not Phase.STOPPED else ()
    return after, (*effects, *drained, *answers, *_changes(state, after), *announced, *ended)


def recorded(state: State, decided_at: float, now: float) -> State:
    """What was decided then is recorded, and leaves only now: nobody was asked before, nor heard meanwhile."""
    return _forgive(state, now) if now - decided_at > LATE_S else state


def due(state: State) -> float | None:
    """When a :class:`Tick` is wanted next."""
    return min((at for at, _ in _alarms(state)), default=None)


def _react(state: State, event: Event, now: float) -> Result:
    if isinstance(event, ProcessEvent):
        return _react_to_process(state, event, now)
    if isinstance(event, RecordEvent):
        return _react_to_record(state, event, now)
    match event:
        case Started():
            return lifecycle.start(state, now)
        case Tick():
            return _tick(state, event, now)
        case StopAsked():
            return preparation.asked(state, drain.signalled(event), now)
        case RestartWanted():
            return preparation.asked(state, drain.wanted(event), now)
        case RestartPrepared():
            return preparation.prepared(state, event, now)
        case RestartRefused():
            return preparation.refused(state, event)
        case QueryAnswered():
            return pending.responded(state, event)
        case OperatorAsked():
            return requests.operator_asked(state, event, now)
        case SessionsFound():
            return requests.sessions_found(state, event, now)
        case ReloadAsked():
            return reload.asked(state, None, 0)
        case SettingsLoaded():
            return reload.loaded(state, event, now)
        case SettingsRefused():
            return reload.refused(state, event)
        case _:
            assert_never(event)


def _react_to_process(state: State, event: ProcessEvent, now: float) -> Result:
    """What a worker process does, or what becomes of it."""
    match event:
        case WorkerSpawned():
            return lifecycle.spawned(state, event, drain.greeting(state, Process(event.slot, event.generation)))
        case WorkerReady():
            return lifecycle.ready(state, event.slot, now)
        case WorkerBeat():
            return lifecycle.beat(state, event, now)
        case WorkerLost():
            return lifecycle.lost(state, event, now)
        case WorkerExited():
            return lifecycle.exited(state, event, now)
        case WorkerDrained():
            return drain.drained(state, event)
        case WorkerSealed():
            return drain.sealed(state, event)
        case ShardBroke():
            state, logged = lifecycle.shard_broke(state, event)
            state, settled = records.heard(state, event.shard, None)
            return state, (*logged, *settled)
        case _:
            assert_never(event)


def _react_to_record(state: State, event: RecordEvent, now: float) -> Result:
    """What a worker wants looked up or recorded of its sessions."""
    match event:
        case SessionWanted():
            return requests.session_wanted(state, event)
        case SessionDropped():
            return requests.session_dropped(state, event)
        case RenameWanted():
            return requests.rename_wanted(state, event)
        case RestoreWanted():
            return records.restore_wanted(state, event)
        case ShardOpened():
            return records.shard_opened(state, event, now)
        case SessionsAttested():
            return records.sessions_attested(state, event, now)
        case ShardRecovered():
            return records.shard_recovered(state, event)
        case TurnSucceeded():
            return records.turn_succeeded(state, event)
        case TurnFellBack():
            return requests.fell_back(state, event)
        case PageWanted():
            return requests.page_wanted(state, event)
        case _:
            assert_never(event)


def _alarms(state: State) -> Iterator[lifecycle.Alarm]:
    yield from lifecycle.alarms(state)
    yield from drain.alarms(state)
    yield from pending.alarms(state)


def _tick(state: State, event: Tick, now: float) -> Result:
    if now - event.due > LATE_S:
        state = _forgive(state, now)
    effects: tuple[Effect, ...] = ()
    for act in [act for at, act in _alarms(state) if at <= now]:
        state, more = act(state, now)
        effects += more
    return state, effects


def _forgive(state: State, now: float) -> State:
    return drain.forgive(lifecycle.forgive(state, now), now)


def _announced(state: State) -> Result:
    """The gateway serves from the moment that no worker starts for the first time any more and one is up."""
    if state.phase is not Phase.STARTING or not state.up:
        return state, ()
    if any(worker.state is WorkerState.STARTING for worker in state.workers):
        return state, ()
    return replace(state, phase=Phase.SERVING), (NoteReady(), Announce())


# -- what follows from a changed state --------------------------------------------------------------------------------


def _changes(before: State, after: State) -> Iterator[Effect]:
    """Tell the workers what changed for them: the table, and where to accept connections; end what nobody wants."""
    yield from preparation.dropped(before, after)
    linked = tuple(after.process(worker.slot) for worker in after.workers if worker.pid is not None)
    if linked and (before.owners, before.up) != (after.owners, after.up):
        yield SendTable(to=linked, owners=after.owners, up=after.up)
    old = _listening(before)
    for process, slots in _listening(after).items():
        if old.get(process) != slots:
            yield SendListen(slot=process.slot, generation=process.generation, slots=slots)


def _listening(state: State) -> dict[Process, tuple[int, ...]]:
    """Each live process -> the slots on whose sockets it accepts.

    Workers that start together do not cover for each other: connections wait in the sockets for that moment.
    """
    sockets = len(state.workers) + state.spare_sockets
    accepts = covered(state.up, sockets) if state.phase in _OPEN else {}
    return {process: accepts.get(process.slot, (process.slot,)) for process in state.live}
