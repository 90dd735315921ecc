"""The logs of stdio servers, kept small while the servers write to them.

Each server writes to its log itself, and all that run for a configured server, of every session and worker, share it.
So a log is cut in place: a file that was renamed would go on to grow, and no one could see it once it was replaced.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

MAX_LOG_BYTES = 4 * 1024 * 1024  # then the last of it becomes <name>.1, in place of what that had
LOOK_INTERVAL_S = 1.0

_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC


class ServerLogs:
    """Looks at the logs of the servers that run in a worker, as long as any does."""

    def __init__(self) -> None:
        self._written: Counter[Path] = Counter()  # by how many servers
        self._looking: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def kept(self, log: Path) -> AsyncIterator[None]:
        """A server writes to this log; it is small when the server starts."""
        await asyncio.to_thread(keep_small, log)
        self._written[log] += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="mcp logs")
        try:
            yield
        finally:
            self._written -= Counter([log])  # drops logs without a writer
            if not self._written:
                self._looking.cancel()
                self._looking = None

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            for log in list(self._written):
                await asyncio.to_thread(keep_small, log)


def append(log: Path, text: str) -> None:
    """Add to a server's log what did not reach it by itself. Where that cannot be written, it is lost."""
    with suppress(OSError):
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _FLAGS, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            file.write(text.encode(errors="replace"))


def keep_small(log: Path) -> None:
    """Empty a log above :data:`MAX_LOG_BYTES`, and keep the end of it beside it. Both are private.

    What is written meanwhile is lost. Where the end cannot be kept, as on a full disk, it is lost too: then the room is
    needed most. Servers append, so they go on at the new beginning.
    """
    with suppress(OSError):  # there is none yet, or it is no file
        if log.stat(follow_symlinks=False).st_size <= MAX_LOG_BYTES:
            return
        with os.fdopen(os.open(log, os.O_RDWR | _FLAGS), "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # else another worker is at it
            size = os.fstat(file.fileno()).st_size
            if size > MAX_LOG_BYTES:
                with suppress(OSError):
                    _keep(os.pread(file.fileno(), MAX_LOG_BYTES, size - MAX_LOG_BYTES), log.with_name(log.name + ".1"))
                os.ftruncate(file.fileno(), 0)


def _keep(end: bytes, path: Path) -> None:
    kept = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FLAGS, 0o600)
    with os.fdopen(kept, "wb", buffering=0) as file:
        file.write(end)
