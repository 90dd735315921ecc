"""What a worker does again and again, or later: heartbeats, passivation, waiting turns, shards that failed, pruning."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

import structlog

from hermes_actors.background import Background
from hermes_actors.wire.messages import Heartbeat
from hermes_actors.wire.records import Load
from workers.routing.shards import ShardFiles, ShardTable
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.residents import Residents
from workers.store.shard import StoreFailed

log = structlog.get_logger(__name__)

PASSIVATION_INTERVAL_S = 1.0
SETTLED_S = 60.0  # from ready on; a process that lives so long did not die of its start
REOPEN_INTERVAL_S = 30.0  # between two tries to store an end or to begin a waiting turn after a failure
REOPEN_SOON_S = 2.0  # the same while a shard cannot be opened, which no other worker can serve
PRUNE_INTERVAL_S = 600.0
IDEMPOTENCY_KEPT_S = 24 * 3600.0
DAY_S = 24 * 3600.0
PRUNE_PAUSE_S = 0.1  # between two pieces: turns go first


class Duties:
    """The recurring work of one worker.

    Args:
        heartbeat_s: between two heartbeats, in seconds.
        response_days: how long responses are kept.
        auto_resume: begin the turns that an earlier owner left as soon as their shard is open; false after worker
            processes that died young one after another: their starts may have died of these turns.
        serving: whether the worker owns its shards and does not stop.
        live_mcp: counts the MCP connections.
        send: to the supervisor.
    """

    def __init__(
        self,
        sessions: Residents,
        table: ShardTable,
        files: ShardFiles,
        *,
        heartbeat_s: float,
        response_days: int,
        auto_resume: bool,
        serving: Callable[[], bool],
        live_mcp: Callable[[], int],
        send: Callable[[Heartbeat], None],
    ) -> None:
        self._sessions = sessions
        self._table = table
        self._files = files
        self._heartbeat_s = heartbeat_s
        self.response_days = response_days
        self._auto_resume = auto_resume
        self._serving = serving
        self._live_mcp = live_mcp
        self._send = send
        self._background = Background()

    def start(self) -> None:
        """Begin all that recurs."""
        for duty in (self._beat(), self._passivate(), self._reopen(), self._prune()):
            self._background.start(duty)

    def ready(self) -> None:
        """The worker owns its shards for the first time."""
        if not self._auto_resume:
            self._background.start(self._resume_late())

    def stop(self) -> None:
        """Do nothing any more."""
        self._background.cancel()

    # -- heartbeats -----------------------------------------------------------------------------------------------
    def beat(self) -> None:
        """Send the supervisor a heartbeat: the loop turns; and what changed that the registry keeps."""
        sessions = self._sessions
        running = sessions.running
        load = Load(
            resident=sessions.resident,
            running=running,
            queued=sessions.pending - running + len(sessions.backlog),
            turns=sessions.turns_ended,
            mcp=self._live_mcp(),
        )
        self._send(Heartbeat(load=load, active=sessions.take_active(), reached=self._files.reached()))

    async def _beat(self) -> None:
        while True:
            self.beat()
            await asyncio.sleep(self._heartbeat_s)

    # -- turns that wait ------------------------------------------------------------------------------------------
    def resume(self, shards: Iterable[OwnedShard]) -> None:
        """Begin the turns of these shards whose sessions are not in memory, unless :meth:`ready` begins them later."""
        if self._auto_resume:
            for shard in shards:
                self._background.start(self._sessions.resume(shard))

    async def _resume_late(self) -> None:
        backlog = self._sessions.backlog
        if backlog:
            why = "processes of this worker died young: it begins the waiting turns later"
            log.warning(why, turns=len(backlog), seconds=SETTLED_S)
        await asyncio.sleep(SETTLED_S)
        self._auto_resume = True  # where a drain goes on now, its end begins them
        if backlog:
            log.info("the worker begins the turns that waited since its start", turns=len(backlog))
        for shard in list(self._table.open.values()):
            await self._sessions.resume(shard)

    async def _reopen(self) -> None:
        """Try again what failed: a disk may have room again, and a busy supervisor time to answer."""
        due = 0.0
        while True:
            await asyncio.sleep(min(REOPEN_SOON_S, REOPEN_INTERVAL_S))
            if not self._serving():
                continue
            if self._files.missing:
                self.resume(await self._files.follow_table())
            if time.monotonic() < due:
                continue
            due = time.monotonic() + REOPEN_INTERVAL_S
            shards = list(self._table.open.values())
            for shard in shards:
                await shard.store_unstored()
            self.resume(shards)

    # -- memory and disk ------------------------------------------------------------------------------------------
    async def _passivate(self) -> None:
        while True:
            await asyncio.sleep(PASSIVATION_INTERVAL_S)
            self._sessions.passivate()

    async def _prune(self) -> None:
        """Drop what no caller can ask for any more, a bounded piece at a time."""
        while True:
            await asyncio.sleep(PRUNE_INTERVAL_S)
            for shard in list(self._table.open.values()):
                store, now = shard.store, time.time()
                try:
                    while await store.prune_responses(now - self.response_days * DAY_S):  # noqa: ASYNC110  # paced work
                        await asyncio.sleep(PRUNE_PAUSE_S)
                    while await store.prune(now - IDEMPOTENCY_KEPT_S):  # noqa: ASYNC110  # the same
                        await asyncio.sleep(PRUNE_PAUSE_S)
                except StoreFailed as error:
                    log.warning("old turns not pruned", shard=shard.number, why=str(error))
