"""What becomes of the turns that an earlier owner left in a shard: who was interrupted, and who still runs.

A turn on disk as running is interrupted and never runs again; a queued one is kept, and runs first when its session is
activated. One turn of a session runs at a time: where several are on disk as running, the last was cut, and the ends of
those before it could not be stored. A command is kept under its session's key too, but beside its turns: as stateless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import structlog

from hermes_actors.wire.failpoints import point
from hermes_actors.wire.records import CutTurn
from hermes_actors.wire.refusals import RefusalCode
from workers.sessions.backlog import Backlog
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.registry import SessionRegistry
from workers.sessions.unstored import end_turn
from workers.store.shard import StoreFailed, TurnRow
from workers.turn_errors import cancelled_error, cut_error, store_error, unstored_end
from workers.turns import Ended, Refusal, TurnError, TurnState

log = structlog.get_logger(__name__)

ENDED_TOGETHER = 256  # turns that share commits, so that a worker's replacement soon serves


class NotRecorded(StoreFailed):
    """The supervisor did not answer for now; the disk is not to blame."""


def not_recorded(why: str, refusal: Refusal) -> StoreFailed:
    """The error of a shard that cannot serve because the supervisor did not record this."""
    said = f"{why} could not be recorded: {refusal.why}"
    return StoreFailed(said) if refusal.code == RefusalCode.STORE_FAILED else NotRecorded(said)


async def recover(shard: OwnedShard, backlog: Backlog, registry: SessionRegistry) -> None:
    """End what an earlier owner of a shard left running, and keep what it left queued, before the shard serves.

    The supervisor records first whose turns were cut. Were it the other way round, a kill between the two would leave
    neither a turn that runs nor a mark.

    Raises:
        StoreFailed: the shard cannot serve.
    """
    unfinished = await shard.store.unfinished()
    point("recovery.found")
    cut = {_line(row): row for row in unfinished if row.state == "running"}
    await _record(shard, cut.values(), unfinished, registry)
    point("recovery.recorded")
    ends = {row.submission.turn_id: _end(row, was_cut=row is cut.get(_line(row))) for row in unfinished}
    over = [(row, end) for row in unfinished if (end := ends[row.submission.turn_id]) is not None]
    for at in range(0, len(over), ENDED_TOGETHER):
        await asyncio.gather(*(_store(shard, row, end) for row, end in over[at : at + ENDED_TOGETHER]))
    point("recovery.settled")
    backlog.take_over(shard.number, (row.submission for row in unfinished if ends[row.submission.turn_id] is None))


def _line(row: TurnRow) -> tuple[str, bool]:
    """What runs one at a time."""
    return row.submission.key, row.submission.stateless


def _end(row: TurnRow, *, was_cut: bool) -> Ended | None:
    """The end of a turn that an earlier owner left; None: it still runs."""
    if was_cut:
        return _ended(row, "interrupted", cut_error("crash"))
    if row.state == "running":
        return _ended(row, "failed", store_error())
    if row.submission.stateless and row.submission.idempotency_key is None:  # its caller is gone; no other can ask
        return _ended(row, "cancelled", cancelled_error())
    return None


def _ended(row: TurnRow, state: TurnState, error: TurnError) -> Ended:
    return unstored_end(row.submission.turn_id, row.session_id, state, error)


async def _record(
    shard: OwnedShard, cut: Iterable[TurnRow], unfinished: Sequence[TurnRow], registry: SessionRegistry
) -> None:
    stateful = (row for row in cut if not row.submission.stateless)
    struck = [CutTurn(row.submission.key, row.submission.turn_id, row.session_id) for row in stateful]
    queued = {row.submission.key: None for row in unfinished if row.state == "queued" and not row.submission.stateless}
    try:
        await registry.recovered(shard, struck, list(queued))
    except Refusal as refusal:
        raise not_recorded("what an earlier owner left in it", refusal) from refusal


async def _store(shard: OwnedShard, row: TurnRow, end: Ended) -> None:
    await end_turn(shard.store, row.submission, end)
    log.warning("turn settled after a crash", session=row.submission.key, turn=end.turn_id, state=end.state)
