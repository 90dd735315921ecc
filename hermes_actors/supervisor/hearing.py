"""A worker's messages as events of the supervisor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hermes_actors.core import events
from hermes_actors.wire import messages as wire
from hermes_actors.wire.codec import ProtocolError

_SAME: Mapping[type, type[events.FromWorker]] = {  # the event has the message's fields
    wire.Activate: events.SessionWanted,
    wire.Forget: events.SessionDropped,
    wire.Reset: events.RenameWanted,
    wire.Resume: events.RestoreWanted,
    wire.Succeeded: events.TurnSucceeded,
    wire.FellBack: events.TurnFellBack,
    wire.ListSessions: events.PageWanted,
    wire.ShardBroken: events.ShardBroke,
    wire.Drained: events.WorkerDrained,
    wire.RestartWanted: events.RestartWanted,
    wire.Answer: events.QueryAnswered,
}


def event_of(slot: int, generation: int, message: Any) -> events.Event:
    """What a message of the process with this slot and generation means; what it says of itself does not count.

    Raises:
        ProtocolError: no worker says this to the supervisor.
    """
    same = _SAME.get(type(message))
    if same is not None:
        told = {name: getattr(message, name) for name in message.__slots__}
        return same(slot=slot, generation=generation, **told)  # type: ignore[return-value]  # all of them are events
    match message:
        case wire.Ready():
            return events.WorkerReady(slot=slot, generation=generation)
        case wire.Heartbeat() as beat:
            return events.WorkerBeat(
                slot=slot, generation=generation, load=beat.load, active=beat.active, reached=beat.reached
            )
        case wire.Opened() as opened:
            return events.ShardOpened(
                slot=slot,
                generation=generation,
                request=opened.request,
                shard=opened.shard,
                fence=opened.fence,
                found=opened.found,
            )
        case wire.Attest() as attested:
            return events.SessionsAttested(
                slot=slot,
                generation=generation,
                request=attested.request,
                shard=attested.shard,
                fence=attested.fence,
                latest=tuple(attested.latest),
            )
        case wire.Recovered() as found:
            return events.ShardRecovered(
                slot=slot,
                generation=generation,
                request=found.request,
                shard=found.shard,
                fence=found.fence,
                cut=tuple(found.cut),
                queued=tuple(found.queued),
            )
        case wire.Sealed() as sealed:
            return events.WorkerSealed(
                slot=slot,
                generation=generation,
                request=sealed.request,
                cut=tuple(sealed.cut),
                busy=frozenset(sealed.busy),
                stateless=sealed.stateless,
            )
        case _:
            raise ProtocolError(f"a worker does not say {type(message).__name__} to the supervisor")
