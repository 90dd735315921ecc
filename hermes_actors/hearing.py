"""A worker's messages as events of the supervisor."""

from __future__ import annotations

from hermes_actors.core.events import (
    Event,
    PageWanted,
    QueryAnswered,
    RenameWanted,
    SessionDropped,
    SessionWanted,
    ShardBroke,
    TurnFellBack,
    WorkerBeat,
    WorkerReady,
)
from hermes_actors.core.model import Load
from hermes_actors.wire import messages as wire
from hermes_actors.wire.codec import ProtocolError


def event_of(slot: int, generation: int, message: object) -> Event:
    """What a message of the process with this slot and generation means; what it says of itself does not count.

    Raises:
        ProtocolError: no worker says this to the supervisor.
    """
    match message:
        case wire.Ready():
            return WorkerReady(slot=slot, generation=generation)
        case wire.Heartbeat() as beat:
            load = Load(
                resident=beat.resident, running=beat.running, queued=beat.queued, turns=beat.turns, mcp=beat.mcp
            )
            return WorkerBeat(slot=slot, generation=generation, load=load, active=beat.active)
        case wire.Activate() as asked:
            return SessionWanted(
                slot=slot,
                generation=generation,
                request=asked.request,
                key=asked.key,
                principal=asked.principal,
                shard=asked.shard,
                fence=asked.fence,
                create=asked.create,
            )
        case wire.Forget() as asked:
            return SessionDropped(
                slot=slot,
                generation=generation,
                request=asked.request,
                key=asked.key,
                shard=asked.shard,
                fence=asked.fence,
            )
        case wire.Rename() as asked:
            return RenameWanted(
                slot=slot,
                generation=generation,
                request=asked.request,
                key=asked.key,
                shard=asked.shard,
                fence=asked.fence,
            )
        case wire.FellBack() as told:
            return TurnFellBack(
                slot=slot,
                generation=generation,
                key=told.key,
                shard=told.shard,
                fence=told.fence,
                turn_id=told.turn_id,
                provider=told.provider,
                model=told.model,
            )
        case wire.ListSessions() as asked:
            return PageWanted(
                slot=slot,
                generation=generation,
                request=asked.request,
                principal=asked.principal,
                after=asked.after,
                limit=asked.limit,
            )
        case wire.ShardBroken() as broken:
            return ShardBroke(
                slot=slot,
                generation=generation,
                shard=broken.shard,
                why=broken.why,
                set_aside=broken.set_aside,
                serving=broken.serving,
            )
        case wire.Answer() as answer:
            return QueryAnswered(
                slot=slot, generation=generation, request=answer.request, found=answer.found, data=answer.data
            )
        case _:
            raise ProtocolError(f"a worker does not say {type(message).__name__} to the supervisor")
