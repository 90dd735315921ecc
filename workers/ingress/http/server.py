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
from workers.ingress.http.chat import ChatRoutes
from workers.ingress.http.connection import FRESH_S, ClientConnection, ClientLimits
from workers.ingress.http.cors import CORS, cors_headers, is_preflight, preflight
from workers.ingress.http.errors import ApiError, ClientGone
from workers.ingress.http.principals import Principals
from workers.ingress.http.routes import ApiCall, RouteTable, path_of
from workers.ingress.http.service import ServiceRoutes
from workers.ingress.http.sessions import SessionRoutes
from workers.ingress.http.submitting import Submitter
from workers.ingress.responses.asking import Asking
from workers.ingress.responses.compacting import CompactRoutes
from workers.ingress.responses.kept import KeptResponseRoutes
from workers.ingress.responses.routes import ResponseRoutes
from workers.ingress.responses.socket import SocketRoutes
from workers.ingress.runs.routes import RunRoutes

log = structlog.get_logger(__name__)

BACKLOG = 1024  # connections that wait to be accepted
ABORT_S = 1.0  # for connections to be gone that were cut off


class HttpIngress:
    """Serves the public HTTP API on listening sockets that are handed in.

    Args:
        gateway: sessions and turns.
        config: the listener's limits.
        api_keys: principal to bearer key.
        slot: of this worker, for a header of the answers.
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
        limits: ClientLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limits = limits or ClientLimits()
        self._principals = Principals(api_keys)
        submitter = self._submitter = Submitter(gateway, slot=slot)
        chat = self._chat = ChatRoutes(
            submitter, max_body_bytes=config.max_body_bytes, limits=self._limits, clock=clock
        )
        service = ServiceRoutes(
            created=int(clock()),
            ready=lambda: self.ready,
            draining=lambda: gateway.draining,
            storable=gateway.storable,
            routes=lambda: self._routes.routes,
        )
        asking = self._asking = Asking(gateway, submitter, clock=clock)
        responses = self._responses = ResponseRoutes(
            submitter, asking, max_body_bytes=config.max_body_bytes, limits=self._limits, clock=clock
        )
        sockets = self._sockets = SocketRoutes(
            gateway,
            submitter,
            asking,
            identify=lambda authorization: self._principals.identify(authorization),  # which a reload replaces
            max_body_bytes=config.max_body_bytes,
            clock=clock,
        )
        runs = self._runs = RunRoutes(
            gateway, submitter, max_body_bytes=config.max_body_bytes, limits=self._limits, clock=clock
        )
        compacting = self._compacting = CompactRoutes(
            gateway, submitter, max_body_bytes=config.max_body_bytes, limits=self._limits, clock=clock
        )
        kept = KeptResponseRoutes(gateway, limits=self._limits, clock=clock)
        self._routes = RouteTable(
            chat, responses, sockets, compacting, kept, runs, service, SessionRoutes(gateway, limits=self._limits)
        )
        self._gateway = gateway
        self._closing = False
        self._server: web.Server | None = None
        self._listeners: dict[int, asyncio.Server] = {}
        self._apply(config)

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
        self._apply(config)

    def _apply(self, config: ApiServerConfig) -> None:
        self._max_body_bytes = config.max_body_bytes
        for part in (self._chat, self._responses, self._sockets, self._compacting, self._runs):
            part.max_body_bytes = config.max_body_bytes
        self._submitter.drops_sampling = config.sampling_parameters == "drop"
        self._asking.keeps = config.response_days > 0
        self._origins = frozenset(config.cors_origins)

    async def listen(self, slot: int, sock: socket.socket) -> None:
        """Accept connections on a listening socket, which stays the caller's."""
        server, loop = self._server, asyncio.get_running_loop()
        assert server is not None, "start() comes first"
        if slot not in self._listeners and not self._closing:
            self._listeners[slot] = await loop.create_server(
                lambda: ClientConnection(server, loop=loop, limits=self._limits), sock=sock.dup(), backlog=BACKLOG
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
        self._sockets.stop()
        fresh = [connection for connection in self._connections() if connection.fresh]
        self._close_idle(spare=fresh)
        await _gone(fresh, FRESH_S)
        self._close_idle()
        await _gone(self._connections(), grace_s)
        for connection in self._connections():
            if connection.transport is not None:
                connection.transport.abort()
        await _gone(self._connections(), ABORT_S)

    def _close_idle(self, spare: Collection[ClientConnection] = ()) -> None:
        for connection in self._connections():
            if connection.idle and connection not in spare:
                connection.force_close()

    def _connections(self) -> list[ClientConnection]:
        connections = self._server.connections if self._server is not None else []
        return [connection for connection in connections if isinstance(connection, ClientConnection)]

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        assert isinstance(protocol, ClientConnection)
        protocol.asked = True
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=self._max_body_bytes)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        allowed = cors_headers(request, self._origins) if self._origins else None
        if allowed is not None:
            request[CORS] = allowed
        try:
            if allowed and is_preflight(request):
                response: web.StreamResponse = preflight(request, self._routes.methods)
            else:
                response = await self._answer(request)
        except ApiError as error:
            response = error.response()
        except ClientGone:
            log.info("client went away", method=request.method)
            response = web.Response()  # which no client reads
        except ConnectionError:  # from a write of ours; where the client is there, it is a bug
            if request.transport is not None and not request.transport.is_closing():
                raise
            log.info("client went away", method=request.method)
            response = web.Response()
        if allowed is not None and not response.prepared:
            response.headers.update(allowed)
        if self._closing or self._gateway.draining:  # the next request may find another worker
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        match = self._routes.find(path_of(request), request.method)
        principal = self._principals.identify(request.headers.get("Authorization")) if match.needs_key else ""
        return await match.handler(ApiCall(request=request, principal=principal, parameters=match.parameters))


async def _gone(connections: list[ClientConnection], within_s: float) -> None:
    if connections:
        await asyncio.wait([connection.lost for connection in connections], timeout=within_s)
