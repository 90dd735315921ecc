"""Kills what stdio servers left behind: processes that carry a connection's mark in their environment."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Collection
from contextlib import suppress

from hermes_actors.pool import reaper
from hermes_actors.wire.ownership import OWNER_VARIABLE

MAX_ROUNDS = 3  # what is killed may have started something just before


class Sweeper:
    """Looks through ``/proc`` for all who ask; one look serves all that asked before it began.

    A look costs about 10 microseconds for each process of the machine, so it is taken in a thread.
    """

    def __init__(self) -> None:
        self._marks: set[str] = set()
        self._next: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()

    async def sweep(self, mark: str) -> None:
        """Kill every process that carries exactly this mark."""
        self._marks.add(mark)
        if self._next is None:
            self._next = asyncio.create_task(self._look(), name="mcp sweep")
        await asyncio.shield(self._next)

    async def _look(self) -> None:
        async with self._looking:
            marks, self._marks = self._marks, set()
            self._next = None
            await asyncio.to_thread(kill_marked, marks)


def kill_marked(marks: Collection[str]) -> None:
    """SIGKILL every process of this user whose environment carries one of the marks."""
    needles = [f"\0{OWNER_VARIABLE}={mark}\0".encode() for mark in marks]
    for _ in range(MAX_ROUNDS):
        found = list(reaper.marked(needles))
        for pid in found:
            _kill(pid, needles)
        if not found:
            return


def _kill(pid: int, needles: Collection[bytes]) -> None:
    """Kill this very process: the descriptor holds it, however its number is used again."""
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if reaper.carries(pid, needles):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
