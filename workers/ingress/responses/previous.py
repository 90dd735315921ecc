"""The conversation that a request goes on with by naming an earlier response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hermes_actors.wire.refusals import RefusalCode
from workers.conversations import assistant_message
from workers.gateway import Gateway
from workers.ingress.http.errors import ApiError, invalid, refused
from workers.ingress.responses.objects import turn_named
from workers.session_keys import api_session_id
from workers.turns import KeptResponse, Refusal

_FIELD = "previous_response_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """What is before a request."""

    session_id: str | None = None  # the session that goes on, since the response is its last turn
    history: Sequence[bytes] = ()  # the conversation up to the response, where no session goes on


NOTHING = Previous()


async def previous_of(gateway: Gateway, principal: str, named: Any) -> Previous:
    """The conversation up to a response of a principal.

    It is the session of the response where nothing came after that. Otherwise the request is a branch: a conversation
    of its own, which leaves the session as it is.

    Raises:
        ApiError: 400; there is no such response, or it is not over. 503; its owner does not answer.
    """
    if named is None:
        return NOTHING
    turn_id = turn_named(named) if isinstance(named, str) else None
    if turn_id is None:
        raise _not_found()
    try:
        kept = await gateway.response(principal, turn_id)
        if kept.turn.ended is None:
            raise invalid(_FIELD, "This response is not over yet: wait for its end.", "response_not_over")
        if kept.turn.stateless:
            return Previous(history=_said(kept))
        before = await gateway.history(principal, turn_id)
    except Refusal as refusal:
        raise (_not_found() if refusal.code is RefusalCode.TURN_NOT_FOUND else refused(refusal)) from None
    if before.is_last:
        return Previous(session_id=api_session_id(principal, before.key))
    return Previous(history=before.rows)


def _said(kept: KeptResponse) -> list[bytes]:
    """The messages of a stateless response as a client would send them back, so that its agent is found again."""
    ended = kept.turn.ended
    if ended is None or ended.state != "completed":
        return kept.messages
    return [*kept.messages, assistant_message(ended.text, ended.tool_calls)]


def _not_found() -> ApiError:
    what = "There is no such response: it was not stored, was deleted, or is too old. Send the conversation in `input`."
    return invalid(_FIELD, what, "previous_response_not_found")
