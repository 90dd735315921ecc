"""Where the processes of a gateway report the fault points they come to; one of them is held there."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A process whose thread stands still at a point."""

    pid: int
    point: str


class Desk:
    """Listens on a Unix socket; see :mod:`hermes_actors.wire.failpoints`. Entered, it answers.

    Points are counted over all processes and starts that report here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: Counter[str] = Counter()
        self.latest: dict[str, float] = {}  # when somebody came to a point last, in seconds since the epoch
        self.held: asyncio.Future[Held] = asyncio.get_running_loop().create_future()
        self._armed: tuple[str, int] | None = None
        self._released = asyncio.Event()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._came, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()
        self._server.close()

    def arm(self, point: str, nth: int) -> None:
        """Hold who comes to this point as the n-th, from the first on."""
        self._armed = (point, nth)

    def release(self) -> None:
        """Let go whom it holds."""
        self._released.set()

    async def passed(self, point: str, more_than: int) -> None:
        """Return once a point was passed more often than this."""
        while self.seen[point] <= more_than:
            self._changed.clear()
            await self._changed.wait()

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            pid, point = (await reader.readline()).decode().split()
            self.seen[point] += 1
            self.latest[point] = time.time()
            self._changed.set()
            if (point, self.seen[point]) == self._armed:
                self.held.set_result(Held(pid=int(pid), point=point))
                await self._released.wait()
        except (ValueError, ConnectionError):  # killed while it spoke
            pass
        finally:
            writer.close()
