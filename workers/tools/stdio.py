"""The process of a stdio server: started so that it dies with the worker, ended so that nothing of it is left.

The MCP SDK starts a server in a process group of its own and speaks with it, but does not tell its pid, and leaves the
children of a server that ends by itself (measured with mcp 2.3). So :mod:`workers.tools.launch` runs in front of the
server and tells, and the group is killed here once the SDK is through.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, cast

import anyio
from mcp import StdioServerParameters
from mcp.client.stdio import stdio_client

from hermes_actors.wire.ownership import OWNER_VARIABLE
from workers.tools import launch
from workers.tools.sweep import Sweeper
from workers.tools.target import Target

TERM_GRACE_S = 0.5  # between SIGTERM and SIGKILL for what a server that has ended left in its group
GROUP_POLL_S = 0.02

_MAX_REPORT_BYTES = 4096


class NotStarted(Exception):
    """The server's command could not be executed; the text says why."""


class ServerProcess:
    """One start of a stdio server.

    Args:
        target: the server.
        mark: what its environment carries as owner; no other start has the same.
        sweeper: finds what left the process group.
        on_exit: called on the event loop when the server's process has ended by itself.
    """

    def __init__(self, target: Target, mark: str, *, sweeper: Sweeper, on_exit: Callable[[], None]) -> None:
        self.pid: int | None = None  # also its process group; None before it is known and after the end
        self._target = target
        self._mark = mark
        self._sweeper = sweeper
        self._on_exit = on_exit

    @asynccontextmanager
    async def streams(self) -> AsyncIterator[Any]:
        """The SDK's stream pair to the running server. Leaving ends everything that the server started.

        Left with an exception, the group is killed at once; else the server may end by itself first, which the SDK
        gives at most 4.5 s (stdin closed, SIGTERM, SIGKILL).

        Raises:
            NotStarted: the command cannot be executed.
            OSError: no process can be made.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with ours, theirs:
                async with stdio_client(self._parameters(), errlog=cast("Any", theirs)) as streams:
                    theirs.close()
                    try:
                        await self._launched(ours)
                        with self._watched():
                            yield streams
                    except BaseException:
                        self._settle(ours)
                        self.kill()
                        raise
        finally:
            with anyio.CancelScope(shield=True):
                await self._reap()

    def kill(self) -> None:
        """SIGKILL the server's process group, where it is known."""
        if self.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _parameters(self) -> StdioServerParameters:
        target = self._target
        launcher = ["-I", "-S", launch.__file__, str(os.getpid()), str(target.log), target.directory]
        return StdioServerParameters(
            command=sys.executable,
            args=[*launcher, *target.command],
            env={**target.environment, OWNER_VARIABLE: self._mark},
        )

    async def _launched(self, report: socket.socket) -> None:
        """Return when the command runs; the launcher's report ends with the exec."""
        loop = asyncio.get_running_loop()
        why = b""
        while some := await loop.sock_recv(report, _MAX_REPORT_BYTES):
            if self.pid is None:
                some = self._noted(some)
            why += some
        if self.pid is None or why:
            raise NotStarted(why[:_MAX_REPORT_BYTES].decode(errors="replace") or "its launcher died")

    def _noted(self, told: bytes) -> bytes:
        """Take the pid from the beginning of the launcher's report; the rest."""
        first, _, rest = told.partition(b"\n")
        if not first.isdigit():
            return told
        self.pid = int(first)
        return rest

    def _settle(self, report: socket.socket) -> None:
        """Give a start up: after this the launcher has told its pid, or will fail to and exit."""
        with suppress(OSError):
            report.shutdown(socket.SHUT_RD)  # what was sent before can still be read
            if self.pid is None:
                self._noted(report.recv(_MAX_REPORT_BYTES))

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Notice the end of the server's process while nobody is calling it."""
        assert self.pid is not None
        loop = asyncio.get_running_loop()
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:  # it has ended and was waited for already
            loop.call_soon(self._on_exit)
            yield
            return

        def ended() -> None:
            loop.remove_reader(descriptor)
            self._on_exit()

        loop.add_reader(descriptor, ended)
        try:
            yield
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    async def _reap(self) -> None:
        """Kill what the server left in its group, and what left its group."""
        if (group := self.pid) is not None:
            if _signal_group(group, signal.SIGTERM):
                with anyio.move_on_after(TERM_GRACE_S):
                    while _signal_group(group, 0):  # noqa: ASYNC110  # the kernel tells nobody of a group's end
                        await anyio.sleep(GROUP_POLL_S)
                _signal_group(group, signal.SIGKILL)
            self.pid = None
        await self._sweeper.sweep(self._mark)


def _signal_group(group: int, number: int) -> bool:
    """Signal a process group; whether there is one. Zombies count until somebody waits for them."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # some of it belongs to somebody else now
        return True
    return True
