"""The next life of this process, made ready while this one still serves.

A planned restart is prepared before it drains anything: the command line rehearses on the code and configuration that
are on disk now, and a fork server loads that code. Where that fails nothing was drained. What takes long is so over
before the first worker stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterable

from hermes_actors.background import Background
from hermes_actors.core.events import Event, RestartPrepared, RestartRefused
from hermes_actors.pool import fork_server
from hermes_actors.pool.fork_server import ForkServer
from hermes_actors.pool.pool import Pool
from hermes_actors.restart.dry_run import CannotRestart, Running, rehearse
from hermes_actors.restart.handover import CommandLine, Handover
from hermes_actors.wire.failpoints import point
from hermes_actors.wire.refusals import RefusalCode


class RestartPreparation:
    """Prepares the next life, and hands over to it.

    Args:
        command: what starts it; None: nothing does.
        running: what this life has that need not be free for the next.
        boot: the id of the next life.
        mark: the owner mark of a life of an id.
        pool: starts the fork server.
        tell: where events go.
        background: runs the preparation.
    """

    def __init__(
        self,
        command: CommandLine | None,
        *,
        running: Running,
        boot: str,
        mark: Callable[[str], str],
        pool: Pool,
        tell: Callable[[Event], None],
        background: Background,
    ) -> None:
        self._command = command
        self._running = running
        self._mark = mark
        self._pool = pool
        self._tell = tell
        self._background = background
        self._boot = boot
        self._server: ForkServer | None = None
        self._wanted: int | None = None  # the preparation that counts
        self._one_at_a_time = asyncio.Lock()
        self.overtaken = False  # a stop came later than the last request for a restart

    def prepare(self, number: int) -> None:
        """Make the next life ready: RestartPrepared or RestartRefused follows, unless it is dropped before."""
        self.abandon()
        self._wanted = number
        self.overtaken = False
        self._background.start(self._prepare(number))

    def overtake(self) -> None:
        """A signal stops the gateway, even where it comes too late for the actor to hear of it."""
        self.overtaken = True

    async def _prepare(self, number: int) -> None:
        async with self._one_at_a_time:
            if number != self._wanted:
                return
            refusal = await self._attempt(number)
        if number != self._wanted:
            return
        if refusal is None:
            point("restart.prepared")
            self._tell(RestartPrepared(number=number))
        else:
            self._tell(RestartRefused(number=number, error=refusal.error, why=refusal.why))

    async def _attempt(self, number: int) -> CannotRestart | None:
        """Get ready; None: a restart may begin, where it is still wanted."""
        if self._command is None:
            return CannotRestart(
                error=RefusalCode.CANNOT_RESTART, why="this gateway was started without a way to start it again"
            )
        with contextlib.ExitStack() as unless_ready:
            try:
                server = await self._pool.preload(self._mark(self._boot))
                unless_ready.callback(fork_server.end, server)
                refusal = await rehearse(self._command, self._running, self._mark(self._boot))
            except OSError as error:
                return CannotRestart(error=RefusalCode.CANNOT_RESTART, why=f"nothing can be started: {error}")
            if refusal is None and number == self._wanted:
                self._server = server
                unless_ready.pop_all()
            return refusal

    def abandon(self) -> None:
        """There is no next life, for now; what is being made ready for it is ended when it is."""
        self._wanted = None
        if self._server is not None:
            fork_server.end(self._server)
            self._server = None

    async def hand_over(self, lock: int, listeners: Iterable[socket.socket]) -> Handover:
        """What the next life goes on with: copies of descriptors, so that this one can close all it has open.

        Raises:
            OSError: no memory, no descriptors.
        """
        server = self._server or await self._pool.preload(self._mark(self._boot))
        self._server = None
        return Handover(
            boot=self._boot,
            lock=os.dup(lock),
            listeners=tuple(listener.dup().detach() for listener in listeners),
            fork_server=server,
        )
