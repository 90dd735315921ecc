"""``GET /v1/responses`` as a WebSocket: one response after another over one connection.

A client sends ``{"type": "response.create", …}`` with the fields of a request, and gets the events of its response,
each as a text message. The connection remembers its last response that is not stored, so that the next request may go
on with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from workers.conversations import assistant_message
from workers.gateway import Gateway, Turn
from workers.ingress.http.errors import ApiError, ClientGone, invalid
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

Held = dict[str, Previous]  # by the id of the response


class SocketRoutes:
    """The route.

    Args:
        gateway: says whether it drains.
        submitter: hands messages to it.
        asking: makes messages of requests.
        max_body_bytes: of a request.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        gateway: Gateway,
        submitter: Submitter,
        asking: Asking,
        *,
        max_body_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        self.max_body_bytes = max_body_bytes
        self._gateway = gateway
        self._submitter = submitter
        self._asking = asking
        self._clock = clock

    @route(
        "GET",
        "/v1/responses",
        endpoint="responses_socket",
        features=("responses_websocket",),
        shape=Shape(answers={101: {}}, errors=frozenset({426})),
    )
    async def connect(self, call: ApiCall) -> web.StreamResponse:
        """Serve a connection until the client closes it, its time is up, or the gateway drains.

        Raises:
            ApiError: 426; the request is no handshake of a WebSocket.
            ClientGone: the client left while it was being served.
        """
        if call.request.headers.get("Upgrade", "").lower() != "websocket":
            what = "This path lists no responses: open a WebSocket here, or ask for one response by its id."
            raise ApiError(426, "upgrade_required", what, headers={"Upgrade": "websocket"})
        socket = web.WebSocketResponse(timeout=CLOSE_S, heartbeat=HEARTBEAT_S, max_msg_size=self.max_body_bytes)
        await socket.prepare(call.request)
        held: Held = {}
        try:
            async with asyncio.timeout(LONGEST_S):
                async for message in socket:
                    await self._answer(call, socket, message.data if message.type is WSMsgType.TEXT else None, held)
                    if self._gateway.draining:  # another connection may find a gateway that does not
                        await socket.close(code=WSCloseCode.SERVICE_RESTART)
        except TimeoutError:
            await socket.close(code=WSCloseCode.OK, message=b"its hour is over: connect again")
        except ConnectionError:
            raise ClientGone from None
        return socket

    async def _answer(self, call: ApiCall, socket: web.WebSocketResponse, text: str | None, held: Held) -> None:
        try:
            asked = await self._asking.asked(call, _body_of(text), held=held)
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


def _body_of(text: str | None) -> Mapping[str, Any]:
    """The fields of the request in a message.

    Raises:
        ApiError: 400; it is none.
    """
    if text is None:
        raise invalid(None, "Send each request as a text message.", "invalid_message")
    body = json_object(text.encode())
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
