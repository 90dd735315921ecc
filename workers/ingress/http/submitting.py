"""A request that makes a turn, by whichever API: how it is handed to the gateway, and until when its turn is heard."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType

from aiohttp import web

from workers.conversations import StatelessConversation
from workers.gateway import Gateway, Turn, TurnReading
from workers.ingress.http.connection import ClientConnection
from workers.ingress.http.errors import JSON_TYPE, SERVER, ClientGone, ended_without_answer, refused, unknown
from workers.ingress.http.names import (
    IDEMPOTENCY_HEADER,
    MAX_MODEL_CHARS,
    REQUEST_ID_HEADER,
    SESSION_ID_HEADER,
    TURN_ID_HEADER,
    is_name,
    named,
)
from workers.ingress.http.request import ChatRequest
from workers.ingress.http.routes import ApiCall
from workers.session_keys import api_session
from workers.turns import Ended, Origin, Refusal, Submission, TurnUnknown

# What the models of some providers refuse, and libraries send unasked.
_SAMPLING = frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "logit_bias"})
HEAD_S = 1.0  # the head of a stream waits so long for the turn's first event


class Submitter:
    """Hands the messages of requests to the gateway.

    Args:
        gateway: runs the turns.
        slot: of this worker, for a header of the answers.
    """

    def __init__(self, gateway: Gateway, *, slot: int) -> None:
        self.drops_sampling = False  # as api_server.sampling_parameters says
        self._gateway = gateway
        self._slot = str(slot)

    async def submission(self, call: ApiCall, session_id: str | None, chat: ChatRequest, *, park: bool) -> Submission:
        """A request as a message to its session; without one, to the agent that knows its history.

        Raises:
            ApiError: its header names are wrong, or its results of tools belong to no call.
        """
        if self.drops_sampling:
            kept = {name: value for name, value in chat.parameters.items() if name not in _SAMPLING}
            chat = replace(chat, parameters=kept)
        idempotency_key = None if chat.bare else named(call.request, IDEMPOTENCY_HEADER)
        request_id = named(call.request, REQUEST_ID_HEADER)
        if session_id is None:
            chat.check_results()
        if chat.bare:
            key = self._gateway.bare_key(call.principal)
        elif session_id is None:
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
            park=park and not chat.bare,
        )

    async def submit(self, submission: Submission, session_id: str | None, *, stream: bool) -> Turn:
        """Hand it over. A client that leaves does not cancel this: where a message may be on disk, its turn is known.

        Raises:
            ApiError: it was refused, or what became of it is not known.
            Parked: it is kept for after a drain.
        """
        try:
            return await self._gateway.submit(submission, stream=stream)
        except Refusal as refusal:
            raise refused(refusal) from None
        except TurnUnknown as lost:
            error = unknown(lost)
            error.headers |= self.headers(lost.turn_id, submission, session_id)
            if submission.idempotency_key is not None:  # which may name an earlier turn
                del error.headers[TURN_ID_HEADER]
            raise error from None

    def headers(self, turn_id: str, submission: Submission, session_id: str | None) -> dict[str, str]:
        """What an answer says of its turn."""
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


def ignored(request: web.BaseRequest, chat: ChatRequest) -> dict[str, str]:
    """The header that names what of a request was not heeded: the model alone has no sessions."""
    return {"X-Hermes-Ignored": SESSION_ID_HEADER} if chat.bare and SESSION_ID_HEADER in request.headers else {}


def outliving_its_caller(submission: Submission, chat: ChatRequest) -> Submission:
    """A stateless turn goes on without its caller where it has an Idempotency-Key: one that no other request has."""
    if not submission.stateless or submission.idempotency_key is not None:
        return submission
    return replace(submission, idempotency_key=submission.turn_id, fingerprint=chat.fingerprint(stateless=True))


@contextmanager
def refusals_told() -> Iterator[None]:
    """What the gateway refuses in the block is an error for the caller."""
    try:
        yield
    except Refusal as refusal:
        raise refused(refusal) from None


class Heard:
    """While a turn is being answered: its client going away ends the block, and the turn is abandoned.

    Raises:
        ClientGone: the client was gone before the block began.
    """

    __slots__ = ("_connection", "_turn")

    def __init__(self, request: web.BaseRequest, turn: Turn | TurnReading) -> None:
        assert isinstance(request.protocol, ClientConnection)
        self._connection = request.protocol
        self._turn = turn

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._connection.transport is None:
            self._turn.abandon()
            raise ClientGone
        self._connection.on_lost = task.cancel

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.on_lost = None
        if exc is not None:
            self._turn.abandon()


async def begins(turn: Turn, headers: Mapping[str, str]) -> None:
    """Wait until a turn says something, or for :data:`HEAD_S`: then a stream may begin.

    So a model that is not there is a plain error: libraries send a stream again that begins and then fails.

    Args:
        turn: to be streamed.
        headers: what an answer says of it.

    Raises:
        ApiError: the turn ended without an answer before it said anything.
    """
    first = await turn.peek(HEAD_S)
    if isinstance(first, Ended) and first.state != "completed":
        raise ended_without_answer(first, headers)


async def answer_of(turn: Turn, headers: dict[str, str]) -> Ended:
    """The end of a turn that gave an answer; the headers then say that it is JSON, and which model gave it.

    Raises:
        ApiError: the turn ended without an answer.
    """
    ended = await _end_of(turn)
    if ended.state != "completed":
        raise ended_without_answer(ended, headers)
    headers["Content-Type"] = JSON_TYPE
    if is_name(ended.model, MAX_MODEL_CHARS):  # the provider's own words
        headers["X-Hermes-Model"] = ended.model
    return ended


async def _end_of(turn: Turn) -> Ended:
    async for event in turn:
        if isinstance(event, Ended):
            return event
    raise RuntimeError("the turn's events stopped without an end")
