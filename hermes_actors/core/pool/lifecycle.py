"""The life of the workers: spawn, ready, hung, dead, replaced, given up, stopped.

Each function is one row of the table in :mod:`hermes_actors.core.step`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import assert_never

from hermes_actors.core.effects import (
    Effect,
    Kill,
    Log,
    Send,
    Spawn,
    Sweep,
    TouchSessions,
    WriteOwners,
)
from hermes_actors.core.events import WorkerExited, WorkerLost, WorkerSpawned
from hermes_actors.core.pool.policy import is_given_up, restart_delay_s, slow_delay_s
from hermes_actors.core.sessions.book import Book
from hermes_actors.core.sessions.lives import begins_by_itself
from hermes_actors.core.state import Owner, Process, Slot, State
from hermes_actors.operations.results import Phase, WorkerState
from hermes_actors.wire.messages import Assign, Configure, Heartbeat, ShardBroken, StopWorker
from hermes_actors.wire.records import Load

HEARTBEATS_MISSED = 3  # after which a worker counts as hung
READY_TIMEOUT_S = 30.0  # from spawn, or from its last report about a shard, to ready
STOP_S = 5.0  # for a worker without running turns to close what it has open
STOP_NOW_S = 2.0  # the same after a second signal, or for a stop with no time-out
RECORD_RETRY_S = 1.0  # until a worker is tried again whose ownership could not be recorded
LOST_EXIT_S = 1.0  # for a process whose link ended to end by itself: its exit then says why, and not our SIGKILL
EXIT_WAIT_S = 5.0  # from the last SIGKILL to the end without the exits of the killed

Result = tuple[State, tuple[Effect, ...]]
Alarm = tuple[float, Callable[[State, float, Book], Result]]

_LIVE = (WorkerState.STARTING, WorkerState.READY)


def start(state: State, now: float, book: Book) -> Result:
    """Spawn every worker."""
    effects: tuple[Effect, ...] = ()
    for worker in state.workers:
        state, more = spawn(state, worker.slot, now, book)
        effects += more
    return state, effects


def spawn(state: State, slot: int, now: float, book: Book) -> Result:
    """Start a new process in a slot. It is a new owner of the shards, so their fences grow first."""
    worker = state.workers[slot]
    if book.fault is not None:
        return _postponed(state, worker, now, book.fault)
    changed = {shard: Owner(slot, state.owners[shard].fence + 1) for shard in state.shards_of(slot)}
    state = replace(
        state,
        owners=tuple(changed.get(shard, owner) for shard, owner in enumerate(state.owners)),
        broken={shard: fault for shard, fault in state.broken.items() if shard not in changed},
    ).with_worker(
        replace(
            worker,
            state=WorkerState.STARTING,
            generation=worker.generation + 1,
            since=now,
            ready_at=None,
            retry_at=None,
            unrecorded=False,
        )
    )
    book.write(WriteOwners(owners=changed))
    return state, (Spawn(process=Process(slot, worker.generation + 1)),)


def _postponed(state: State, worker: Slot, now: float, why: str) -> Result:
    """The disk refuses: no process may own a shard before that is recorded. This does not count as a death."""
    waiting = replace(worker, state=WorkerState.RESTARTING, retry_at=now + RECORD_RETRY_S, unrecorded=True)
    if worker.unrecorded:
        return state.with_worker(waiting), ()
    fields = {"worker": worker.slot, "why": why}
    text = "worker is not started while the registry cannot be written; its shards are not served"
    return state.with_worker(waiting), (Log(level="error", text=text, fields=fields),)


def spawned(state: State, event: WorkerSpawned, greeting: tuple[Effect, ...] = ()) -> Result:
    """Configure a process that has started; nothing is sent to one that was killed meanwhile.

    Args:
        state: before.
        event: what happened.
        greeting: what it must know before it owns a shard.
    """
    worker = state.workers[event.process.slot]
    if worker.state is not WorkerState.STARTING:
        return state, ()
    configure = Configure(
        boot=state.boot,
        slot=worker.slot,
        generation=worker.generation,
        shards=len(state.owners),
        auto_resume=_auto_resume(state, worker),
    )
    to = (event.process,)
    return state.with_worker(replace(worker, pid=event.pid)), (
        Send(to=to, message=configure),
        *greeting,
        Send(to=to, message=table(state)),
    )


def table(state: State) -> Assign:
    """Who owns which shard, and whose workers serve."""
    return Assign(owners={shard: list(owner) for shard, owner in enumerate(state.owners)}, up=list(state.up))


def _auto_resume(state: State, worker: Slot) -> bool:
    return state.auto_resume and begins_by_itself(len(worker.failed_at))


def ready(state: State, slot: int, now: float) -> Result:
    """The worker serves from now on."""
    worker = state.workers[slot]
    if worker.state is not WorkerState.STARTING:
        return state, ()
    state = state.with_worker(replace(worker, state=WorkerState.READY, since=now, ready_at=now, heard_at=now))
    fields = {
        "worker": slot,
        "generation": worker.generation,
        "pid": worker.pid,
        "took_s": round(now - worker.since, 3),
    }
    return state, (Log(level="info", text="worker ready", fields=fields),)


def beat(state: State, slot: int, beat: Heartbeat, now: float, book: Book) -> Result:
    """Note a heartbeat, and what it reports."""
    worker = replace(state.workers[slot], heard_at=now, load=beat.load)
    turns = {shard: turn for shard, turn in beat.reached.items() if shard in state.shards_of(slot)}
    if beat.active or turns:
        book.write(TouchSessions(active=beat.active, turns=turns))
    return state.with_worker(worker), ()


def goes_on(state: State, slot: int, now: float) -> State:
    """A starting worker sent something, so it does not hang: it may have much to read."""
    worker = state.workers[slot]
    return state.with_worker(replace(worker, since=now)) if worker.state is WorkerState.STARTING else state


def shard_broke(state: State, slot: int, broken: ShardBroken) -> Result:
    """Keep it for the status."""
    fields = {"worker": slot, "shard": broken.shard, "why": broken.why, "set_aside": broken.set_aside}
    text = (
        "shard lost some or all of what it had, and continues with what is left"
        if broken.serving
        else "shard is broken and not served"
    )
    state = replace(state, broken={**state.broken, broken.shard: broken})
    return state, (Log(level="error", text=text, fields=fields),)


def lost(state: State, event: WorkerLost, now: float) -> Result:
    """A worker lost its link. Most such workers are dying: wait a moment for the exit, which says why.

    A worker that stops closes its link by itself.
    """
    worker = state.workers[event.process.slot]
    if worker.state not in _LIVE:
        return state, ()
    return state.with_worker(replace(worker, state=WorkerState.KILLED, since=now, lost=event.why)), ()


def exited(state: State, event: WorkerExited, now: float, book: Book) -> Result:
    """Sweep what it left; replace it, unless the gateway stops."""
    before = state.workers[event.process.slot]
    worker = replace(before, pid=None, since=now, last_exit=event.exitcode, load=Load(), lost=None)
    sweep = Sweep(process=event.process)
    fields: dict[str, object] = {
        "worker": event.process.slot,
        "generation": event.process.generation,
        "pid": before.pid,
        "exit": event.exitcode,
    }
    if event.why:
        fields["why"] = event.why
    if state.phase in (Phase.STOPPING, Phase.STOPPED):
        state = _over(state.with_worker(replace(worker, state=WorkerState.STOPPED)))
        return state, (sweep, Log(level="info", text="worker stopped", fields=fields))

    worker = _judged(state, worker, now, event.jitter)
    assert worker.retry_at is not None
    given_up = worker.state is WorkerState.GIVEN_UP
    fields["retry_in_s"] = round(worker.retry_at - now, 2)
    text = "worker died too often; its shards are not served until a replacement lives" if given_up else "worker died"
    effects: tuple[Effect, ...] = (sweep, Log(level="error" if given_up else "warning", text=text, fields=fields))
    state = state.with_worker(worker)
    if worker.retry_at <= now:
        state, more = spawn(state, event.process.slot, now, book)
        effects += more
    return state, effects


def _judged(state: State, worker: Slot, now: float, jitter: float) -> Slot:
    """The dead worker with the time of its replacement; one that served for a whole window has a clean sheet."""
    window_s = state.limits.restart_window_s
    stable = worker.ready_at is not None and now - worker.ready_at >= window_s
    failed_at = (*(at for at in worker.failed_at if not stable and now - at <= window_s), now)
    slow_tries = 0 if stable else worker.slow_tries
    if slow_tries or is_given_up(failed_at, now, state.limits):
        outcome, delay_s, slow_tries = WorkerState.GIVEN_UP, slow_delay_s(slow_tries, jitter), slow_tries + 1
    else:
        outcome, delay_s = WorkerState.RESTARTING, restart_delay_s(len(failed_at), jitter)
    retry_at = now + delay_s
    if state.drain is not None and state.drain.seal is not None:
        retry_at = max(retry_at, state.drain.seal.deadline)  # by then the gateway may be stopping
    return replace(worker, state=outcome, failed_at=failed_at, slow_tries=slow_tries, retry_at=retry_at)


def stop(state: State, within_s: float, now: float) -> Result:
    """Stop every worker, and kill those that are still there after the time. A second call can shorten the time."""
    deadline = now + within_s if state.stop_deadline is None else min(now + within_s, state.stop_deadline)
    state = replace(state, phase=Phase.STOPPING, stop_deadline=deadline)
    effects: list[Effect] = [Log(level="info", text="stopping", fields={"within_s": round(deadline - now, 2)})]
    for worker in state.workers:
        match worker.state:
            case WorkerState.READY | WorkerState.STOPPING:
                effects.append(Send(to=(state.process(worker.slot),), message=StopWorker()))
                state = state.with_worker(replace(worker, state=WorkerState.STOPPING, since=now))
            case WorkerState.STARTING:  # it has no turn yet
                effects.append(Kill(process=state.process(worker.slot)))
                state = state.with_worker(replace(worker, state=WorkerState.KILLED, since=now))
            case WorkerState.RESTARTING | WorkerState.GIVEN_UP:
                state = state.with_worker(replace(worker, state=WorkerState.STOPPED, since=now, retry_at=None))
            case WorkerState.KILLED if worker.lost is not None:
                effects.append(Kill(process=state.process(worker.slot)))
                state = state.with_worker(replace(worker, since=now, lost=None))
            case WorkerState.KILLED | WorkerState.STOPPED:
                pass
            case _:
                assert_never(worker.state)
    return _over(state), tuple(effects)


def _over(state: State) -> State:
    """The end, when no worker is left."""
    if any(worker.state is not WorkerState.STOPPED for worker in state.workers):
        return state
    return replace(state, phase=Phase.STOPPED, stop_deadline=None)


def kill(state: State, slot: int, now: float, why: str) -> Result:
    """SIGKILL a worker. Its exit does the rest."""
    worker = state.workers[slot]
    fields = {"worker": slot, "generation": worker.generation, "pid": worker.pid, "why": why}
    return state.with_worker(replace(worker, state=WorkerState.KILLED, since=now, lost=None)), (
        Kill(process=state.process(slot)),
        Log(level="error", text="killing worker", fields=fields),
    )


# -- time ------------------------------------------------------------------------------------------------------------


def alarms(state: State) -> Iterator[Alarm]:
    """What to do at which time, if nothing else happens before."""
    if state.stop_deadline is not None:
        yield state.stop_deadline, _stop_overdue
    if state.phase in (Phase.STOPPING, Phase.STOPPED):
        return
    for worker in state.workers:
        slot = worker.slot
        if worker.state is WorkerState.STARTING:
            yield worker.since + READY_TIMEOUT_S, partial(_not_ready, slot)
        elif worker.state is WorkerState.READY:
            yield worker.heard_at + HEARTBEATS_MISSED * state.limits.heartbeat_s, partial(_hung, slot)
        elif worker.lost is not None:
            yield worker.since + LOST_EXIT_S, partial(_lives_on, slot)
        elif worker.retry_at is not None:
            yield worker.retry_at, partial(_retry, slot)


def forgive(state: State, now: float) -> State:
    """Measure live workers from now on: the supervisor itself did not run for a while, so it heard no worker."""
    for worker in state.workers:
        if worker.state is WorkerState.STARTING or worker.lost is not None:
            state = state.with_worker(replace(worker, since=now))
        elif worker.state is WorkerState.READY:
            state = state.with_worker(replace(worker, heard_at=now))
    return state


def _not_ready(slot: int, state: State, now: float, _book: Book) -> Result:
    return kill(state, slot, now, f"not ready within {READY_TIMEOUT_S:g} s")


def _hung(slot: int, state: State, now: float, _book: Book) -> Result:
    return kill(state, slot, now, f"no heartbeat for {now - state.workers[slot].heard_at:.1f} s")


def _lives_on(slot: int, state: State, now: float, _book: Book) -> Result:
    return kill(state, slot, now, f"its link ended, and it lives on: {state.workers[slot].lost}")


def _retry(slot: int, state: State, now: float, book: Book) -> Result:
    return spawn(state, slot, now, book)


def _stop_overdue(state: State, now: float, _book: Book) -> Result:
    """Kill the workers that did not stop in time; later, stop waiting for the exits of killed ones."""
    left = [worker for worker in state.workers if worker.state is not WorkerState.STOPPED]
    if all(worker.state is WorkerState.KILLED and now - worker.since >= EXIT_WAIT_S for worker in left):
        fields = {"workers": [worker.slot for worker in left]}
        return replace(state, phase=Phase.STOPPED, stop_deadline=None), (
            Log(level="error", text="stopping without the exit of killed workers", fields=fields),
        )
    effects: tuple[Effect, ...] = ()
    for worker in left:
        if worker.state is not WorkerState.KILLED:
            state, more = kill(state, worker.slot, now, "it did not stop in time")
            effects += more
    return replace(state, stop_deadline=now + EXIT_WAIT_S), effects
