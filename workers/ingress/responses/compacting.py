"""``POST /v1/responses/compact``: a conversation becomes one item, which a later request sends in its place."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

from workers.gateway import Gateway
from workers.ingress.http.body import read_json
from workers.ingress.http.connection import ClientLimits
from workers.ingress.http.errors import invalid
from workers.ingress.http.replies import reply
from workers.ingress.http.request import ChatRequest, json_object
from workers.ingress.http.routes import ApiCall, route
from workers.ingress.http.shapes import ANY, OF_A_TURN, TEXT, Shape, gives, record
from workers.ingress.http.submitting import Heard, Submitter, answer_of
from workers.ingress.responses.compaction_item import compaction_item
from workers.ingress.responses.input import input_messages, references
from workers.ingress.responses.objects import usage
from workers.ingress.responses.previous import previous_of
from workers.ingress.responses.referred import referred_items
from workers.models.summary import MAX_SUMMARY_CHARS, PIECE_BYTES, pieces_of, summary_request
from workers.turns import Ended

_FIELDS = ("model", "input", "previous_response_id", "instructions", "prompt_cache_key")
_BODY = record(**dict.fromkeys(_FIELDS, ANY))
_COMPACTED = record(
    ["id", "object", "created_at", "output", "usage"],
    id=TEXT,
    object=TEXT,
    created_at={"type": "integer"},
    output={"type": "array"},
    usage={"type": "object"},
)


class CompactRoutes:
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
        self.max_body_bytes = max_body_bytes
        self._gateway = gateway
        self._submitter = submitter
        self._limits = limits
        self._clock = clock

    @route(
        "POST",
        "/v1/responses/compact",
        endpoint="responses_compact",
        features=("responses_compact",),
        shape=Shape(body=_BODY, answers=gives(_COMPACTED), errors=OF_A_TURN),
    )
    async def compact(self, call: ApiCall) -> web.Response:
        """Have the model alone summarise a conversation, which the request has or names.

        Raises:
            ApiError: it is not accepted, or the model wrote no summary.
            ClientGone: the client left.
        """
        body = json_object(await read_json(call.request, max_bytes=self.max_body_bytes, timeout_s=self._limits.body_s))
        rows = await self._rows(call, body)
        text, used = "", dict[str, int]()
        for piece in pieces_of([[row] for row in rows], PIECE_BYTES):
            ended = await self._summarised(call, text, piece)
            text = ended.text.strip()[:MAX_SUMMARY_CHARS]
            used = {name: used.get(name, 0) + ended.usage.get(name, 0) for name in used | ended.usage}
        return reply(
            {
                "id": f"cmp_{uuid.uuid4().hex}",
                "object": "response.compaction",
                "created_at": int(self._clock()),
                "output": [compaction_item(text)],
                "usage": usage(used),
            }
        )

    async def _rows(self, call: ApiCall, body: Mapping[str, Any]) -> Sequence[bytes]:
        for name in body.keys() - set(_FIELDS):
            raise invalid(name, "This field is not known here: leave it out.", "unknown_parameter")
        previous = await previous_of(self._gateway, call.principal, body.get("previous_response_id"))
        if previous.session_id is not None:
            what = "The gateway compacts sessions by itself; `/compress` as a message does it at once."
            raise invalid("previous_response_id", f"This response is the last turn of a session. {what}")
        given = body.get("input")
        if given is None and previous.history:
            return previous.history
        ids = references(given)
        known = await referred_items(self._gateway, call.principal, ids) if ids else {}
        return input_messages(given, known, previous.history).rows

    async def _summarised(self, call: ApiCall, before: str, piece: str) -> Ended:
        asked = summary_request(before, piece)
        (message,) = asked.messages
        chat = ChatRequest(
            messages=[message],
            new=[0],
            parameters={"instructions": asked.system},
            user="",
            stream=False,
            include_usage=True,
            bare=True,
        )
        submission = await self._submitter.submission(call, None, chat, park=False)
        turn = await self._submitter.submit(submission, None, stream=False)
        with Heard(call.request, turn):
            return await answer_of(turn, {})
