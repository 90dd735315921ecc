"""A request for a response, however it arrives: checked, joined to what is before it, and made a message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from workers.gateway import Gateway
from workers.ingress.http.errors import invalid
from workers.ingress.http.names import SESSION_ID_HEADER, named
from workers.ingress.http.routes import ApiCall
from workers.ingress.http.submitting import Submitter, ignored, outliving_its_caller
from workers.ingress.responses.input import references
from workers.ingress.responses.previous import Previous, previous_of
from workers.ingress.responses.referred import referred_items
from workers.ingress.responses.request import ResponseRequest, parse_response
from workers.turns import Submission

NONE: Mapping[str, Previous] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request for a response, and the message that it is."""

    request: ResponseRequest
    submission: Submission
    session_id: str | None
    created_at: int  # seconds since the epoch
    headers: dict[str, str]  # of the answer, beside those of the turn


class Asking:
    """Makes messages of requests.

    Args:
        gateway: knows earlier turns.
        submitter: hands messages to it.
        clock: seconds since the epoch.
    """

    def __init__(self, gateway: Gateway, submitter: Submitter, *, clock: Callable[[], float]) -> None:
        self.keeps = True  # as api_server.response_days says
        self._gateway = gateway
        self._submitter = submitter
        self._clock = clock

    async def asked(
        self, call: ApiCall, body: Mapping[str, Any], *, park: bool = False, held: Mapping[str, Previous] = NONE
    ) -> Asked:
        """Check a body.

        Args:
            call: the request that brought it.
            body: the JSON object.
            park: whether the message is to be kept for after a drain.
            held: what the caller's connection knows of responses that are not stored, by their ids.

        Raises:
            ApiError: 400, with the field it is about; 503, the owner of an earlier turn does not answer.
        """
        request = await self._parsed(call, body, held)
        session_id = None if request.chat.bare else _session_of(call.request, request)
        if session_id is None:
            request.check_results()
        submission = await self._submitter.submission(call, session_id, request.chat, park=park)
        created_at = int(self._clock())
        if request.stored:
            submission = replace(submission, response={**request.echoed, "created_at": created_at})
        if request.background:
            submission = outliving_its_caller(submission, request.chat)
        return Asked(
            request=request,
            submission=submission,
            session_id=session_id,
            created_at=created_at,
            headers=ignored(call.request, request.chat),
        )

    async def _parsed(self, call: ApiCall, body: Mapping[str, Any], held: Mapping[str, Previous]) -> ResponseRequest:
        ids = references(body.get("input"))
        known = await referred_items(self._gateway, call.principal, ids) if ids else {}
        name = body.get("previous_response_id")
        if isinstance(name, str) and name in held:
            previous = held[name]
        else:
            previous = await previous_of(self._gateway, call.principal, name)
        return parse_response(body, known, previous, keeps=self.keeps)


def _session_of(request: web.BaseRequest, asked: ResponseRequest) -> str | None:
    """The session of a request, which its header or its body may name.

    Raises:
        ApiError: 400; they name two.
    """
    session_id = named(request, SESSION_ID_HEADER)
    if asked.conversation is None or session_id in (None, asked.conversation):
        return asked.conversation or session_id
    raise invalid("conversation", f"`conversation` and the header {SESSION_ID_HEADER} name two sessions: send one.")
