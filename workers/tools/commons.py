"""What connections have in common: of a worker, and of one server in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.tools.eras import Eras
from workers.tools.outage import Outage, lined_up, must_line_up
from workers.tools.server_logs import ServerLogs
from workers.tools.sweep import Sweeper

MAX_CONNECTING = 16  # connections that a worker makes at the same time
MAX_CONNECTING_PER_SERVER = 4  # so that one that does not answer cannot hold up the others
MAX_PROCESSES = 256  # stdio servers that a worker runs at the same time, each of some 60 MiB


class TooManyProcesses(Exception):
    """The worker runs as many stdio servers as it may; the text is for people."""


class WorkerCommons:
    """Of the worker's connections.

    Args:
        owner_mark: what their processes carry; each connection completes it with a number.
        home: of the gateway.
    """

    def __init__(self, owner_mark: str, home: Path) -> None:
        self.owner_mark = owner_mark
        self.home = home
        self.connecting = asyncio.Semaphore(MAX_CONNECTING)
        self.sweeper = Sweeper()
        self.logs = ServerLogs()
        self.eras = Eras(home / "state" / "mcp_eras.json")
        self._processes = 0

    @contextmanager
    def process(self, server: str) -> Iterator[None]:
        """One of the places for processes. None is taken away from its owner.

        Raises:
            TooManyProcesses: none is left.
        """
        if self._processes >= MAX_PROCESSES:
            raise TooManyProcesses(
                f"this worker runs {MAX_PROCESSES} tool processes already, the most it may (MAX_PROCESSES). Its "
                "operator can end idle sessions sooner (sessions.idle_ttl_seconds), share the server between sessions "
                f"(mcp_servers.{server}.scope: worker) or run more workers"
            )
        self._processes += 1
        try:
            yield
        finally:
            self._processes -= 1


class ServerCommons:
    """Of the connections to one server.

    Args:
        worker: of all connections.
    """

    def __init__(self, worker: WorkerCommons) -> None:
        self.worker = worker
        self.connecting = asyncio.Semaphore(MAX_CONNECTING_PER_SERVER)
        self.obeys_cancel = False  # the server answered a cancelled call with an error: it stops what is cancelled
        self._line_ends_at = 0.0

    def line_up(self, outage: Outage, *, now: float) -> Outage:
        """Take a place in the line of those that try again, where an attempt that is due must."""
        if must_line_up(outage, self._line_ends_at, now=now):
            outage, self._line_ends_at = lined_up(outage, self._line_ends_at, now=now)
        return outage

    def forget_line(self) -> None:
        """No caller waits any more."""
        self._line_ends_at = 0.0
