"""``POST /v1/responses``: items in, a turn, its response out, as an object or as a stream of events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from workers.gateway import Gateway, Turn
from workers.ingress.http.body import read_json
from workers.ingress.http.completion import DONE
from workers.ingress.http.connection import ClientLimits
from workers.ingress.http.errors import ApiError, invalid, retry_after
from workers.ingress.http.events import EventStream
from workers.ingress.http.names import SESSION_ID_HEADER, named, wants_to_park
from workers.ingress.http.replies import reply
from workers.ingress.http.request import json_object
from workers.ingress.http.routes import ApiCall, route
from workers.ingress.http.submitting import Heard, Submitter, answer_of, begins, ignored, outliving_its_caller
from workers.ingress.responses.events import Event, ResponseEvents, sse
from workers.ingress.responses.input import references
from workers.ingress.responses.objects import begun, finished
from workers.ingress.responses.previous import previous_of
from workers.ingress.responses.referred import referred_items
from workers.ingress.responses.request import ResponseRequest, parse_response
from workers.turns import Parked


class ResponseRoutes:
    """The route.

    Args:
        gateway: knows earlier turns.
        submitter: hands messages to it.
        max_body_bytes: of a request.
        limits: for slow clients.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        gateway: Gateway,
        submitter: Submitter,
        *,
        max_body_bytes: int,
        limits: ClientLimits,
        clock: Callable[[], float],
    ) -> None:
        self._gateway = gateway
        self._submitter = submitter
        self.max_body_bytes = max_body_bytes
        self.keeps = True  # as api_server.response_days says
        self._limits = limits
        self._clock = clock

    @route("POST", "/v1/responses", endpoint="responses", features=("responses_api", "responses_streaming"))
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
        asked = await self._parsed(call, json_object(body))
        session_id = None if asked.chat.bare else _session_of(call.request, asked)
        if session_id is None:
            asked.check_results()
        submission = await self._submitter.submission(call, session_id, asked.chat, park=park)
        created_at = int(self._clock())
        if asked.stored:
            submission = replace(submission, response={**asked.echoed, "created_at": created_at})
        if asked.background:
            submission = outliving_its_caller(submission, asked.chat)
        try:
            turn = await self._submitter.submit(submission, session_id, stream=asked.chat.stream)
        except Parked as parked:
            headers = self._submitter.headers(parked.turn_id, submission, session_id)
            response = reply(begun(parked.turn_id, created_at, asked.echoed, "queued"), 202)
            response.headers.update(headers | retry_after(parked.retry_after_s))
            return response
        headers = self._submitter.headers(turn.turn_id, submission, session_id) | ignored(call.request, asked.chat)
        if asked.background and not asked.chat.stream:
            response = reply(begun(turn.turn_id, created_at, asked.echoed, "queued"))
            response.headers.update(headers)
            return response
        with Heard(call.request, turn):
            if asked.chat.stream:
                return await self._stream(call.request, turn, created_at, asked.echoed, headers)
            return await self._whole(turn, created_at, asked.echoed, headers)

    async def _parsed(self, call: ApiCall, body: Mapping[str, Any]) -> ResponseRequest:
        ids = references(body.get("input"))
        known = await referred_items(self._gateway, call.principal, ids) if ids else {}
        previous = await previous_of(self._gateway, call.principal, body.get("previous_response_id"))
        return parse_response(body, known, previous, keeps=self.keeps)

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


def _session_of(request: web.BaseRequest, asked: ResponseRequest) -> str | None:
    """The session of a request, which its header or its body may name.

    Raises:
        ApiError: 400; they name two.
    """
    session_id = named(request, SESSION_ID_HEADER)
    if asked.conversation is None or session_id in (None, asked.conversation):
        return asked.conversation or session_id
    raise invalid("conversation", f"`conversation` and the header {SESSION_ID_HEADER} name two sessions: send one.")
