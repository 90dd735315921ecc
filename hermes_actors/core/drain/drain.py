"""The drain: running turns may end until a deadline. What runs then is sealed, marked, and only then cut.

    serving ──asked──▶ draining ──nothing runs, or the deadline──▶ sealing ──all answered──▶ cuts recorded ──▶ stopping
       ▲                   │                                                                      └──▶ held ──▶ stopping
       └──────cancelled────┴────────────────────────────────────────────────────────────────────────────┘

The turns that run at the deadline are cut, not those that ran when the drain began. Between seal and cut no turn ends
by itself, so exactly the marked turns are interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from operator import attrgetter

from hermes_actors.core.drain.outcome import logged, outcome, reason, replies
from hermes_actors.core.effects import (
    Announce,
    Effect,
    EndProcess,
    Log,
    NoteLife,
    Reply,
    Send,
)
from hermes_actors.core.events import StopAsked
from hermes_actors.core.pool import lifecycle
from hermes_actors.core.pool.lifecycle import EXIT_WAIT_S, STOP_NOW_S, STOP_S, Alarm, Result
from hermes_actors.core.sessions import marking
from hermes_actors.core.sessions.book import Book
from hermes_actors.core.state import DrainInProgress, DrainRequest, Process, ReplyTo, Sealing, State
from hermes_actors.operations.results import Phase, Then, WorkerState
from hermes_actors.wire import messages as wire
from hermes_actors.wire.messages import DrainOver, NoTurnRuns, Recovered, RestartWanted, Sealed
from hermes_actors.wire.records import CutTurn
from hermes_actors.wire.refusals import RefusalCode

SEAL_ANSWER_S = 2.0  # for a worker to report what runs; a silent one is killed, and its shards recovered
MOST_WAITING = 100  # requests of operators for a drain's end
AFTER_DEADLINE_S = SEAL_ANSWER_S + STOP_S + EXIT_WAIT_S + 5.0  # from a drain's deadline to the end, with a reserve

_STRONGER = (Then.HOLD, Then.RESTART, Then.STOP)  # of two requests the later one here wins


def signalled(event: StopAsked) -> DrainRequest:
    """What a signal requests."""
    return DrainRequest(then=Then.STOP, timeout_s=0.0 if event.now else None, by=event.by, signal=True)


def wanted(message: RestartWanted) -> DrainRequest:
    """What an administrator's message requests."""
    return DrainRequest(then=Then.RESTART, by=f"/restart in {message.key}", asker=message.key)


def asked(state: State, request: DrainRequest, now: float) -> Result:
    """Begin a drain, or join the present one: its deadline comes nearer or stays, and the stronger ``then`` follows it.

    A second signal seals at once; a third waits for no worker any more.
    """
    timeout_s = state.limits.drain_timeout_s if request.timeout_s is None else request.timeout_s
    to = (request.reply_to,) if request.reply_to else ()
    if to and state.phase is Phase.STOPPED and state.drain is not None and state.drain.then is request.then:
        return state, replies(state.drain, to)  # the drain has ended, and the process ends after these effects
    refused = _refusal(state, request)
    if refused is not None:
        return state, (refused,)
    if state.drain is None:
        return _begin(state, request, timeout_s, now)
    if state.phase is Phase.HELD and request.then is Then.HOLD:
        return state, replies(state.drain, to)
    return _join(state, state.drain, request, timeout_s, now)


def _refusal(state: State, request: DrainRequest) -> Effect | None:
    full = state.drain is not None and len(state.drain.waiting) >= MOST_WAITING
    if state.phase is not Phase.STOPPED and not (full and request.reply_to):
        return None
    why = f"{MOST_WAITING} requests wait for the drain's end already" if full else "the gateway has stopped"
    if request.reply_to is None:
        return Log(level="info", text="nothing is left to drain", fields={"by": request.by})
    return Reply(reply_to=request.reply_to, error=RefusalCode.BUSY, why=why)


def _begin(state: State, request: DrainRequest, timeout_s: float, now: float) -> Result:
    if state.phase is Phase.STARTING:
        timeout_s = 0.0  # no client uses the gateway yet
    drain = DrainInProgress(
        number=state.drains + 1,
        then=request.then,
        by=request.by,
        asker=request.asker,
        before=state.phase,
        began_at=now,
        deadline=now + timeout_s,
        signals=int(request.signal),
        waiting=(request.reply_to,) if request.reply_to else (),
    )
    state = replace(state, phase=Phase.DRAINING, drains=drain.number, drain=drain)
    fields = {"by": request.by, "then": request.then.value, "timeout_s": timeout_s, "asker": request.asker}
    told = _message(state, drain, state.live)
    return state, (Log(level="info", text="draining", fields=fields), _notice(state, drain, now), *told)


def _join(state: State, drain: DrainInProgress, request: DrainRequest, timeout_s: float, now: float) -> Result:
    signals = drain.signals + request.signal
    joined = replace(
        drain,
        asker=request.asker or drain.asker,
        then=max(drain.then, request.then, key=_STRONGER.index),
        deadline=now if signals > 1 else min(drain.deadline, now + timeout_s),
        signals=signals,
        waiting=(*drain.waiting, request.reply_to) if request.reply_to else drain.waiting,
    )
    told: tuple[Effect, ...] = ()
    if state.phase is Phase.HELD:  # nothing runs; but the reply says what waits
        joined = replace(joined, by=request.by, began_at=now, deadline=now, crashed=(), outcome=None)
        state = replace(state, phase=Phase.DRAINING)
    elif joined.seal is None and _order(joined) != _order(drain):
        told = _message(state, joined, state.live)
    elif signals > 2 and joined.seal is not None:
        joined = replace(joined, seal=replace(joined.seal, deadline=now))
    state = replace(state, drain=joined)
    fields = {"by": request.by, "then": joined.then.value, "left_s": round(max(0.0, joined.deadline - now), 2)}
    effects: tuple[Effect, ...] = (Log(level="info", text="drain joined", fields=fields), _notice(state, joined, now))
    effects += told
    if state.phase is Phase.STOPPING and (signals > 1 or request.timeout_s == 0):
        state, more = lifecycle.stop(state, STOP_NOW_S, now)
        effects += more
    return state, effects


def cancel(state: State, by: ReplyTo, book: Book) -> Result:
    """Serve again, if nothing was cut yet or the gateway is held."""
    drain = state.drain
    if drain is None or drain.seal is not None or state.phase in (Phase.STOPPING, Phase.STOPPED):
        why = "no drain is on its way" if drain is None else "the drain is past its deadline: what ran is being cut"
        return state, (Reply(reply_to=by, error=RefusalCode.NOT_DRAINING, why=why),)
    state, effects = _called_off(state, drain, book, RefusalCode.CANCELLED, "an operator cancelled the drain")
    return state, (Log(level="info", text="drain cancelled"), *effects, Reply(reply_to=by))


def _called_off(state: State, drain: DrainInProgress, book: Book, error: RefusalCode, why: str) -> Result:
    state = replace(state, phase=drain.before, drain=None)
    if drain.stop_noted:
        book.write(NoteLife(milestone="stop_began_at", at=None))
    return state, (
        *((Send(to=state.live, message=DrainOver()),) if state.live else ()),
        Announce(about="serving", within_s=0.0),
        *(Reply(reply_to=reply_to, error=error, why=why) for reply_to in drain.waiting),
    )


# -- workers -----------------------------------------------------------------------------------------------------------


def greeting(state: State, process: Process) -> tuple[Effect, ...]:
    """What a worker that starts during a drain must know before it owns a shard."""
    if state.drain is None or state.phase not in (Phase.DRAINING, Phase.HELD):
        return ()
    return _message(state, state.drain, (process,))


def drained(state: State, process: Process, message: NoTurnRuns) -> Result:
    """Stop waiting for a worker: no turn runs there."""
    if state.drain is None or message.number != state.drain.number:  # that one was cancelled
        return state, ()
    drained = state.drain.drained | {process}
    return replace(state, drain=replace(state.drain, drained=drained)), ()


def sealed(state: State, process: Process, message: Sealed) -> Result:
    """Keep a worker's answer; drop one that is late, or from a worker that got no request."""
    seal = None if state.drain is None else state.drain.seal
    if state.drain is None or seal is None or message.request != seal.request or process not in seal.waiting:
        return state, ()
    whole = {process.slot} if state.workers[process.slot].state is WorkerState.READY else set()
    seal = replace(
        seal,
        waiting=seal.waiting - {process},
        answers={**seal.answers, process: message},
        whole=seal.whole | whole,
    )
    return replace(state, drain=replace(state.drain, seal=seal)), ()


def died(before: State, after: State) -> State:
    """Note the shards of workers that died: what ran there is known once the next owner has read them."""
    gone = {process.slot for process in set(before.live).difference(after.live)}
    if not gone or after.drain is None or after.phase is not Phase.DRAINING:
        return after
    unread = {(owner.slot, shard) for shard, owner in enumerate(before.owners) if owner.slot in gone}
    return replace(after, drain=replace(after.drain, unread=after.drain.unread | unread))


def recovered(state: State, message: Recovered) -> State:
    """Such a shard was read: the sessions that the death cut are reported with those that the drain cuts."""
    drain = state.drain
    if drain is None or message.shard not in {shard for _, shard in drain.unread}:
        return state
    unread = frozenset((slot, shard) for slot, shard in drain.unread if shard != message.shard)
    crashed = (*drain.crashed, *(turn.key for turn in message.cut))
    return replace(state, drain=replace(drain, unread=unread, crashed=crashed))


# -- what follows from the state and the time ----------------------------------------------------------------------


def settle(state: State, now: float, book: Book) -> Result:
    """Seal when no turn is left to wait for, conclude when all workers have answered."""
    effects: tuple[Effect, ...] = ()
    if state.phase is not Phase.DRAINING or state.drain is None:
        return state, effects
    if state.drain.seal is None and (now >= state.drain.deadline or not _awaited(state, state.drain)):
        state, effects = _seal(state, state.drain, now)
    drain = state.drain
    if drain is not None and drain.seal is not None:
        state = _stop_noted(state, drain, book)
        if now >= drain.seal.deadline or drain.seal.waiting.isdisjoint(state.live):
            state, more = _concluded(state, now, book)
            effects += more
    return state, effects


def ended(state: State, now: float) -> tuple[Effect, ...]:
    """What to do when no worker is left."""
    drain = state.drain
    assert drain is not None, "nothing else ends the gateway"
    assert drain.outcome is not None
    drain = replace(drain, outcome=replace(drain.outcome, took_s=round(now - drain.began_at, 3)))
    return (*replies(drain, drain.waiting), EndProcess(restart=drain.then is Then.RESTART))


def alarms(state: State) -> Iterator[Alarm]:
    """When the drain stops waiting: :func:`settle` does it, after every event."""
    if state.drain is not None and state.phase is Phase.DRAINING:
        seal = state.drain.seal
        yield state.drain.deadline if seal is None else seal.deadline, lambda later, _now, _book: (later, ())


def forgive(state: State, now: float) -> State:
    """Give the workers more time: the supervisor itself did not run for a while, and their answers may wait."""
    if state.drain is None or state.drain.seal is None:
        return state
    return replace(state, drain=replace(state.drain, seal=replace(state.drain.seal, deadline=now + SEAL_ANSWER_S)))


def _awaited(state: State, drain: DrainInProgress) -> bool:
    """Whether a turn may run in a worker that lives."""
    live = (WorkerState.STARTING, WorkerState.READY)
    return any(worker.state in live and state.process(worker.slot) not in drain.drained for worker in state.workers)


def _seal(state: State, drain: DrainInProgress, now: float) -> Result:
    number, to = state.asked + 1, state.live
    seal = Sealing(request=number, deadline=now + SEAL_ANSWER_S, waiting=frozenset(to))
    drain = replace(drain, seal=seal, sealed_at=now if drain.sealed_at is None else drain.sealed_at)
    state = replace(state, asked=number, drain=drain)
    asking = (Send(to=to, message=wire.Seal(request=number)),) if to else ()
    return state, (_notice(state, drain, now), *asking)


def _stop_noted(state: State, drain: DrainInProgress, book: Book) -> State:
    """Note when this life began to cut: strikes from then on belong to its end. A hold may end with a stop too."""
    if drain.stop_noted:
        return state
    assert drain.sealed_at is not None
    book.write(NoteLife(milestone="stop_began_at", at=state.wall(drain.sealed_at)))
    return replace(state, drain=replace(drain, stop_noted=True))


def _concluded(state: State, now: float, book: Book) -> Result:
    """All have answered, or are late: mark the running turns, then cut them.

    Where the disk refuses, a stop cuts nothing: workers that stop with sealed turns leave these as running on disk, so
    the next start marks them as after a crash. A restart or a hold is called off.
    """
    drain = state.drain
    assert drain is not None
    if book.fault is None:
        return _conclude(state, now, book)
    if drain.then is Then.STOP:
        log = Log(
            level="error", text="what is cut cannot be marked now; the next start will", fields={"why": book.fault}
        )
        state, effects = _conclude(state, now, book)
        return state, (log, *effects)
    why = f"the disk cannot be written ({book.fault}), so what the drain would cut cannot be marked; everything goes on"
    state, effects = _called_off(state, drain, book, RefusalCode.STORE_FAILED, why)
    return state, (Log(level="error", text="the drain is called off", fields={"why": why}), *effects)


def _conclude(state: State, now: float, book: Book) -> Result:
    """Mark and cut, then stop or hold. Silent workers are killed: the next owner finds what ran there."""
    drain = state.drain
    assert drain is not None
    assert drain.seal is not None
    seal, live, marked = drain.seal, state.live, book.fault is None
    sealed = {turn for answer in seal.answers.values() for turn in answer.cut}
    cuts = tuple(sorted(sealed, key=attrgetter("key", "turn_id")))
    waiting: frozenset[str] = frozenset().union(*(answer.busy for answer in seal.answers.values()))
    if marked:
        _mark(state, drain, cuts, waiting, book)
    silent = {process.slot for process in live if process in seal.waiting} | {slot for slot, _ in drain.unread}
    came_to = outcome(drain, cuts, waiting, silent, now, book)
    drain = replace(drain, seal=None, unmarked=not marked and bool(cuts), outcome=came_to)
    state = replace(state, drain=drain)
    effects: tuple[Effect, ...] = (logged(came_to, reason(drain)),)
    for process in live:
        if process in seal.waiting:
            state, more = lifecycle.kill(state, process.slot, now, f"it did not tell what runs for {SEAL_ANSWER_S:g} s")
            effects += more
    answered = tuple(process for process in live if process in seal.answers)
    if answered and marked:
        effects += (Send(to=answered, message=wire.Cut(reason=reason(drain), at=state.wall(now))),)
    hold = drain.then is Then.HOLD
    state, after = _hold(state, drain, now) if hold else lifecycle.stop(state, STOP_S, now)
    return state, (*effects, *after)


def _mark(state: State, drain: DrainInProgress, cuts: tuple[CutTurn, ...], waiting: frozenset[str], book: Book) -> None:
    """Strike and mark the sessions that are cut. Where the gateway stops, idle ones lose their strikes."""
    assert drain.seal is not None
    assert drain.sealed_at is not None
    since = state.wall(drain.sealed_at)
    marking.cut(book, cuts, reason(drain))
    book.write(NoteLife(milestone="stop_began_at", at=since))  # unless that could be written before
    if drain.then is not Then.HOLD:
        busy = waiting.union(turn.key for turn in cuts)
        marking.clear_idle(book, busy, _unknown(state, drain.seal), cut_since=since)


def _hold(state: State, drain: DrainInProgress, now: float) -> Result:
    state = replace(state, phase=Phase.HELD, drain=replace(drain, deadline=min(drain.deadline, now), waiting=()))
    return state, (*replies(drain, drain.waiting), _notice(state, drain, now))


def _unknown(state: State, seal: Sealing) -> frozenset[int]:
    """The shards about which no answer said what runs or waits there."""
    unread = {shard for shard, fault in state.broken.items() if not fault.serving}
    return state.unheard | unread | {shard for shard, owner in enumerate(state.owners) if owner.slot not in seal.whole}


# -- what is said ------------------------------------------------------------------------------------------------------


def _order(drain: DrainInProgress) -> tuple[Then, float, str | None]:
    """What workers know of the drain."""
    return drain.then, drain.deadline, drain.asker


def _message(state: State, drain: DrainInProgress, to: tuple[Process, ...]) -> tuple[Effect, ...]:
    if not to:
        return ()
    order = wire.Drain(
        number=drain.number,
        reason=reason(drain),
        then=drain.then.value,
        deadline=state.wall(drain.deadline),
        asker=drain.asker,
    )
    return (Send(to=to, message=order),)


def _notice(state: State, drain: DrainInProgress, now: float) -> Effect:
    """For the service manager. It hears of the end once nothing can cancel the drain any more."""
    if state.phase is Phase.HELD:
        return Announce(about="held", within_s=0.0)
    within_s = max(0.0, drain.deadline - now) + AFTER_DEADLINE_S
    sure = state.phase is Phase.STOPPING or drain.seal is not None
    if not sure or drain.then is Then.HOLD:
        return Announce(about="draining", within_s=within_s)
    return Announce(about="restarting" if drain.then is Then.RESTART else "stopping", within_s=within_s)
