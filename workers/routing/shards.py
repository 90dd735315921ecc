"""The shard table of a worker, and the shards it owns: opened under their fence, recovered, let go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import structlog

from hermes_actors.disk.sqlite import Durability
from hermes_actors.wire.messages import ShardBroken
from hermes_actors.wire.records import Found, LatestTurn
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.recovery import NotRecorded, not_recorded, recover
from workers.sessions.registry import SessionRegistry
from workers.sessions.residents import Residents
from workers.store.journal import Journal
from workers.store.shard import StaleFence, StoreFailed
from workers.store.sqlite import open_shard
from workers.turn_errors import cut_reason
from workers.turns import Refusal

log = structlog.get_logger(__name__)

ATTESTED_ALWAYS = 100  # of the latest turns: a registry that does not know one of their sessions lost more
ATTESTED_TOGETHER = 500  # sessions in one message
READ_AT_ONCE = 5000  # turns: some milliseconds
_UNUSABLE = "shard file cannot be used"


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
        self.unusable: dict[int, str] = {}  # of those that are to be open here: why their files cannot be used
        self._changed = asyncio.Event()

    def update(self, owners: Mapping[int, list[int]], peers: Mapping[int, str]) -> None:
        """Take the supervisor's table."""
        self.owners = {shard: (slot, fence) for shard, (slot, fence) in owners.items()}
        self.peers = dict(peers)
        self.changed()

    def changed(self) -> None:
        """Wake the requests that wait for an owner."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self, timeout_s: float) -> None:
        """Wait for the next change, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    def path_of_owner(self, shard: int) -> str | None:
        """The socket of the other worker that owns a shard; None while there is none."""
        slot, _ = self.owners.get(shard, (self.slot, 0))
        return None if slot == self.slot else self.peers.get(slot)

    def mine(self) -> dict[int, int]:
        """Shard -> fence, of the shards that are to be open here."""
        return {shard: fence for shard, (slot, fence) in self.owners.items() if slot == self.slot}


class ShardFiles:
    """Opens and closes the shards of a worker as its table changes.

    Args:
        directory: of the shard files.
        report: called with each shard whose file cannot be used, or had to be set aside.
    """

    def __init__(
        self,
        table: ShardTable,
        sessions: Residents,
        registry: SessionRegistry,
        *,
        journal: Journal,
        directory: Path,
        durability: Durability,
        report: Callable[[ShardBroken], None],
    ) -> None:
        self._table = table
        self._sessions = sessions
        self._registry = registry
        self._journal = journal
        self._directory = directory
        self._durability = durability
        self._report = report
        self._following = asyncio.Lock()
        self._closed = False
        self._reached: dict[int, int] = {}  # by shard: as the supervisor knows it

    @property
    def missing(self) -> bool:
        """Whether a shard that is to be open here is not."""
        return any(number not in self._table.open for number in self._table.mine())

    def reached(self) -> dict[int, int]:
        """The number of the last turn on disk, of the shards that had one since this was asked last."""
        turns = {number: shard.store.highest for number, shard in self._table.open.items()}
        news = {number: turn for number, turn in turns.items() if turn > self._reached.get(number, 0)}
        self._reached = turns
        return news

    async def follow_table(self) -> list[OwnedShard]:
        """Close the shards that were lost, open and recover the new ones; return these.

        A shard that cannot be opened is reported and stays closed; the others serve. The next call tries again.
        """
        async with self._following:
            mine = self._table.mine()
            lost = [shard for number, shard in self._table.open.items() if mine.get(number) != shard.fence]
            for shard in lost:
                del self._table.open[shard.number]
            for number in self._table.unusable.keys() - mine.keys():
                del self._table.unusable[number]
            await asyncio.gather(*map(self._let_go, lost))
            missing = [(number, fence) for number, fence in mine.items() if number not in self._table.open]
            opened = await asyncio.gather(*(self._open(number, fence) for number, fence in missing))
            self._table.changed()
            return [shard for shard in opened if shard is not None]

    async def close(self) -> None:
        """Close all shards, for good."""
        self._closed = True
        shards = list(self._table.open.values())
        self._table.open.clear()
        await asyncio.gather(*map(_close, shards))

    async def _let_go(self, shard: OwnedShard) -> None:
        await self._sessions.release(shard)
        await _close(shard)

    async def _open(self, number: int, fence: int) -> OwnedShard | None:
        path = self._directory / f"{number:02d}.db"
        aside: str | None = None
        try:
            opened = await open_shard(self._journal, path, shard=number, fence=fence, durability=self._durability)
            aside = opened.found.set_aside
            shard = OwnedShard(number=number, fence=fence, store=opened.store)
            try:
                await self._reckon(shard, opened.found)
                await recover(shard, self._sessions.backlog, self._registry)
            except BaseException:
                await shard.store.close()
                raise
        except StoreFailed as error:
            known = self._table.unusable.get(number)
            if isinstance(error, StaleFence | NotRecorded):
                self._table.unusable.pop(number, None)
            else:
                self._table.unusable[number] = str(error)
            if known != str(error):
                self._broken(number, str(error), aside, serving=False)
            return None
        if self._closed:  # meanwhile
            await shard.store.close()
            return None
        self._table.open[number] = shard
        if self._table.unusable.pop(number, None) is not None:
            log.info("shard file can be used again", shard=number)
        return shard

    async def _reckon(self, shard: OwnedShard, found: Found) -> None:
        """Have the supervisor note what the file lost, and give its registry back what that lost.

        Raises:
            StoreFailed: the shard cannot serve.
        """
        try:
            since, lost = await self._registry.opened(shard, found)
            if lost is not None:  # reported before its turns are: it is not known which of its sessions were idle
                self._broken(shard.number, lost, found.set_aside, serving=True)
            if found.flaw is not None:
                await shard.store.reported()
            again = await self._attest(shard, min(since, found.turn - ATTESTED_ALWAYS))
            if again is not None:
                await self._attest(shard, again)
        except Refusal as refusal:
            raise not_recorded("how its file was found", refusal) from refusal

    async def _attest(self, shard: OwnedShard, since: int) -> int | None:
        """Name the sessions of the turns after this one; from which turn on again, where the registry wants that."""
        latest: dict[str, LatestTurn] = {}
        after: int | None = max(0, since)
        while after is not None:
            page, after = await shard.store.latest(after, READ_AT_ONCE)
            latest |= {turn.key: turn for turn in page}
        sessions = list(latest.values())
        again: list[int] = []
        for at in range(0, len(sessions), ATTESTED_TOGETHER):
            named = [_with_reason(turn) for turn in sessions[at : at + ATTESTED_TOGETHER]]
            answer = await self._registry.attest(shard, named)
            again += [] if answer is None else [answer]
        return min(again, default=None)

    def _broken(self, number: int, why: str, aside: str | None, *, serving: bool) -> None:
        said = "shard file lost something; the shard continues with what is left" if serving else _UNUSABLE
        log.error(said, shard=number, why=why, set_aside=aside)
        self._report(ShardBroken(shard=number, why=why, set_aside=aside, serving=serving))


def _with_reason(turn: LatestTurn) -> LatestTurn:
    """With the reason of its cut instead of what its caller read."""
    return turn if turn.cut_by is None else replace(turn, cut_by=cut_reason(turn.cut_by))


async def _close(shard: OwnedShard) -> None:
    await shard.store_unstored()
    await shard.store.close()
