"""``POST /v1/chat/completions``: a message in, a turn, its answer out, whole or as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import assert_never

from aiohttp import web

from workers.conversations import StatelessConversation
from workers.gateway import Gateway, Turn
from workers.ingress.http.body import read_json
from workers.ingress.http.completion import Chunks, completion, error_event
from workers.ingress.http.connection import ClientConnection, ClientLimits
from workers.ingress.http.errors import (
    JSON_TYPE,
    SERVER,
    ClientGone,
    ended_without_answer,
    refused,
    retry_after,
    unknown,
)
from workers.ingress.http.events import EventStream
from workers.ingress.http.names import (
    IDEMPOTENCY_HEADER,
    MAX_MODEL_CHARS,
    REQUEST_ID_HEADER,
    SESSION_ID_HEADER,
    TURN_ID_HEADER,
    is_name,
    named,
    wants_to_park,
)
from workers.ingress.http.replies import reply
from workers.ingress.http.request import ChatRequest, parse_chat
from workers.ingress.http.routes import ApiCall, route
from workers.session_keys import api_session
from workers.turns import (
    Delta,
    Ended,
    GatewayDraining,
    Origin,
    Parked,
    Reasoning,
    Refusal,
    Submission,
    ToolProgress,
    TurnUnknown,
)


class ChatRoutes:
    """The route.

    Args:
        gateway: runs the turns.
        slot: of this worker, for a header of the answer.
        max_body_bytes: of a request.
        limits: for slow clients.
        clock: seconds since the epoch.
    """

    def __init__(
        self, gateway: Gateway, *, slot: int, max_body_bytes: int, limits: ClientLimits, clock: Callable[[], float]
    ) -> None:
        self._gateway = gateway
        self._slot = str(slot)
        self.max_body_bytes = max_body_bytes
        self._limits = limits
        self._clock = clock

    @route(
        "POST",
        "/v1/chat/completions",
        endpoint="chat_completions",
        features=("chat_completions", "chat_completions_streaming", "tool_progress_events", "idempotency"),
    )
    async def post(self, call: ApiCall) -> web.StreamResponse:
        """Answer a request.

        Raises:
            ApiError: it is not accepted.
            ClientGone: it is, and its turn was abandoned.
        """
        request = call.request
        session_id = named(request, SESSION_ID_HEADER)
        park = wants_to_park(request)
        body = await read_json(request, max_bytes=self.max_body_bytes, timeout_s=self._limits.body_s)
        chat = parse_chat(body)
        try:
            submission = await self._submission(call, session_id, chat, park=park)
            # A client that leaves does not cancel this: where a message may be on disk, this task must know its turn.
            turn = await self._gateway.submit(submission, stream=chat.stream)
        except Refusal as refusal:
            raise refused(refusal) from None
        except TurnUnknown as lost:
            error = unknown(lost)
            error.headers |= self._headers(lost.turn_id, submission, session_id)
            if submission.idempotency_key is not None:  # which may name an earlier turn
                del error.headers[TURN_ID_HEADER]
            raise error from None
        except Parked as parked:
            headers = self._headers(parked.turn_id, submission, session_id) | retry_after(parked.retry_after_s)
            return _parked(parked, session_id, headers)
        return await self._answer(request, chat, turn, self._headers(turn.turn_id, submission, session_id))

    async def _submission(self, call: ApiCall, session_id: str | None, chat: ChatRequest, *, park: bool) -> Submission:
        idempotency_key = named(call.request, IDEMPOTENCY_HEADER)
        request_id = named(call.request, REQUEST_ID_HEADER)
        if session_id is None:
            chat.check_results()
            key = await self._gateway.conversation_key(
                StatelessConversation(
                    principal=call.principal, user=chat.user, history=chat.history, idempotency_key=idempotency_key
                )
            )
        else:
            key = api_session(call.principal, session_id)
        turn_id = self._gateway.new_turn_id(key)
        stateless = session_id is None
        return Submission(
            turn_id=turn_id,
            key=key,
            principal=call.principal,
            stateless=stateless,
            messages=chat.messages if stateless else chat.new_part,
            parameters=chat.parameters,
            idempotency_key=idempotency_key,
            fingerprint=chat.fingerprint(stateless=stateless) if idempotency_key else b"",
            origin=Origin(ingress="http", request_id=request_id or turn_id, user=chat.user if stateless else ""),
            park=park,
        )

    def _headers(self, turn_id: str, submission: Submission, session_id: str | None) -> dict[str, str]:
        headers = {
            "Server": SERVER,
            TURN_ID_HEADER: turn_id,
            "X-Hermes-Worker": self._slot,
            REQUEST_ID_HEADER: submission.origin.request_id,
        }
        if session_id is not None:
            headers[SESSION_ID_HEADER] = session_id
        if turn_id != submission.turn_id:
            headers["Idempotency-Replayed"] = "true"
        return headers

    async def _answer(
        self, request: web.BaseRequest, chat: ChatRequest, turn: Turn, headers: dict[str, str]
    ) -> web.StreamResponse:
        """Give the answer, or abandon the turn as soon as its client is gone."""
        connection = request.protocol
        task = asyncio.current_task()
        assert isinstance(connection, ClientConnection)
        assert task is not None
        connection.on_lost = task.cancel
        try:
            if connection.transport is None:
                raise ClientGone
            if chat.stream:
                return await self._stream(request, chat, turn, headers)
            return await self._whole(turn, headers)
        except BaseException:
            turn.abandon()
            raise
        finally:
            connection.on_lost = None

    async def _whole(self, turn: Turn, headers: dict[str, str]) -> web.Response:
        ended = await _end_of(turn)
        if ended.state != "completed":
            error = ended_without_answer(ended)
            error.headers |= headers
            return error.response()
        headers["Content-Type"] = JSON_TYPE
        if is_name(ended.model, MAX_MODEL_CHARS):  # the provider's own words
            headers["X-Hermes-Model"] = ended.model
        body = completion(turn.turn_id, int(self._clock()), ended)
        return web.Response(body=body, headers=headers)

    async def _stream(
        self, request: web.BaseRequest, chat: ChatRequest, turn: Turn, headers: dict[str, str]
    ) -> web.StreamResponse:
        chunks = Chunks(turn.turn_id, int(self._clock()), include_usage=chat.include_usage)
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


async def _end_of(turn: Turn) -> Ended:
    async for event in turn:
        if isinstance(event, Ended):
            return event
    raise RuntimeError("the turn's events stopped without an end")
