"""The HTTP ingress of a worker: listeners, connections, routes."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Collection, Mapping

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from hermes_actors.config.model import ApiServerConfig
from workers.gateway import Gateway
from workers.ingress.http.catalogue import Catalogue
from workers.ingress.http.chat import ChatCompletions
from workers.ingress.http.completion import MODEL
from workers.ingress.http.connection import FRESH_S, Connection, Limits
from workers.ingress.http.errors import ApiError, ClientGone
from workers.ingress.http.principals import Principals
from workers.ingress.http.routes import Call, Routes, path_of
from workers.ingress.http.sessions import Sessions

log = structlog.get_logger(__name__)

BACKLOG = 1024  # connections that wait to be accepted
ABORT_S = 1.0  # for connections to be gone that were cut off


class HttpIngress:
    """Serves the public HTTP API on listening sockets that are handed in.

    Args:
        gateway: sessions and turns.
        config: the listener's limits.
        api_keys: principal to bearer key.
        slot: of this worker, told in answers.
        limits: for slow clients.
        clock: seconds since the epoch.

    Raises:
        ValueError: a principal's name cannot be one.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        config: ApiServerConfig,
        api_keys: Mapping[str, str],
        slot: int,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limits = limits or Limits()
        self._max_body_bytes = config.max_body_bytes
        self._principals = Principals(api_keys)
        chat = self._chat = ChatCompletions(
            gateway, slot=slot, max_body_bytes=config.max_body_bytes, limits=self._limits, clock=clock
        )
        catalogue = Catalogue(
            created=int(clock()),
            ready=lambda: self.ready,
            draining=lambda: gateway.draining,
            storable=gateway.storable,
        )
        self._routes = _routes(chat, Sessions(gateway), catalogue)
        self._gateway = gateway
        self._closing = False
        self._server: web.Server | None = None
        self._listeners: dict[int, asyncio.Server] = {}

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome here."""
        return self._gateway.ready and not self._closing

    async def start(self) -> None:
        """Get ready to listen; call it on the loop that serves."""
        self._server = web.Server(self._handle, request_factory=self._request)

    def reconfigure(self, config: ApiServerConfig, api_keys: Mapping[str, str]) -> None:
        """Take over other limits and keys, from the next request on; where to listen is not for a worker to change.

        Raises:
            ValueError: a principal's name cannot be one; nothing changed.
        """
        self._principals = Principals(api_keys)
        self._max_body_bytes = self._chat.max_body_bytes = config.max_body_bytes

    async def listen(self, slot: int, sock: socket.socket) -> None:
        """Accept connections on a listening socket, which stays the caller's."""
        server, loop = self._server, asyncio.get_running_loop()
        assert server is not None, "start() comes first"
        if slot not in self._listeners and not self._closing:
            self._listeners[slot] = await loop.create_server(
                lambda: Connection(server, loop=loop, limits=self._limits), sock=sock.dup(), backlog=BACKLOG
            )

    async def unlisten(self, slot: int) -> None:
        """Accept no more connections on the socket of a slot; those that are open go on."""
        listener = self._listeners.pop(slot, None)
        if listener is not None:
            listener.close()

    async def close(self, grace_s: float) -> None:
        """Accept nothing more, close what is idle, and let running requests finish; what still runs then is cut off.

        Args:
            grace_s: for running requests.
        """
        self._closing = True
        for slot in list(self._listeners):
            await self.unlisten(slot)
        fresh = [connection for connection in self._connections() if connection.fresh]
        self._close_idle(spare=fresh)
        await _gone(fresh, FRESH_S)
        self._close_idle()
        await _gone(self._connections(), grace_s)
        for connection in self._connections():
            if connection.transport is not None:
                connection.transport.abort()
        await _gone(self._connections(), ABORT_S)

    def _close_idle(self, spare: Collection[Connection] = ()) -> None:
        for connection in self._connections():
            if connection.idle and connection not in spare:
                connection.force_close()

    def _connections(self) -> list[Connection]:
        connections = self._server.connections if self._server is not None else []
        return [connection for connection in connections if isinstance(connection, Connection)]

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        assert isinstance(protocol, Connection)
        protocol.asked = True
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=self._max_body_bytes)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            response = await self._answer(request)
        except ApiError as error:
            response = error.response()
        except ClientGone:
            log.info("client went away", method=request.method)
            response = web.Response()  # which nobody reads
        except ConnectionError:  # from a write of ours; where the client is there, it is a bug
            if request.transport is not None and not request.transport.is_closing():
                raise
            log.info("client went away", method=request.method)
            response = web.Response()
        if self._closing or self._gateway.draining:  # the next request may find another worker
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = path_of(request)
        principal = ""
        if not self._routes.is_open(path):
            principal = self._principals.identify(request.headers.get("Authorization"))
        handler, session_id = self._routes.find(path, request.method)
        return await handler(Call(request=request, principal=principal, session_id=session_id))


def _routes(chat: ChatCompletions, sessions: Sessions, catalogue: Catalogue) -> Routes:
    return Routes(
        open_to_all={
            "/health": {"GET": catalogue.health},
            "/readyz": {"GET": catalogue.readyz},
        },
        principals_only={
            "/v1/chat/completions": {"POST": chat.post},
            "/v1/models": {"GET": catalogue.models},
            f"/v1/models/{MODEL}": {"GET": catalogue.model},
            "/v1/capabilities": {"GET": catalogue.capabilities},
            "/api/sessions": {"GET": sessions.index},
            "/api/sessions/{id}": {"GET": sessions.show, "DELETE": sessions.delete},
            "/api/sessions/{id}/messages": {"GET": sessions.messages},
        },
    )


async def _gone(connections: list[Connection], within_s: float) -> None:
    if connections:
        await asyncio.wait([connection.lost for connection in connections], timeout=within_s)
