"""What connections have in common: of a worker, and of one server in it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from workers.tools.outage import Outage, lined_up, must_line_up
from workers.tools.sweep import Sweeper

MAX_CONNECTING = 16  # connections that a worker makes at the same time
MAX_CONNECTING_PER_SERVER = 4  # so that one that does not answer cannot hold up the others
MAX_PROCESSES = 256  # stdio servers that a worker runs at the same time, each of some 60 MiB


def _connecting() -> asyncio.Semaphore:
    return asyncio.Semaphore(MAX_CONNECTING)


def _processes() -> asyncio.Semaphore:
    return asyncio.Semaphore(MAX_PROCESSES)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCommons:
    """Of the worker's connections."""

    owner_mark: str  # what their processes carry; each completes it with a number
    connecting: asyncio.Semaphore = field(default_factory=_connecting)
    processes: asyncio.Semaphore = field(default_factory=_processes)
    sweeper: Sweeper = field(default_factory=Sweeper)


class ServerCommons:
    """Of the connections to one server.

    Args:
        worker: of all connections.
    """

    def __init__(self, worker: WorkerCommons) -> None:
        self.worker = worker
        self.connecting = asyncio.Semaphore(MAX_CONNECTING_PER_SERVER)
        self._line_ends_at = 0.0

    def line_up(self, outage: Outage, *, now: float) -> Outage:
        """Take a place in the line of those that try again, where an attempt that is due must."""
        if must_line_up(outage, self._line_ends_at, now=now):
            outage, self._line_ends_at = lined_up(outage, self._line_ends_at, now=now)
        return outage

    def forget_line(self) -> None:
        """Nobody waits any more."""
        self._line_ends_at = 0.0
