"""What workers tell of cut and answered turns, and what operators change in a session's marks and strikes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hermes_actors.core.drain import drain
from hermes_actors.core.effects import (
    ChangeSession,
    RecordAttested,
    RecordOpened,
    RecordRecovered,
    RecordSucceeded,
    Reply,
    RestoreSession,
    SendQuery,
    SessionChange,
    SettleStart,
)
from hermes_actors.core.events import (
    RestoreWanted,
    SessionsAttested,
    SessionsFound,
    ShardOpened,
    ShardRecovered,
    TurnSucceeded,
)
from hermes_actors.core.operators.questions import await_answers, query
from hermes_actors.core.pool import lifecycle
from hermes_actors.core.pool.lifecycle import Result
from hermes_actors.core.sessions import marks
from hermes_actors.core.state import Changed, Process, SessionEntry, State, StopTurn
from hermes_actors.wire.refusals import RefusalCode

CHANGES: Mapping[str, SessionChange] = {
    "sessions.suspend": "suspend",
    "sessions.resume": "resume",
    "sessions.reset": "reset",
}


# -- workers -----------------------------------------------------------------------------------------------------------


def shard_opened(state: State, event: ShardOpened, now: float) -> Result:
    """What its file lost. Where that was damaged or missing, nobody can say who of it was idle before this start."""
    record = RecordOpened(
        slot=event.slot,
        generation=event.generation,
        request=event.request,
        shard=event.shard,
        fence=event.fence,
        found=event.found,
    )
    return lifecycle.goes_on(state, event.slot, now), (record,)


def sessions_attested(state: State, event: SessionsAttested, now: float) -> Result:
    """What the registry may have lost."""
    record = RecordAttested(
        slot=event.slot, generation=event.generation, request=event.request, shard=event.shard, latest=event.latest
    )
    return lifecycle.goes_on(state, event.slot, now), (record,)


def shard_recovered(state: State, event: ShardRecovered) -> Result:
    """A crash cut what ran in the shard. The first time in this life, it also tells who was not idle before."""
    record = RecordRecovered(
        slot=event.slot,
        generation=event.generation,
        request=event.request,
        shard=event.shard,
        shards=len(state.owners),
        cuts=event.cut,
    )
    state = drain.recovered(state, event)
    busy = {turn.key for turn in event.cut} | set(event.queued)
    state, settled = heard(state, event.shard, frozenset(busy))
    mended = {shard: fault for shard, fault in state.broken.items() if shard != event.shard or fault.serving}
    return replace(state, broken=mended), (record, *settled)


def heard(state: State, shard: int, busy: frozenset[str] | None) -> Result:
    """A shard was read for the first time in this life, or could not be (None); with the last one the start is over."""
    if shard not in state.unheard:
        return state, ()
    state = replace(
        state,
        unheard=state.unheard - {shard},
        unread=state.unread if busy is not None else state.unread | {shard},
        busy=state.busy | (busy or frozenset()),
    )
    if state.unheard:
        return state, ()
    settle = SettleStart(busy=state.busy, unread=state.unread, shards=len(state.owners))
    return replace(state, busy=frozenset()), (settle,)


def turn_succeeded(state: State, event: TurnSucceeded) -> Result:
    """Its session's marks and strikes are over."""
    record = RecordSucceeded(
        slot=event.slot, generation=event.generation, request=event.request, key=event.key, turn_id=event.turn_id
    )
    return state, (record,)


def restore_wanted(state: State, event: RestoreWanted) -> Result:
    """Its session wants its earlier transcript back."""
    restore = RestoreSession(slot=event.slot, generation=event.generation, request=event.request, key=event.key)
    return state, (restore,)


# -- operators ---------------------------------------------------------------------------------------------------------


def change(state: State, event: SessionsFound, entry: SessionEntry, what: SessionChange, now: float) -> Result:
    """Change a session's marks, then have its worker let go of what it knows: its next message reads it anew."""
    if what == "resume" and marks.resume(entry.marks, entry.session_id) is None:
        why = f"{entry.key} is not suspended, and no transcript of it was set aside"
        return state, (Reply(client=event.client, request=event.request, error=RefusalCode.NOT_SUSPENDED, why=why),)
    to = owner_of(state, entry)
    state, number = await_answers(state, event.client, event.request, Changed(entry=entry), to, now)
    evict = SendQuery(to=to, request=number, about="evict", key=entry.key) if to else None
    return state, (ChangeSession(key=entry.key, change=what, then=evict),)


def stop_turn(state: State, event: SessionsFound, entry: SessionEntry, now: float) -> Result:
    """End the turn that runs in a session."""
    return query(state, event, StopTurn(), owner_of(state, entry), "stop_turn", entry.key, now)


def owner_of(state: State, entry: SessionEntry) -> tuple[Process, ...]:
    """The process that serves a session; empty while none does."""
    slot = state.owners[entry.shard].slot
    return (state.process(slot),) if slot in state.up else ()
