"""The shard store on one SQLite file, through the worker's journal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hermes_actors.disk.sqlite import Durability
from hermes_actors.wire.records import Found, LatestTurn
from workers.store.file import ShardFile, open_file
from workers.store.journal import MAX_WAITING, Journal
from workers.store.packing import kept_end, kept_origin, packed
from workers.store.rows import ShardRows
from workers.store.shard import (
    ShardStore,
    StoredConversation,
    StoreFailed,
    Summary,
    TranscriptCopy,
    TranscriptRow,
    TurnRow,
)
from workers.turns import Ended, PastTurn, Submission, TurnState

MAX_WAITING_AT_ADMISSION = MAX_WAITING // 2  # over it no new turn is taken, so that those that run can still end


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedShard:
    """A shard's store, and what was found in its place."""

    store: SqliteShard
    found: Found


async def open_shard(
    journal: Journal,
    path: Path,
    *,
    shard: int,
    fence: int,
    durability: Durability,
    now: Callable[[], float] = time.time,
) -> OpenedShard:
    """Open a shard for its new owner. An older owner's writes fail from then on.

    Args:
        journal: the worker's writer thread.
        path: the shard's file; made where there is none.
        shard: its number.
        fence: the number of this ownership.
        durability: as in the configuration.
        now: seconds since the epoch.

    Raises:
        StaleFence: a newer owner has it.
        StoreFailed: the disk or its permissions do not allow it; a newer release wrote it; it is another shard's.
    """
    # Not on the journal's thread: a check or a migration may take long, and other shards' commits do not wait for it.
    file, found = await asyncio.to_thread(open_file, path, shard=shard, fence=fence, durability=durability)
    return OpenedShard(store=SqliteShard(journal, file, now, found.turn), found=found)


class SqliteShard(ShardStore):
    """A :class:`ShardStore` on one file. It has one owner, so it has one connection, used on the journal's thread."""

    def __init__(self, journal: Journal, file: ShardFile, now: Callable[[], float], highest: int = 0) -> None:
        self.highest = highest
        self._journal = journal
        self._submit = journal.submit
        self._file = file
        self._rows = ShardRows(file.connection, now)
        self._released: asyncio.Future[None] | None = None

    async def admit(
        self, submission: Submission, session_id: str, state: TurnState, *, instead_of: str | None = None
    ) -> None:
        if self._journal.waiting >= MAX_WAITING_AT_ADMISSION:
            raise StoreFailed(f"{self._journal.waiting} operations wait for the disk already")
        columns = (
            packed(submission.parameters),
            packed(kept_origin(submission.origin)),
            None if submission.response is None else packed(submission.response),
        )
        admit = self._rows.admit
        number = await self._submit(self._file, admit, submission, session_id, state, *columns, instead_of)
        self.highest = max(self.highest, number)

    async def begin(self, turn_id: str, session_id: str) -> None:
        await self._submit(self._file, self._rows.begin, turn_id, session_id)

    async def append(self, turn_id: str, session_id: str, rows: Sequence[bytes]) -> None:
        await self._submit(self._file, self._rows.append, turn_id, session_id, rows)

    async def finish(self, ended: Ended, rows: Sequence[bytes], *, own_fault: bool = False) -> None:
        await self._submit(self._file, self._rows.finish, ended, packed(kept_end(ended)), rows, own_fault)

    async def find(self, key: str, idempotency_key: str) -> TurnRow | None:
        return await self._submit(self._file, self._rows.find, key, idempotency_key)

    async def turn(self, turn_id: str) -> TurnRow | None:
        return await self._submit(self._file, self._rows.turn, turn_id)

    async def unfinished(self) -> list[TurnRow]:
        return await self._submit(self._file, self._rows.unfinished)

    async def transcript(self, session_id: str) -> list[PastTurn]:
        return await self._submit(self._file, self._rows.transcript, session_id)

    async def past_turn(self, turn_id: str) -> PastTurn | None:
        return await self._submit(self._file, self._rows.past_turn, turn_id)

    async def conversation(self, session_id: str) -> StoredConversation:
        return await self._submit(self._file, self._rows.conversation, session_id)

    async def summary(self, session_id: str) -> Summary | None:
        return await self._submit(self._file, self._rows.summary, session_id)

    async def summarise(self, session_id: str, summary: Summary) -> None:
        await self._submit(self._file, self._rows.summarise, session_id, summary)

    async def page(self, session_id: str, after: int, limit: int) -> list[TranscriptRow]:
        return await self._submit(self._file, self._rows.page, session_id, after, limit)

    async def chosen_model(self, key: str) -> str | None:
        return await self._submit(self._file, self._rows.settings.chosen_model, key)

    async def choose_model(self, key: str, model: str | None) -> None:
        await self._submit(self._file, self._rows.settings.choose_model, key, model)

    async def titles(self, keys: Sequence[str]) -> dict[str, str]:
        return await self._submit(self._file, self._rows.settings.titles, keys)

    async def entitle(self, key: str, title: str | None) -> None:
        await self._submit(self._file, self._rows.settings.entitle, key, title)

    async def counts(self, key: str) -> dict[str, Any]:
        return await self._submit(self._file, self._rows.counts, key)

    async def durations(self, keys: Sequence[str], limit: int) -> dict[str, list[float]]:
        return await self._submit(self._file, self._rows.durations, keys, limit)

    async def delete(self, key: str) -> bool:
        return await self._submit(self._file, self._rows.delete, key)

    async def prune(self, before: float) -> int:
        return await self._submit(self._file, self._rows.prune, before)

    async def copy(self, key: str, session_id: str, through: str | None, max_bytes: int) -> TranscriptCopy | None:
        return await self._submit(self._file, self._rows.copies.take, key, session_id, through, max_bytes)

    async def plant(self, key: str, principal: str, session_id: str, copy: TranscriptCopy) -> None:
        number = await self._submit(self._file, self._rows.plant, key, principal, session_id, copy)
        self.highest = max(self.highest, number)

    async def response(self, turn_id: str) -> dict[str, Any] | None:
        return await self._submit(self._file, self._rows.responses.asked, turn_id)

    async def drop_response(self, turn_id: str) -> bool:
        return await self._submit(self._file, self._rows.responses.drop, turn_id)

    async def prune_responses(self, before: float) -> int:
        return await self._submit(self._file, self._rows.responses.prune, before)

    async def through(self, turn_id: str) -> tuple[list[PastTurn], bool]:
        return await self._submit(self._file, self._rows.through, turn_id)

    async def latest(self, after: int, limit: int) -> tuple[list[LatestTurn], int | None]:
        return await self._submit(self._file, self._rows.latest, after, limit)

    async def reported(self) -> None:
        await self._submit(self._file, self._rows.reported)

    async def prove(self) -> None:
        await self._submit(self._file, self._rows.prove)

    async def close(self) -> None:
        if self._released is None:
            self._released = self._journal.release(self._file)
        await asyncio.shield(self._released)
