"""``GET /v1/responses`` as a WebSocket: one response after another over one connection.

A client sends ``{"type": "response.create", …}`` with the fields of a request, and gets the events of its response,
each as a text message. The connection remembers its last response that is not stored, so that the next request may go
on with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from hermes_actors.background import Background
from workers.conversations import assistant_message
from workers.gateway import Gateway, Turn
from workers.ingress.http.errors import ApiError, ClientGone, invalid
from workers.ingress.http.names import IDEMPOTENCY_HEADER
from workers.ingress.http.request import json_object
from workers.ingress.http.routes import ApiCall, route
from workers.ingress.http.shapes import Shape
from workers.ingress.http.submitting import Heard, Submitter
from workers.ingress.responses.asking import Asked, Asking
from workers.ingress.responses.events import ResponseEvents
from workers.ingress.responses.objects import response_id
from workers.ingress.responses.previous import Previous
from workers.turns import Ended

LONGEST_S = 3600.0  # of a connection
HEARTBEAT_S = 30.0  # between two pings; a client that answers none is gone
CLOSE_S = 5.0  # for a client to answer a close
MAX_WAITING = 8  # requests of one connection that wait for its response to end

Held = dict[str, Previous]  # by the id of the response
Waiting = asyncio.Queue[str | bytes | None]  # the messages of a connection; None: the last one was read


class SocketRoutes:
    """The route.

    Args:
        gateway: says whether it drains.
        submitter: hands messages to it.
        asking: makes messages of requests.
        identify: gives the principal of an ``Authorization`` header, or raises an :class:`ApiError`. Keys can change
            while a connection is open, so each request is checked.
        max_body_bytes: of a request.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        gateway: Gateway,
        submitter: Submitter,
        asking: Asking,
        *,
        identify: Callable[[str | None], str],
        max_body_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        self.max_body_bytes = max_body_bytes
        self._identify = identify
        self._readers = Background()
        self._open: set[Waiting] = set()
        self._stopping = False
        self._gateway = gateway
        self._submitter = submitter
        self._asking = asking
        self._clock = clock

    def stop(self) -> None:
        """Close each connection once its response has ended; at once where none runs."""
        self._stopping = True
        for waiting in self._open:
            waiting.put_nowait(None)

    @route(
        "GET",
        "/v1/responses",
        endpoint="responses_socket",
        features=("responses_websocket",),
        shape=Shape(answers={101: {}}, errors=frozenset({400, 426})),
    )
    async def connect(self, call: ApiCall) -> web.StreamResponse:
        """Serve a connection until the client closes it, its time is up, or the gateway drains or stops.

        Raises:
            ApiError: 426; the request is no handshake of a WebSocket. 400; it has an Idempotency-Key.
            ClientGone: the client left while it was being served.
        """
        _check(call.request)
        socket = web.WebSocketResponse(timeout=CLOSE_S, heartbeat=HEARTBEAT_S, max_msg_size=self.max_body_bytes)
        await socket.prepare(call.request)
        waiting: Waiting = asyncio.Queue()  # bounded by its reader
        self._open.add(waiting)
        reader = self._readers.start(_read(socket, waiting))
        try:
            async with asyncio.timeout(LONGEST_S):
                await self._serve(call, socket, waiting)
            await socket.close(code=WSCloseCode.SERVICE_RESTART)  # another connection may find a gateway that goes on
        except TimeoutError:
            await socket.close(code=WSCloseCode.OK, message=b"its hour is over: connect again")
        except ConnectionError:
            raise ClientGone from None
        finally:
            self._open.discard(waiting)
            reader.cancel()
        return socket

    async def _serve(self, call: ApiCall, socket: web.WebSocketResponse, waiting: Waiting) -> None:
        held: Held = {}
        while not self._stopping and (message := await waiting.get()) is not None:
            await self._answer(call, socket, message, held)
            if self._gateway.draining:
                return

    async def _answer(self, call: ApiCall, socket: web.WebSocketResponse, message: str | bytes, held: Held) -> None:
        try:
            call = replace(call, principal=self._identify(call.request.headers.get("Authorization")))
            asked = await self._asking.asked(call, _body_of(message), held=held)
            turn = await self._submitter.submit(asked.submission, asked.session_id, stream=True)
            with Heard(call.request, turn):
                ended = await self._events(socket, turn, asked)
        except ApiError as error:
            await socket.send_str(_error(error))
            return
        held.clear()
        if not asked.request.stored and asked.session_id is None and ended.state == "completed":
            history = [*asked.submission.messages, assistant_message(ended.text, ended.tool_calls)]
            held[response_id(turn.turn_id)] = Previous(history=history)

    async def _events(self, socket: web.WebSocketResponse, turn: Turn, asked: Asked) -> Ended:
        events = ResponseEvents(turn.turn_id, asked.created_at, asked.request.echoed)
        for made in events.begin():
            await socket.send_str(orjson.dumps(made).decode())
        async for event in turn:
            for made in events.hear(event, int(self._clock())):
                await socket.send_str(orjson.dumps(made).decode())
            if isinstance(event, Ended):
                return event
        raise RuntimeError("the turn's events stopped without an end")


def _check(request: web.BaseRequest) -> None:
    """Check what opens a connection.

    Raises:
        ApiError: 426; it is no handshake of a WebSocket. 400; it has an Idempotency-Key.
    """
    if request.headers.get("Upgrade", "").lower() != "websocket":
        what = "This path lists no responses: open a WebSocket here, or ask for one response by its id."
        raise ApiError(426, "upgrade_required", what, headers={"Upgrade": "websocket"})
    if IDEMPOTENCY_HEADER in request.headers:
        what = "An Idempotency-Key names one request, and a connection has many: leave it out, or use POST."
        raise invalid(IDEMPOTENCY_HEADER, what)


async def _read(socket: web.WebSocketResponse, waiting: Waiting) -> None:
    """Read what a client sends, also while a response runs: so its pings are answered, and its close is seen."""
    try:
        async for message in socket:
            if message.type is WSMsgType.ERROR:  # aiohttp has closed the connection
                return
            if waiting.qsize() >= MAX_WAITING:
                await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"too many requests wait")
                return
            waiting.put_nowait(message.data)
    except ConnectionError:  # the client left while aiohttp answered its ping
        return
    finally:
        waiting.put_nowait(None)


def _body_of(message: str | bytes) -> Mapping[str, Any]:
    """The fields of the request in a message.

    Raises:
        ApiError: 400; it is none.
    """
    if isinstance(message, bytes):
        raise invalid(None, "Send each request as a text message.", "invalid_message")
    body = json_object(message.encode())
    if body.pop("type", None) != "response.create":
        raise invalid("type", "`type` must be response.create.")
    for name in ("stream", "background"):
        if body.pop(name, None) not in (None, False, name == "stream"):
            raise invalid(name, f"`{name}` has no meaning here: the events come over this connection.")
    return body


def _error(error: ApiError) -> str:
    """A request that gets no response, as an event."""
    about = {"code": error.code, "message": error.message, "param": error.param or ""}
    event = {"type": "error", "sequence_number": 0, "status": error.status, **about, "error": about}
    return orjson.dumps(event).decode()
