"""Chat messages as the items of Open Responses that they came in, and pages of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from workers.ingress.http.errors import invalid
from workers.ingress.responses.objects import call_item, item_id, text_part

DEFAULT_PAGE = 20
MAX_PAGE = 100  # this and the default are those of OpenAI


def input_items(turn_id: str, rows: Sequence[bytes]) -> list[dict[str, Any]]:
    """The items of a request, in order; the ids are of this gateway.

    Args:
        turn_id: of the turn that the request made.
        rows: the messages that it came with, as JSON.
    """
    made: list[dict[str, Any]] = []
    for row in rows:
        message = orjson.loads(row)
        if message["role"] == "tool":
            made.append(_result(turn_id, len(made), message))
            continue
        if message.get("content"):
            made.append(_message(turn_id, len(made), message))
        for call in message.get("tool_calls") or ():
            made.append(call_item(turn_id, len(made), call) | {"id": item_id("in", turn_id, len(made))})
    return made


def page(items: Sequence[Mapping[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """A page of items, the newest first unless the query says otherwise.

    Args:
        items: all, in order.
        query: ``limit``, ``order`` (``asc`` or ``desc``), ``after`` (the id of the last item of the page before).

    Raises:
        ApiError: 400, with the field it is about.
    """
    order, limit = query.get("order", "desc"), query.get("limit", str(DEFAULT_PAGE))
    if order not in ("asc", "desc"):
        raise invalid("order", "`order` must be asc or desc.")
    if not (limit.isascii() and limit.isdigit() and len(limit) <= len(str(MAX_PAGE)) and 1 <= int(limit) <= MAX_PAGE):
        raise invalid("limit", f"`limit` must be 1 to {MAX_PAGE}.")
    sorted_items = list(items) if order == "asc" else list(reversed(items))
    first = 0
    if (after := query.get("after")) is not None:
        first = next((at + 1 for at, item in enumerate(sorted_items) if item["id"] == after), 0)
        if not first:
            raise invalid("after", "`after` must be the id of an item of this response.")
    shown = sorted_items[first : first + int(limit)]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": first + len(shown) < len(sorted_items),
    }


def _message(turn_id: str, number: int, message: Mapping[str, Any]) -> dict[str, Any]:
    role, content = message["role"], message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    of_model = role == "assistant"
    return {
        "type": "message",
        "id": item_id("in", turn_id, number),
        "status": "completed",
        "role": role,
        "content": [text_part(part["text"]) if of_model else _part(part) for part in parts],
    }


def _result(turn_id: str, number: int, message: Mapping[str, Any]) -> dict[str, Any]:
    content = message["content"]
    return {
        "type": "function_call_output",
        "id": item_id("in", turn_id, number),
        "call_id": message["tool_call_id"],
        "output": content if isinstance(content, str) else [_part(part) for part in content],
        "status": "completed",
    }


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "input_text", "text": part["text"]}
    picture = part["image_url"]
    return {"type": "input_image", "image_url": picture["url"], "detail": picture.get("detail", "auto")}
