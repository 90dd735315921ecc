"""What workers tell of cut and answered turns, and what operators change in a session's marks and strikes."""

from __future__ import annotations

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
    SettleStart,
)
from hermes_actors.core.events import (
    RestoreWanted,
    SessionsAttested,
    ShardOpened,
    ShardRecovered,
    TurnSucceeded,
)
from hermes_actors.core.operators.pending import wait
from hermes_actors.core.pool import lifecycle
from hermes_actors.core.pool.lifecycle import Result
from hermes_actors.core.sessions import marks
from hermes_actors.core.state import Pending, Process, SessionEntry, State
from hermes_actors.operations.requests import ResumeSession, SessionChange
from hermes_actors.operations.workers import EvictSession
from hermes_actors.wire.refusals import RefusalCode

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


def change(
    state: State, client: int, request: int, operation: SessionChange, entry: SessionEntry, now: float
) -> Result:
    """Change a session's marks, then have its worker evict the session: its next message reads it again."""
    if isinstance(operation, ResumeSession) and marks.resume(entry.marks, entry.session_id) is None:
        why = f"{entry.key} is not suspended, and no transcript of it was set aside"
        return state, (Reply(client=client, request=request, error=RefusalCode.NOT_SUSPENDED, why=why),)
    to = owner_of(state, entry)
    pending = Pending(client=client, request=request, operation=operation, waiting=frozenset(to), entry=entry)
    state, number = wait(state, pending, now)
    evict = SendQuery(to=to, request=number, operation=EvictSession(key=entry.key)) if to else None
    return state, (ChangeSession(key=entry.key, change=operation, then=evict),)


def owner_of(state: State, entry: SessionEntry) -> tuple[Process, ...]:
    """The process that serves a session; empty while none does."""
    slot = state.owners[entry.shard].slot
    return (state.process(slot),) if slot in state.up else ()
