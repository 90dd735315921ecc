"""The shard table of a worker, and the shards it owns: opened under their fence, recovered, let go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from hermes_actors.wire.failpoints import point
from hermes_actors.wire.messages import ShardBroken
from hermes_actors.wire.refusals import RefusalCode
from workers.sessions.registry import Names
from workers.sessions.residents import Sessions
from workers.sessions.session import OwnedShard
from workers.sessions.unstored import end_turn
from workers.store.file import Durability
from workers.store.journal import Journal
from workers.store.shard import Found, LatestTurn, StaleFence, StoreFailed, TurnRow
from workers.store.sqlite import open_shard
from workers.turn_errors import cancelled_error, cut_error, cut_reason, store_error, unstored_end
from workers.turns import Ended, Refusal, TurnError, TurnState

log = structlog.get_logger(__name__)

ATTESTED_ALWAYS = 100  # of the latest turns: a registry that does not know one of their sessions lost more
ATTESTED_TOGETHER = 500  # sessions in one message
READ_AT_ONCE = 5000  # turns: some milliseconds
_UNUSABLE = "shard file cannot be used"
SETTLED_TOGETHER = 256  # turns that share commits, so that a worker's replacement soon serves


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
        """Wake who waits for an owner."""
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


class NotRecorded(StoreFailed):
    """The supervisor did not answer for now; the disk is not to blame."""


def _unrecorded(why: str, refusal: Refusal) -> StoreFailed:
    return StoreFailed(why) if refusal.code == RefusalCode.STORE_FAILED else NotRecorded(why)


class ShardFiles:
    """Opens and closes the shards of a worker as its table changes.

    Args:
        directory: of the shard files.
        report: told of each shard whose file cannot be used, or had to be set aside.
    """

    def __init__(
        self,
        table: ShardTable,
        sessions: Sessions,
        names: Names,
        *,
        journal: Journal,
        directory: Path,
        durability: Durability,
        report: Callable[[ShardBroken], None],
    ) -> None:
        self._table = table
        self._sessions = sessions
        self._names = names
        self._journal = journal
        self._directory = directory
        self._durability = durability
        self._report = report
        self._following = asyncio.Lock()
        self._closed = False
        self._reached: dict[int, int] = {}  # by shard: as it was told

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
        """Let go of the shards that were lost, open and settle the new ones; return these.

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
                await settle(shard, self._sessions, self._names)
            except BaseException:
                await shard.store.close()
                raise
        except StoreFailed as error:
            told = self._table.unusable.get(number)
            if isinstance(error, StaleFence | NotRecorded):
                self._table.unusable.pop(number, None)
            else:
                self._table.unusable[number] = str(error)
            if told != str(error):
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
            since, lost = await self._names.opened(shard, found)
            if lost is not None:  # reported before its turns are: nobody can say who of it was idle
                self._broken(shard.number, lost, found.set_aside, serving=True)
            if found.flaw is not None:
                await shard.store.reported()
            again = await self._attest(shard, min(since, found.turn - ATTESTED_ALWAYS))
            if again is not None:
                await self._attest(shard, again)
        except Refusal as refusal:
            raise _unrecorded(f"how its file was found could not be recorded: {refusal.why}", refusal) from refusal

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
            answer = await self._names.attest(shard, named)
            again += [] if answer is None else [answer]
        return min(again, default=None)

    def _broken(self, number: int, why: str, aside: str | None, *, serving: bool) -> None:
        said = "shard file lost something; the shard goes on with what is left" if serving else _UNUSABLE
        log.error(said, shard=number, why=why, set_aside=aside)
        self._report(ShardBroken(shard=number, why=why, set_aside=aside, serving=serving))


def _with_reason(turn: LatestTurn) -> LatestTurn:
    """With the reason of its cut instead of what its caller was told."""
    return turn if turn.cut is None else replace(turn, cut=cut_reason(turn.cut))


async def _close(shard: OwnedShard) -> None:
    await shard.store_unstored()
    await shard.store.close()


async def settle(shard: OwnedShard, sessions: Sessions, names: Names) -> None:
    """Before a shard serves: running turns of its earlier owner are interrupted and never run again, queued ones kept.

    One turn of a session runs at a time. Where several are on disk as running, the last was cut; the ends of those
    before it could not be stored. A command is kept under its session's key too, but beside its turns: as stateless.

    The supervisor records first whose turns were cut. Were it the other way round, a kill between the two would leave
    neither a turn that runs nor a mark.

    Raises:
        StoreFailed: the shard cannot serve.
    """
    unfinished = await shard.store.unfinished()
    point("recovery.found")
    cut = {_line(row): row for row in unfinished if row.state == "running"}
    await _tell(shard, cut.values(), unfinished, names)
    point("recovery.recorded")
    over: list[tuple[TurnRow, Ended]] = []
    queued = []
    for row in unfinished:
        if row is cut.get(_line(row)):
            over.append((row, _end_of(row, "interrupted", cut_error("crash"))))
        elif row.state == "running":
            over.append((row, _end_of(row, "failed", store_error())))
        elif row.submission.stateless and row.submission.idempotency_key is None:
            over.append(
                (row, _end_of(row, "cancelled", cancelled_error()))
            )  # its caller is gone, nobody can ask for it
        else:
            queued.append(row)
    for at in range(0, len(over), SETTLED_TOGETHER):
        await asyncio.gather(*(_settle(shard, row, end) for row, end in over[at : at + SETTLED_TOGETHER]))
    point("recovery.settled")
    sessions.inherit(shard, queued)


def _line(row: TurnRow) -> tuple[str, bool]:
    """What runs one at a time."""
    return row.submission.key, row.submission.stateless


async def _tell(shard: OwnedShard, cut: Iterable[TurnRow], unfinished: Sequence[TurnRow], names: Names) -> None:
    struck = [
        (row.submission.key, row.submission.turn_id, row.session_id) for row in cut if not row.submission.stateless
    ]
    queued = {row.submission.key: None for row in unfinished if row.state == "queued" and not row.submission.stateless}
    try:
        await names.recovered(shard, struck, list(queued))
    except Refusal as refusal:
        raise _unrecorded(
            f"what an earlier owner left in it could not be recorded: {refusal.why}", refusal
        ) from refusal


async def _settle(shard: OwnedShard, row: TurnRow, end: Ended) -> None:
    await end_turn(shard.store, row.submission, end)
    log.warning("turn settled after a crash", session=row.submission.key, turn=end.turn_id, state=end.state)


def _end_of(row: TurnRow, state: TurnState, error: TurnError) -> Ended:
    return unstored_end(row.submission.turn_id, row.session_id, state, error)
