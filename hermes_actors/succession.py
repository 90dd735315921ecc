"""The next life of this process, made ready while this one still serves.

A planned restart is prepared before it drains anything: the command line rehearses on the code and configuration that
are on disk now, and a fork server loads that code. Where that fails nothing was drained. What takes long is so over
before the first worker stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Iterable

import structlog

from hermes_actors import fork_server
from hermes_actors.background import Background
from hermes_actors.control.messages import ControlReply
from hermes_actors.core.events import Event, OperatorAsked, RestartWanted
from hermes_actors.fork_server import ForkServer
from hermes_actors.handover import CommandLine, Handover
from hermes_actors.pool import Pool
from hermes_actors.rehearsal import Refusal, Running, rehearse
from hermes_actors.wire.faults import point

log = structlog.get_logger(__name__)


def wants_restart(event: Event) -> bool:
    """Whether somebody asks for a restart in place."""
    match event:
        case OperatorAsked(operation="restart"):
            return True
        case OperatorAsked(operation="drain", arguments=arguments):
            return arguments.get("then") == "restart"
        case _:
            return isinstance(event, RestartWanted)


class Succession:
    """Prepares the next life, and hands over to it.

    Args:
        command: what starts it; None: nothing does.
        running: what this life has that need not be free for the next.
        mark: the owner mark of a life of this id.
        pool: starts the fork server.
        tell: where events go.
        reply: answers an operator.
        background: runs the preparation.
    """

    def __init__(
        self,
        command: CommandLine | None,
        *,
        running: Running,
        mark: Callable[[str], str],
        pool: Pool,
        tell: Callable[[Event], None],
        reply: Callable[[int, ControlReply], None],
        background: Background,
    ) -> None:
        self._command = command
        self._running = running
        self._mark = mark
        self._pool = pool
        self._tell = tell
        self._reply = reply
        self._background = background
        self._boot = secrets.token_hex(8)
        self._server: ForkServer | None = None
        self._one_at_a_time = asyncio.Lock()
        self.overtaken = False  # a stop came later than the last wish for a restart

    def hear(self, event: Event) -> None:
        """Pass an event on; a wish for a restart when that is ready, unless it is impossible."""
        if wants_restart(event):
            self._background.start(self._prepare_for(event))
        else:
            self._tell(event)

    def overtake(self) -> None:
        """A signal stops the gateway, even where it comes too late for the actor to hear of it."""
        self.overtaken = True

    async def _prepare_for(self, event: Event) -> None:
        async with self._one_at_a_time:
            refusal = await self._prepare()
        if refusal is None:
            self.overtaken = False
            point("restart.prepared")
            self._tell(event)
            return
        log.error("the restart is refused, and everything goes on", why=refusal.why)
        if isinstance(event, OperatorAsked):
            reply = ControlReply(request=event.request, error=refusal.error, why=refusal.why, data={})
            self._reply(event.client, reply)

    async def _prepare(self) -> Refusal | None:
        """Get ready; None: a restart may begin."""
        if self._command is None:
            return Refusal(error="cannot_restart", why="this gateway was started without a way to start it again")
        with contextlib.ExitStack() as unless_ready:
            try:
                server = await self._pool.preload(self._mark(self._boot))
                unless_ready.callback(fork_server.end, server)
                refusal = await rehearse(self._command, self._running)
            except OSError as error:
                return Refusal(error="cannot_restart", why=f"nothing can be started: {error}")
            if refusal is None:
                self.abandon()
                self._server = server
                unless_ready.pop_all()
            return refusal

    def abandon(self) -> None:
        """There is no next life, for now."""
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
