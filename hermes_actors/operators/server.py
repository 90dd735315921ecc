"""The control socket: operators' requests in, responses out. It checks them, and decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import structlog

from hermes_actors.core.events import Event, OperatorAsked
from hermes_actors.core.state import ReplyTo
from hermes_actors.home import PRIVATE_FILE
from hermes_actors.operations.plain import Misfit
from hermes_actors.operations.requests import Request, read
from hermes_actors.operators.messages import OperatorRequest, OperatorResponse
from hermes_actors.wire.codec import ProtocolError
from hermes_actors.wire.link import FrameLink, LinkClosed
from hermes_actors.wire.peer import peer_of
from hermes_actors.wire.refusals import RefusalCode

MOST_CLIENTS = 32
MOST_WAITING = 16  # requests of one client without a response
IDLE_S = 60.0  # without a request or the wait for a response, after which the server closes the connection
LAST_WORDS_S = 2.0  # for clients to read their responses when the gateway ends
BACKLOG = 16

log = structlog.get_logger(__name__)


class ControlServer:
    """A Unix socket that only its owner and root may use.

    Args:
        path: where; what an earlier supervisor left there is removed.
        tell: where requests go, as events.
    """

    def __init__(self, path: Path, tell: Callable[[Event], None]) -> None:
        self._path = path
        self._tell = tell
        self._clients: dict[int, _Client] = {}
        self._numbers = itertools.count(1)
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Accept clients from now on.

        Raises:
            OSError: the socket cannot be made.
        """
        self._clear_place()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o777 & ~PRIVATE_FILE)
        try:
            listener.bind(str(self._path))
        finally:
            os.umask(before)
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: _Client(self, next(self._numbers)), sock=listener, backlog=BACKLOG
        )

    def _clear_place(self) -> None:
        """Make room at the path, so that a gateway starts. A directory is moved aside: it may hold a person's files."""
        if self._path.is_dir() and not self._path.is_symlink():
            aside = self._path.with_name(f"{self._path.name}.aside-{secrets.token_hex(4)}")
            self._path.rename(aside)
            log.warning("moved a directory out of the control socket's place", moved_to=str(aside))
        self._path.unlink(missing_ok=True)

    async def close(self) -> None:
        """Remove the socket and let all clients go, when they have their responses."""
        if self._server is not None:
            self._server.close()
        with contextlib.suppress(OSError):  # gone already, or the disk became read-only: the next start replaces it
            self._path.unlink()
        clients = list(self._clients.values())
        for client in clients:
            client.close()
        if clients:
            await asyncio.wait([client.left for client in clients], timeout=LAST_WORDS_S)

    def respond(self, client: int, response: OperatorResponse) -> None:
        """Answer a client, if it is still there."""
        waiting = self._clients.get(client)
        if waiting is not None:
            waiting.respond(response)

    # -- for clients -------------------------------------------------------------------------------------------------
    def join(self, client: _Client) -> bool:
        """Whether there is room for one more."""
        if len(self._clients) >= MOST_CLIENTS:
            return False
        self._clients[client.number] = client
        return True

    def leave(self, client: _Client) -> None:
        """The client is gone."""
        self._clients.pop(client.number, None)

    def ask(self, client: _Client, request: int, operation: Request) -> None:
        """Pass a request on."""
        self._tell(OperatorAsked(reply_to=ReplyTo(client.number, request), operation=operation))


class _Client(FrameLink):
    """One connection of an operator."""

    def __init__(self, server: ControlServer, number: int) -> None:
        super().__init__(self._asked, self._left)
        self.number = number
        self._server = server
        self._waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self.left = asyncio.get_running_loop().create_future()  # done when the connection is over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        uid = peer_of(transport.get_extra_info("socket")).uid
        if uid not in (os.geteuid(), 0):
            log.warning("refused a control connection of another user", uid=uid)
            self.close()
        elif not self._server.join(self):
            self._refuse(0, RefusalCode.BUSY, f"{MOST_CLIENTS} clients are connected already")
            self.close()
        else:
            self._expect()

    def respond(self, response: OperatorResponse) -> None:
        """Answer one request."""
        self._waiting -= 1
        self._expect()
        with contextlib.suppress(LinkClosed):
            try:
                self.send(response)
            except ProtocolError as error:
                self._refuse(response.request, RefusalCode.TOO_LARGE, str(error))

    def _asked(self, message: object) -> None:
        if not _well_formed(message):
            raise ProtocolError("a request has a number, an operation and arguments")
        assert isinstance(message, OperatorRequest)
        if self._waiting >= MOST_WAITING:
            self._refuse(message.request, RefusalCode.BUSY, f"{MOST_WAITING} requests wait for a response already")
            return
        try:
            operation = read(message.operation, message.arguments)
        except Misfit as error:
            self._expect()
            self._refuse(message.request, RefusalCode.BAD_REQUEST, str(error))
            return
        self._waiting += 1
        self._expect()
        self._server.ask(self, message.request, operation)

    def _refuse(self, request: int, code: RefusalCode, why: str) -> None:
        self.send(OperatorResponse(request=request, error=code, why=why, data={}))

    def _left(self, _why: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._server.leave(self)
        self.left.set_result(None)

    def _expect(self) -> None:
        """Let it go after a while, unless it waits: every request has its response, that of a drain at its end."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if self._waiting else asyncio.get_running_loop().call_later(IDLE_S, self.close)


def _well_formed(message: object) -> bool:
    return (
        isinstance(message, OperatorRequest)
        and isinstance(message.request, int)
        and isinstance(message.operation, str)
        and isinstance(message.arguments, dict)
    )
