"""``POST /v1/chat/completions``: a message in, a turn, its answer out, whole or as a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from aiohttp import web

from workers.gateway import Turn
from workers.ingress.http.body import read_json
from workers.ingress.http.completion import COMPLETION, Chunks, completion, error_event
from workers.ingress.http.connection import ClientLimits
from workers.ingress.http.errors import ended_without_answer, retry_after
from workers.ingress.http.events import EventStream
from workers.ingress.http.names import SESSION_ID_HEADER, TURN_HEADERS, named, wants_to_park
from workers.ingress.http.replies import reply
from workers.ingress.http.request import CHAT_BODY, ChatRequest, parse_chat
from workers.ingress.http.routes import ApiCall, route
from workers.ingress.http.shapes import ANY, EVENTS, JSON, OF_A_TURN, TEXT, Shape, record
from workers.ingress.http.submitting import Heard, Submitter, answer_of, begins, ignored
from workers.turns import Delta, Ended, GatewayDraining, Parked, Reasoning, ToolProgress

_PARKED = record(["id", "object", "status", "session_id"], id=TEXT, object=TEXT, status=TEXT, session_id=TEXT)


class ChatRoutes:
    """The route.

    Args:
        submitter: hands messages to the gateway.
        max_body_bytes: of a request.
        limits: for slow clients.
        clock: seconds since the epoch.
    """

    def __init__(
        self, submitter: Submitter, *, max_body_bytes: int, limits: ClientLimits, clock: Callable[[], float]
    ) -> None:
        self._submitter = submitter
        self.max_body_bytes = max_body_bytes
        self._limits = limits
        self._clock = clock

    @route(
        "POST",
        "/v1/chat/completions",
        endpoint="chat_completions",
        features=(
            "chat_completions",
            "chat_completions_streaming",
            "tool_progress_events",
            "client_tools",
            "idempotency",
        ),
        shape=Shape(
            body=CHAT_BODY,
            headers=TURN_HEADERS,
            answers={200: {JSON: COMPLETION, EVENTS: ANY}, 202: {JSON: _PARKED}},
            errors=OF_A_TURN,
        ),
    )
    async def post(self, call: ApiCall) -> web.StreamResponse:
        """Answer a request.

        Raises:
            ApiError: it is not accepted, or its turn gave no answer.
            ClientGone: it is, and its turn was abandoned.
        """
        request = call.request
        session_id = named(request, SESSION_ID_HEADER)
        park = wants_to_park(request)
        body = await read_json(request, max_bytes=self.max_body_bytes, timeout_s=self._limits.body_s)
        chat = parse_chat(body)
        if chat.bare:
            session_id = None
        submission = await self._submitter.submission(call, session_id, chat, park=park)
        try:
            turn = await self._submitter.submit(submission, session_id, stream=chat.stream)
        except Parked as parked:
            headers = self._submitter.headers(parked.turn_id, submission, session_id)
            return _parked(parked, session_id, headers | retry_after(parked.retry_after_s))
        headers = self._submitter.headers(turn.turn_id, submission, session_id) | ignored(request, chat)
        with Heard(request, turn):
            if chat.stream:
                return await self._stream(request, chat, turn, headers)
            return await self._whole(chat, turn, headers)

    async def _whole(self, chat: ChatRequest, turn: Turn, headers: dict[str, str]) -> web.Response:
        ended = await answer_of(turn, headers)
        body = completion(turn.turn_id, int(self._clock()), ended, chat.model)
        return web.Response(body=body, headers=headers)

    async def _stream(
        self, request: web.BaseRequest, chat: ChatRequest, turn: Turn, headers: dict[str, str]
    ) -> web.StreamResponse:
        await begins(turn, headers)
        chunks = Chunks(turn.turn_id, int(self._clock()), chat.model, include_usage=chat.include_usage)
        said = thought = False
        async with EventStream(request, headers, keep_alive_s=self._limits.keep_alive_s) as stream:
            await stream.send(chunks.role())
            async for event in turn:
                match event:
                    case Delta():
                        said = True
                        await stream.send(chunks.text(event.text))
                    case Reasoning():
                        thought = True
                        await stream.send(chunks.reasoning(event.text))
                    case ToolProgress():
                        await stream.send(chunks.tool(event))
                    case GatewayDraining():
                        await stream.send(chunks.draining(event))
                    case Ended() if event.state == "completed":
                        if event.reasoning and not (said or thought):  # the turn was over when we came
                            await stream.send(chunks.reasoning(event.reasoning))
                        if event.text and not said:
                            await stream.send(chunks.text(event.text))
                        await stream.send(chunks.end(event))
                    case Ended():
                        await stream.send(error_event(ended_without_answer(event)))
                    case _:
                        assert_never(event)
        return stream.response


def _parked(parked: Parked, session_id: str | None, headers: dict[str, str]) -> web.Response:
    """A message that is kept for after a drain: also where a stream was wanted, which would be empty."""
    kept = {"id": parked.turn_id, "object": "hermes.turn", "status": "queued", "session_id": session_id}
    response = reply(kept, 202)
    response.headers.update(headers)
    return response
