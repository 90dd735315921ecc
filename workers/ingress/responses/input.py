"""The items of a request's ``input`` as chat messages: what Open Responses keeps apart, a chat message has together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from hermes_actors.wire.refusals import RefusalCode
from workers.conversations import assistant_message, canonical
from workers.ingress.http.errors import ApiError, invalid
from workers.ingress.responses.compaction_item import summary_message

MAX_CALL_ID_CHARS = 256
MAX_REFERENCES = 128  # in one request

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ROLES = ("assistant", "developer", "system", "user")
_IMAGE_URLS = ("https://", "http://", "data:image/")
_TEXTS = ("input_text", "output_text", "text")
_REFERENCE = "item_reference"


@dataclass(slots=True, kw_only=True)
class InputMessages:
    """Chat messages in canonical form, and of each the item that it begins with."""

    rows: list[bytes] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)  # by id: in which message
    results: dict[int, str] = field(default_factory=dict)  # by message: of which call

    def add(self, role: str, row: bytes, place: str) -> None:
        """Add a message."""
        self.rows.append(row)
        self.roles.append(role)
        self.places.append(place)


@dataclass(slots=True, kw_only=True)
class _Answer:
    """An answer of the model, whose texts and calls are items of their own."""

    place: str
    texts: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)


def references(value: Any) -> list[str]:
    """The ids of the items that an ``input`` names instead of sending them.

    Raises:
        ApiError: 400; there are more than :data:`MAX_REFERENCES`.
    """
    if not isinstance(value, list):
        return []
    ids = [item["id"] for item in value if _is_reference(item) and isinstance(item.get("id"), str)]
    if len(ids) > MAX_REFERENCES:
        raise invalid("input", f"`input` may have {MAX_REFERENCES} item references; this has {len(ids)}.")
    return ids


def input_messages(value: Any, known: Mapping[str, Mapping[str, Any]], history: Sequence[bytes] = ()) -> InputMessages:
    """The messages of an ``input``.

    Texts and calls of one answer become one message of the assistant, so that an answer that a client sends back is
    recognised. Reasoning items are taken and left out: what a provider thought goes back to it from the transcript.

    Args:
        value: a text, or items.
        known: the items that references name, by id.
        history: chat messages as JSON that are before it.

    Raises:
        ApiError: 400, with the field it is about.
    """
    messages = _before(history)
    if isinstance(value, str):
        messages.add("user", canonical({"role": "user", "content": value}), "input")
        return messages
    if not isinstance(value, list) or not value:
        raise invalid("input", "`input` must be a text, or an array with at least one item.")
    answer: _Answer | None = None
    for at, item in enumerate(value):
        where = f"input[{at}]"
        item = _referred(item, where, known)
        kind = _kind(item, where)
        if kind == "reasoning":
            continue
        if kind == "function_call" or (kind == "message" and item.get("role") == "assistant"):
            answer = answer or _Answer(place=where)
            if kind == "message":
                answer.texts.append(_said(item.get("content"), where))
            else:
                answer.calls.append(_call(item, where))
            continue
        _close(answer, messages)
        answer = None
        if kind == "function_call_output":
            messages.results[len(messages.rows)] = _call_id(item, where)
            messages.add("tool", _result(item, where), where)
        elif kind == "compaction":
            messages.add("user", summary_message(item, where), where)
        else:
            role = _role(item, where)
            messages.add(role, canonical({"role": role, "content": _content(item.get("content"), where, role)}), where)
    _close(answer, messages)
    return messages


def check_results(messages: InputMessages, new: Sequence[int]) -> None:
    """See to it that the calls are in the input whose results are new.

    Raises:
        ApiError: 400, with the item it is about.
    """
    for at in new:
        call_id = messages.results.get(at)
        if call_id is not None and messages.calls.get(call_id, at) >= new[0]:
            where = f"{messages.places[at]}.call_id"
            raise invalid(where, f"`{where}` names no function_call in the items before it.", RefusalCode.NO_SUCH_CALL)


def _before(history: Sequence[bytes]) -> InputMessages:
    messages = InputMessages()
    for row in history:
        message = orjson.loads(row)
        messages.calls |= dict.fromkeys((call["id"] for call in message.get("tool_calls") or ()), len(messages.rows))
        messages.add(message["role"], row, "previous_response_id")
    return messages


def _close(answer: _Answer | None, messages: InputMessages) -> None:
    if answer is not None:
        messages.calls |= dict.fromkeys((call["id"] for call in answer.calls), len(messages.rows))
        messages.add("assistant", assistant_message("".join(answer.texts), answer.calls), answer.place)


# -- items --------------------------------------------------------------------------------------------------------


def _is_reference(item: Any) -> bool:
    return isinstance(item, dict) and (item.get("type") == _REFERENCE or item.keys() == {"id"})


def _referred(item: Any, where: str, known: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    if not isinstance(item, dict):
        raise invalid(where, f"`{where}` must be an object.")
    if not _is_reference(item):
        return item
    found = known.get(_text(item, "id", where))
    if found is None:
        raise invalid(
            f"{where}.id",
            f"`{where}` refers to an item that is not kept here. What to do: send the item itself.",
            "item_not_found",
        )
    return found


def _kind(item: Mapping[str, Any], where: str) -> str:
    kind = item.get("type") or ("message" if "role" in item else None)
    if kind in ("message", "function_call", "function_call_output", "reasoning", "compaction"):
        return str(kind)
    raise invalid(
        f"{where}.type",
        f"`{where}.type` must be message, function_call, function_call_output, reasoning, compaction or {_REFERENCE}.",
        "unsupported_item",
    )


def _role(item: Mapping[str, Any], where: str) -> str:
    role = item.get("role")
    if role in _ROLES:
        return str(role)
    raise invalid(f"{where}.role", f"`{where}.role` must be one of {', '.join(_ROLES)}.")


def _call(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    name = _text(item, "name", where)
    if _NAME.fullmatch(name) is None:
        raise invalid(f"{where}.name", f"`{where}.name` must have 1 to 64 letters, digits, underscores and hyphens.")
    function = {"name": name, "arguments": _text(item, "arguments", where)}
    return {"id": _call_id(item, where), "type": "function", "function": function}


def _result(item: Mapping[str, Any], where: str) -> bytes:
    content = _content(item.get("output"), f"{where}.output", "tool", at="")
    return canonical({"role": "tool", "content": content, "tool_call_id": _call_id(item, where)})


def _call_id(item: Mapping[str, Any], where: str) -> str:
    call_id = _text(item, "call_id", where)
    if 0 < len(call_id) <= MAX_CALL_ID_CHARS:
        return call_id
    raise invalid(f"{where}.call_id", f"`{where}.call_id` must have 1 to {MAX_CALL_ID_CHARS} characters.")


# -- contents -----------------------------------------------------------------------------------------------------


def _said(content: Any, where: str) -> str:
    parts = _content(content, where, "assistant")
    return parts if isinstance(parts, str) else "".join(part["text"] for part in parts)


def _content(content: Any, where: str, role: str, at: str = ".content") -> str | list[dict[str, Any]]:
    where += at
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise invalid(where, f"`{where}` must be a string or an array of parts.")
    return [_part(part, f"{where}[{index}]", role) for index, part in enumerate(content)] or ""


def _part(part: Any, where: str, role: str) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise invalid(where, f"`{where}` must be an object.")
    kind = part.get("type")
    if kind in _TEXTS:
        return {"type": "text", "text": _text(part, "text", where)}
    if kind == "refusal" and role == "assistant":
        return {"type": "text", "text": _text(part, "refusal", where)}
    if kind == "input_image" and role in ("user", "tool"):
        return {"type": "image_url", "image_url": _image(part, where)}
    raise _unknown_part(where, role)


def _unknown_part(where: str, role: str) -> ApiError:
    kinds = {"assistant": "output_text or refusal", "user": "input_text or input_image"}
    kinds["tool"] = kinds["user"]
    what = f"`{where}.type` must be {kinds.get(role, 'input_text')}."
    return invalid(f"{where}.type", what, "unsupported_content_part")


def _image(part: Mapping[str, Any], where: str) -> dict[str, str]:
    if part.get("file_id") is not None:
        raise invalid(f"{where}.file_id", "No files are kept here: send the image in `image_url`, as a data URL.")
    url = part.get("image_url")
    if not isinstance(url, str) or not url.startswith(_IMAGE_URLS):
        raise invalid(f"{where}.image_url", f"`{where}.image_url` must begin with https://, http:// or data:image/.")
    detail = part.get("detail")
    if detail is not None and not isinstance(detail, str):
        raise invalid(f"{where}.detail", f"`{where}.detail` must be a string.")
    return {"url": url} if detail is None else {"url": url, "detail": detail}


def _text(fields: Mapping[str, Any], name: str, where: str) -> str:
    value = fields.get(name)
    if isinstance(value, str):
        return value
    raise invalid(f"{where}.{name}", f"`{where}.{name}` must be a string.")
