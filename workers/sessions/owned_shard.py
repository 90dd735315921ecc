"""A shard as its sessions use it: its store, and the ends of turns that the store still owes."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog

from workers.sessions.unstored import UnstoredEnds
from workers.store.shard import ShardStore, StoreFailed

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedShard:
    """A shard that this worker owns, open."""

    number: int
    fence: int
    store: ShardStore
    unstored: UnstoredEnds = field(default_factory=UnstoredEnds, compare=False)

    async def store_unstored(self) -> None:
        """Store the ends that callers got while the store failed; what it still refuses is tried again later."""
        try:
            await self.unstored.store_all(self.store)
        except StoreFailed as error:
            log.warning("ends of turns not stored", shard=self.number, why=str(error))
