"""Whether what is sent to this worker can be stored, found out when an ingress asks for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from workers.routing.shards import ShardTable
from workers.store.shard import StaleFence, StoreFailed

KEPT_S = 1.0  # what was found out holds for so long: asking costs a commit
PROOF_S = 2.0  # for that commit; a disk that takes longer counts as one that cannot be written

log = structlog.get_logger(__name__)


class Storing:
    """Writes something without meaning to one of the worker's shards, where that was not done just now."""

    def __init__(self, table: ShardTable, now: Callable[[], float] = time.monotonic) -> None:
        self._table = table
        self._now = now
        self._known_at = float("-inf")
        self._fault: str | None = None
        self._asking = asyncio.Lock()

    async def fault(self) -> str | None:
        """Why nothing can be stored, in words; None: it can."""
        async with self._asking:
            if self._now() - self._known_at >= KEPT_S:
                before, self._fault = self._fault, await self._tried()
                self._known_at = self._now()
                if self._fault is not None and before is None:
                    log.error("nothing can be stored; this worker is not ready", why=self._fault)
                elif self._fault is None and before is not None:
                    log.info("what is sent can be stored again")
        return self._fault

    async def _tried(self) -> str | None:
        shard = next(iter(self._table.open.values()), None)
        if shard is None:
            return next(iter(self._table.unusable.values()), None)
        try:
            async with asyncio.timeout(PROOF_S):
                await shard.store.prove()
        except StaleFence:  # the shard moves to another owner
            return None
        except StoreFailed as error:
            return str(error)
        except TimeoutError:
            return f"the disk took no commit within {PROOF_S:g} s"
        return None
