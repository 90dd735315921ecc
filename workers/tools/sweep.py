"""Kills what stdio servers left behind: processes that carry a connection's mark in their environment."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from hermes_actors.wire.ownership import OWNER_VARIABLE

MAX_ROUNDS = 3  # what is killed may have started something just before

_PROC = Path("/proc")


class Sweeper:
    """Looks through ``/proc`` for whoever asks; one look serves all that asked before it began.

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
    entries = [f"{OWNER_VARIABLE}={mark}".encode() for mark in marks]
    for _ in range(MAX_ROUNDS):
        found = list(_marked(entries))
        for pid in found:
            _kill(pid, entries)
        if not found:
            return


def _marked(entries: Collection[bytes]) -> Iterator[int]:
    for name in os.listdir(_PROC):  # noqa: PTH208  # a Path for each process would double the cost of a look
        if name.isdigit() and _carries(int(name), entries):
            yield int(name)


def _carries(pid: int, entries: Collection[bytes]) -> bool:
    """False as well for a process that has ended, or belongs to somebody else."""
    try:
        environment = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    if OWNER_VARIABLE.encode() not in environment:  # nearly all
        return False
    return not set(entries).isdisjoint(environment.split(b"\0"))


def _kill(pid: int, entries: Collection[bytes]) -> None:
    """Kill this very process: the descriptor holds it, however its number is used again."""
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if _carries(pid, entries):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
