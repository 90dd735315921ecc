"""``POST /v1/responses``: items in, a turn, its response out, as an object or as a stream of events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from workers.gateway import Turn
from workers.ingress.http.body import read_json
from workers.ingress.http.completion import DONE
from workers.ingress.http.connection import ClientLimits
from workers.ingress.http.errors import ApiError, retry_after
from workers.ingress.http.events import EventStream
from workers.ingress.http.names import TURN_HEADERS, wants_to_park
from workers.ingress.http.replies import reply
from workers.ingress.http.request import json_object
from workers.ingress.http.routes import ApiCall, route
from workers.ingress.http.shapes import ANY, EVENTS, JSON, OF_A_TURN, Shape
from workers.ingress.http.submitting import Heard, Submitter, answer_of, begins
from workers.ingress.responses.asking import Asked, Asking
from workers.ingress.responses.events import Event, ResponseEvents, sse
from workers.ingress.responses.objects import RESPONSE, begun, finished
from workers.ingress.responses.request import RESPONSE_BODY
from workers.turns import Parked


class ResponseRoutes:
    """The route.

    Args:
        submitter: hands messages to the gateway.
        asking: makes messages of requests.
        max_body_bytes: of a request.
        limits: for slow clients.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        submitter: Submitter,
        asking: Asking,
        *,
        max_body_bytes: int,
        limits: ClientLimits,
        clock: Callable[[], float],
    ) -> None:
        self._asking = asking
        self._submitter = submitter
        self.max_body_bytes = max_body_bytes
        self._limits = limits
        self._clock = clock

    @route(
        "POST",
        "/v1/responses",
        endpoint="responses",
        features=("responses_api", "responses_streaming"),
        shape=Shape(
            body=RESPONSE_BODY,
            headers=TURN_HEADERS,
            answers={200: {JSON: RESPONSE, EVENTS: ANY}, 202: {JSON: RESPONSE}},
            errors=OF_A_TURN,
        ),
    )
    async def post(self, call: ApiCall) -> web.StreamResponse:
        """Answer a request.

        Raises:
            ApiError: it is not accepted, or its turn gave no answer.
            ClientGone: it is, and its turn was abandoned.
        """
        try:
            return await self._post(call)
        except ApiError as error:
            raise _readable(error) from None

    async def _post(self, call: ApiCall) -> web.StreamResponse:
        park = wants_to_park(call.request)
        body = await read_json(call.request, max_bytes=self.max_body_bytes, timeout_s=self._limits.body_s)
        asked = await self._asking.asked(call, json_object(body), park=park)
        submission, echoed, created_at = asked.submission, asked.request.echoed, asked.created_at
        stream = asked.request.chat.stream
        try:
            turn = await self._submitter.submit(submission, asked.session_id, stream=stream)
        except Parked as parked:
            headers = self._submitter.headers(parked.turn_id, submission, asked.session_id)
            return _queued(parked.turn_id, asked, 202, headers | retry_after(parked.retry_after_s))
        headers = self._submitter.headers(turn.turn_id, submission, asked.session_id) | asked.headers
        if asked.request.background and not stream:
            return _queued(turn.turn_id, asked, 200, headers)
        with Heard(call.request, turn):
            if stream:
                return await self._stream(call.request, turn, created_at, echoed, headers)
            return await self._whole(turn, created_at, echoed, headers)

    async def _whole(
        self, turn: Turn, created_at: int, echoed: Mapping[str, Any], headers: dict[str, str]
    ) -> web.Response:
        ended = await answer_of(turn, headers)
        response = finished(turn.turn_id, created_at, echoed, ended, completed_at=int(self._clock()))
        return web.Response(body=orjson.dumps(response), headers=headers)

    async def _stream(
        self,
        request: web.BaseRequest,
        turn: Turn,
        created_at: int,
        echoed: Mapping[str, Any],
        headers: dict[str, str],
    ) -> web.StreamResponse:
        await begins(turn, headers)
        events = ResponseEvents(turn.turn_id, created_at, echoed)
        async with EventStream(request, headers, keep_alive_s=self._limits.keep_alive_s) as stream:
            await _send(stream, events.begin())
            async for event in turn:
                await _send(stream, events.hear(event, int(self._clock())))
            await stream.send(DONE)
        return stream.response


async def _send(stream: EventStream, events: Sequence[Event]) -> None:
    if events:
        await stream.send(b"".join(map(sse, events)))


def _readable(error: ApiError) -> ApiError:
    """An error whose words all clients show: those of ``@ai-sdk/open-responses`` show none where ``param`` is null."""
    error.param = error.param or ""
    return error


def _queued(turn_id: str, asked: Asked, status: int, headers: dict[str, str]) -> web.Response:
    response = reply(begun(turn_id, asked.created_at, asked.request.echoed, "queued"), status)
    response.headers.update(headers)
    return response
