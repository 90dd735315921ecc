"""The shard table of a worker, and the shards it owns: opened under their fence, recovered, let go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import structlog

from hermes_actors.wire.messages import ShardBroken
from workers.agents.agent import unstored_end
from workers.agents.failures import cancelled_error, cut_error
from workers.agents.session import OwnedShard
from workers.agents.sessions import Sessions
from workers.agents.transcript import closing
from workers.store.journal import Journal
from workers.store.shard import StoreFailed, TurnRow
from workers.store.sqlite import open_shard

log = structlog.get_logger(__name__)


class ShardTable:
    """Who owns which shard, as the supervisor said last; and the shards open here.

    Args:
        slot: this worker's.
        shards: how many there are in all.
    """

    def __init__(self, slot: int, shards: int) -> None:
        self.slot = slot
        self.shards = shards
        self.owners: dict[int, tuple[int, int]] = {}  # shard -> slot, fence
        self.peers: dict[int, str] = {}  # slot -> socket path, of the workers that are up
        self.open: dict[int, OwnedShard] = {}
        self._changed = asyncio.Event()

    def update(self, owners: Mapping[int, list[int]], peers: Mapping[int, str]) -> None:
        """Take the supervisor's table."""
        self.owners = {shard: (slot, fence) for shard, (slot, fence) in owners.items()}
        self.peers = dict(peers)
        self.changed()

    def changed(self) -> None:
        """Wake who waits for an owner."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self, timeout_s: float) -> None:
        """Wait for the next change, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    def mine(self) -> dict[int, int]:
        """Shard -> fence, of the shards that are to be open here."""
        return {shard: fence for shard, (slot, fence) in self.owners.items() if slot == self.slot}


async def open_owned(
    table: ShardTable,
    journal: Journal,
    directory: Path,
    durability: Literal["power_loss", "process"],
    sessions: Sessions,
    report: Callable[[ShardBroken], None],
) -> list[OwnedShard]:
    """Open and settle the shards that this worker newly owns, let go of those it lost; return the new ones.

    A shard that cannot be opened is reported and stays closed; the others serve.
    """
    mine = table.mine()
    for number, shard in list(table.open.items()):
        if mine.get(number) != shard.fence:
            del table.open[number]
            await shard.store.close()

    async def open_one(number: int, fence: int) -> OwnedShard | None:
        path = directory / f"{number:02d}.db"
        try:
            opened = await open_shard(journal, path, shard=number, fence=fence, durability=durability)
            shard = OwnedShard(number=number, fence=fence, store=opened.store)
            await settle(shard, sessions)
        except StoreFailed as error:
            log.error("shard cannot be opened", shard=number, why=str(error))  # noqa: TRY400  # the reason says it all
            report(ShardBroken(shard=number, why=str(error), set_aside=None, serving=False))
            return None
        if opened.set_aside is not None:
            aside = opened.set_aside
            log.error("shard file was broken and is set aside", shard=number, why=aside.why, set_aside=str(aside.path))
            report(ShardBroken(shard=number, why=aside.why, set_aside=str(aside.path), serving=True))
        table.open[number] = shard
        return shard

    missing = {number: fence for number, fence in mine.items() if number not in table.open}
    opened = await asyncio.gather(*(open_one(number, fence) for number, fence in missing.items()))
    return [shard for shard in opened if shard is not None]


async def settle(shard: OwnedShard, sessions: Sessions) -> None:
    """Before a shard serves: running turns of its earlier owner are interrupted and never run again, queued ones kept.

    Raises:
        StoreFailed: the shard cannot serve.
    """
    queued = []
    for row in await shard.store.unfinished():
        if row.state == "running":
            await _end(shard, row, "interrupted")
            log.warning("turn interrupted by a crash", session=row.submission.key, turn=row.submission.turn_id)
        elif row.submission.stateless and row.submission.idempotency_key is None:
            await _end(shard, row, "cancelled")  # its caller is gone and nobody can ask for it
        else:
            queued.append(row)
    sessions.inherit(shard, queued)


async def _end(shard: OwnedShard, row: TurnRow, state: Literal["interrupted", "cancelled"]) -> None:
    turn_id = row.submission.turn_id
    error = cut_error("crash") if state == "interrupted" else cancelled_error()
    past = await shard.store.transcript(row.session_id)
    rows = next((turn.rows for turn in reversed(past) if turn.turn_id == turn_id), ())
    await shard.store.finish(unstored_end(turn_id, row.session_id, state, error), closing(rows))
