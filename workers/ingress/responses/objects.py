"""Response objects and their items, purely: how a turn is in the shapes of Open Responses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from workers.ingress.http.errors import ended_without_answer
from workers.ingress.http.shapes import ANY, TEXT, record
from workers.ingress.responses.echo import echoed
from workers.turns import Ended, KeptResponse

RESPONSE_PREFIX = "resp_"
MAX_TURN_ID_CHARS = 80  # of one that a caller sends

_ITEM_ID = re.compile(r"(msg|rs|fc)_(turn_[0-9a-f_]{1,80})_([0-9]{1,4})", re.ASCII)
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}  # by finish reason


def response_id(turn_id: str) -> str:
    """The id of a turn's response."""
    return RESPONSE_PREFIX + turn_id


def turn_named(response: str) -> str | None:
    """The turn that the id of a response names; None: it is no such id."""
    named = response.removeprefix(RESPONSE_PREFIX)
    return named if named != response and len(named) <= MAX_TURN_ID_CHARS else None


def incomplete_reason(ended: Ended) -> str | None:
    """Why the answer of a turn is not whole; None: it is."""
    return _INCOMPLETE.get(ended.finish_reason) if ended.state == "completed" else None


def status_of(ended: Ended) -> str:
    """``completed``, ``incomplete``, ``failed`` or ``cancelled``."""
    if ended.state == "completed":
        return "completed" if incomplete_reason(ended) is None else "incomplete"
    return "cancelled" if ended.state == "cancelled" else "failed"


def begun(turn_id: str, created_at: int, echoed: Mapping[str, Any], status: str = "in_progress") -> dict[str, Any]:
    """A response that is not over.

    Args:
        turn_id: the turn's.
        created_at: seconds since the epoch.
        echoed: the fields that say what was asked.
        status: ``in_progress`` or ``queued``.
    """
    return {
        "id": response_id(turn_id),
        "object": "response",
        "created_at": created_at,
        "completed_at": None,
        "status": status,
        "incomplete_details": None,
        "error": None,
        "output": [],
        "usage": None,
        **echoed,
    }


def finished(
    turn_id: str,
    created_at: int,
    echoed: Mapping[str, Any],
    ended: Ended,
    *,
    completed_at: int,
    output: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """A response that is over.

    Args:
        turn_id: the turn's.
        created_at: seconds since the epoch.
        echoed: the fields that say what was asked.
        ended: how the turn ended.
        completed_at: seconds since the epoch.
        output: the items as they were streamed; None: those of the end alone.
    """
    status, reason = status_of(ended), incomplete_reason(ended)
    failure = None if ended.state == "completed" else ended_without_answer(ended)
    return begun(turn_id, created_at, echoed, status) | {
        "completed_at": completed_at if status == "completed" else None,
        "incomplete_details": None if reason is None else {"reason": reason},
        "error": None if failure is None else {"code": failure.code, "message": failure.message},
        "output": items(turn_id, ended) if output is None else output,
        "usage": usage(ended.usage) if ended.usage else None,
    }


_BEGUN = begun("turn", 0, echoed({}, stored=True, background=False))
RESPONSE = record(
    _BEGUN,
    **dict.fromkeys(_BEGUN, ANY)
    | {
        **dict.fromkeys(("id", "object", "model"), TEXT),
        "created_at": {"type": "integer"},
        "completed_at": {"type": ["integer", "null"]},
        "status": {"enum": ["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]},
        "output": {"type": "array", "items": record(["type", "id"], type=TEXT, id=TEXT)},
        "usage": {"type": ["object", "null"]},
        "error": {"type": ["object", "null"]},
    },
)


def kept_object(kept: KeptResponse) -> dict[str, Any]:
    """A response that is kept, as it is now."""
    turn, asked = kept.turn, dict(kept.asked)
    created_at = int(asked.pop("created_at"))
    if turn.ended is None:
        return begun(turn.turn_id, created_at, asked, "queued" if turn.state == "queued" else "in_progress")
    over_at = int(turn.ended_at or created_at)
    return finished(turn.turn_id, created_at, asked, turn.ended, completed_at=over_at)


def usage(counted: Mapping[str, int]) -> dict[str, Any]:
    """Tokens in the fields of the API; zero where the provider named none."""
    return {
        "input_tokens": counted.get("prompt_tokens", 0),
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": counted.get("completion_tokens", 0),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": counted.get("total_tokens", 0),
    }


# -- items --------------------------------------------------------------------------------------------------------


def items(turn_id: str, ended: Ended) -> list[dict[str, Any]]:
    """The items of a turn that is over: what was thought, what is said, what the client is to call."""
    made: list[dict[str, Any]] = []
    if ended.reasoning:
        made.append(reasoning_item(turn_id, 0, ended.reasoning))
    if ended.text:
        status = "completed" if status_of(ended) == "completed" else "incomplete"
        made.append(message_item(turn_id, 0, ended.text, status))
    return [*made, *(call_item(turn_id, number, call) for number, call in enumerate(ended.tool_calls))]


def item_id(kind: str, turn_id: str, number: int) -> str:
    """The id of a turn's item: the same each time it is given.

    Args:
        kind: ``msg``, ``rs`` or ``fc``; ``in`` of what came with the request.
        turn_id: the turn's.
        number: of the item among those of its kind.
    """
    return f"{kind}_{turn_id}_{number}"


def item_named(name: str) -> tuple[str, str, int] | None:
    """The kind, the turn's id and the number that an item's id is made of; None: it is no such id."""
    form = _ITEM_ID.fullmatch(name)
    return None if form is None else (form[1], form[2], int(form[3]))


def message_item(turn_id: str, number: int, text: str | None, status: str) -> dict[str, Any]:
    """A message of the assistant; without a text it has only begun."""
    return {
        "type": "message",
        "id": item_id("msg", turn_id, number),
        "status": status,
        "role": "assistant",
        "content": [] if text is None else [text_part(text)],
    }


def reasoning_item(turn_id: str, number: int, text: str | None) -> dict[str, Any]:
    """What the model thought aloud; without a text it has only begun.

    The text is there twice, since some clients show the content alone, and others the summary alone.
    """
    return {
        "type": "reasoning",
        "id": item_id("rs", turn_id, number),
        "summary": [] if text is None else [summary_part(text)],
        "content": None if text is None else [{"type": "reasoning_text", "text": text}],
        "encrypted_content": None,
    }


def call_item(turn_id: str, number: int, call: Mapping[str, Any], *, begun: bool = False) -> dict[str, Any]:
    """A call that the client is to make.

    Args:
        turn_id: the turn's.
        number: of the item among the calls.
        call: as chat completions have it.
        begun: without its arguments, which follow.
    """
    return {
        "type": "function_call",
        "id": item_id("fc", turn_id, number),
        "call_id": call["id"],
        "name": call["function"]["name"],
        "arguments": "" if begun else call["function"]["arguments"],
        "status": "in_progress" if begun else "completed",
    }


def text_part(text: str) -> dict[str, Any]:
    """The content of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def summary_part(text: str) -> dict[str, Any]:
    """The summary of a reasoning item."""
    return {"type": "summary_text", "text": text}
