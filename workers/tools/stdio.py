"""The process of a stdio server: started so that it dies with the worker, ended so that nothing of it is left.

:mod:`workers.tools.launch` runs in front of the server, in a session and process group of its own, and tells why a
command cannot be executed. The group is killed once the server has ended: its children would go on (the MCP SDK's own
client leaves them, measured with mcp 2.3).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any

import anyio

from hermes_actors.wire.ownership import OWNER_VARIABLE
from workers.tools import launch
from workers.tools.pipes import ENDLESS, Pipes, opened
from workers.tools.server_logs import append
from workers.tools.sweep import Sweeper
from workers.tools.target import ServerTarget

EXIT_GRACE_S = 2.0  # for a server to end, after the end of its input and again after SIGTERM; then SIGKILL
TERM_GRACE_S = 0.5  # between SIGTERM and SIGKILL for what a server that has ended left in its group
KILL_GRACE_S = 2.0  # for the kernel to end what was killed
GROUP_POLL_S = 0.01
EOF_TO_EXIT_S = 1.0  # an end of output this soon before the end of the process is no event of its own
MAX_NOISE = 64  # pieces of stray output that wait for the log; more are dropped
MAX_NOISE_CHARS = 2_000  # of each

_MAX_REPORT_BYTES = 4096


class NotStarted(Exception):
    """The server's command could not be executed; the text says why."""


class ServerProcess:
    """One start of a stdio server.

    Args:
        target: the server.
        mark: what its environment carries as owner; no other start has the same.
        environment: what it gets besides the target's, which wins.
        sweeper: finds what left the process group.
        on_heard: called with each message of the server.
        on_end: called once on the event loop, with the reason, when the server has ended by itself.
    """

    def __init__(
        self,
        target: ServerTarget,
        mark: str,
        *,
        environment: Mapping[str, str],
        sweeper: Sweeper,
        on_heard: Callable[[], None],
        on_end: Callable[[str], None],
    ) -> None:
        self.pid: int | None = None  # also its process group; None before the start and after the end
        self._target = target
        self._mark = mark
        self._environment = environment
        self._sweeper = sweeper
        self._on_heard = on_heard
        self._on_end = on_end
        self._exited = asyncio.Event()
        self._leaving = False  # its end is no news
        self._process: subprocess.Popen[bytes] | None = None
        self._noise, self._noisy = anyio.create_memory_object_stream[str](MAX_NOISE)

    @asynccontextmanager
    async def streams(self) -> AsyncIterator[Any]:
        """The MCP SDK's stream pair to the running server. Leaving ends everything that the server started.

        Left with an exception, the group is killed at once; else the server may end by itself first (its input ends;
        SIGTERM; SIGKILL).

        Raises:
            NotStarted: the command cannot be executed.
            OSError: no process can be made.
        """
        try:
            stdin, stdout, report = self._start()
            with stdin, stdout:
                with report:
                    await self._launched(report)
                opening = opened(stdin, stdout, on_heard=self._on_heard, on_noise=self._note)
                async with opening as pipes, anyio.create_task_group() as group:
                    with self._watched():
                        group.start_soon(self._keep_noise)
                        group.start_soon(pipes.write)
                        group.start_soon(self._read, pipes)
                        yield pipes.read_stream, pipes.write_stream
                        with anyio.CancelScope(shield=True):
                            await self._dismiss(pipes)
                    group.cancel_scope.cancel()
        except BaseException:
            self.kill()
            raise
        finally:
            self._leaving = True
            self._noise.close()
            self._noisy.close()
            with anyio.CancelScope(shield=True):
                await self._reap()

    def kill(self) -> None:
        """SIGKILL the server's process group."""
        if self.pid is not None:
            _signal_group(self.pid, signal.SIGKILL)

    def _start(self) -> tuple[socket.socket, socket.socket, socket.socket]:
        """Make the process; our ends of its standard input, output and error.

        Not by the event loop: uvloop copies the worker for each start, which takes five times the CPU and blocks the
        loop four times as long (measured with uvloop 0.23).
        """
        target = self._target
        launcher = (sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), str(target.log), target.directory)
        with ExitStack() as undo, ExitStack() as theirs:
            pairs = [socket.socketpair() for _ in range(3)]
            for ours, end in pairs:
                undo.enter_context(ours)
                theirs.enter_context(end)
                ours.setblocking(False)
            stdin, stdout, stderr = (end for _, end in pairs)
            self._process = subprocess.Popen(
                [*launcher, *target.command],
                stdin=stdin.fileno(),
                stdout=stdout.fileno(),
                stderr=stderr.fileno(),
                env={**self._environment, **target.environment, OWNER_VARIABLE: self._mark},
                start_new_session=True,
            )
            self.pid = self._process.pid
            undo.pop_all()
        return pairs[0][0], pairs[1][0], pairs[2][0]

    async def _launched(self, report: socket.socket) -> None:
        """Return when the command runs; the launcher's report ends with the exec."""
        loop = asyncio.get_running_loop()
        why = b""
        while some := await loop.sock_recv(report, _MAX_REPORT_BYTES):
            why += some
        if why:
            raise NotStarted(why[:_MAX_REPORT_BYTES].decode(errors="replace"))

    async def _read(self, pipes: Pipes) -> None:
        async with anyio.create_task_group() as group:
            await pipes.read()
            group.start_soon(pipes.drain)
            with anyio.move_on_after(EOF_TO_EXIT_S):
                await self._exited.wait()
            self._ended(ENDLESS if pipes.endless else "it closed its standard output")

    def _note(self, noise: str) -> None:
        with suppress(anyio.WouldBlock):
            self._noise.send_nowait(noise[:MAX_NOISE_CHARS])

    async def _keep_noise(self) -> None:
        """Put what the server prints between its messages into its log: it may say why the server does not work."""
        async for noise in self._noisy:
            await asyncio.to_thread(append, self._target.log, f"[stdout] {noise}\n")

    async def _dismiss(self, pipes: Pipes) -> None:
        """Have the server end by itself, or make it."""
        self._leaving = True
        pipes.close()
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None and self.pid is not None:
                _signal_group(self.pid, number)
            with anyio.move_on_after(EXIT_GRACE_S):
                await self._exited.wait()
                return

    def _ended(self, why: str) -> None:
        if not self._leaving:
            self._leaving = True
            self._on_end(why)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Notice the end of the server's process, whatever else holds its pipes."""
        assert self.pid is not None
        loop = asyncio.get_running_loop()

        def exited() -> None:
            loop.remove_reader(descriptor)
            if self._process is not None:
                self._process.poll()
            self._exited.set()
            self._ended("its process ended")

        descriptor = os.pidfd_open(self.pid)
        loop.add_reader(descriptor, exited)
        try:
            yield
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    async def _reap(self) -> None:
        """Kill what the server left in its group, and what left its group."""
        process, group = self._process, self.pid
        if process is None or group is None:
            return
        for number, grace_s in ((signal.SIGTERM, TERM_GRACE_S), (signal.SIGKILL, KILL_GRACE_S)):
            _signal_group(group, number)
            with anyio.move_on_after(grace_s):
                while process.poll() is None or _signal_group(group, 0):  # noqa: ASYNC110  # no event tells of a group's end
                    await anyio.sleep(GROUP_POLL_S)
                break
        self.pid = None
        await self._sweeper.sweep(self._mark)


def _signal_group(group: int, number: int) -> bool:
    """Signal a process group; whether there is one. Zombies count until their parent waits for them."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # some of it belongs to another user now
        return True
    return True
