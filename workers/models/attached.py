"""What a provider attached to an answer beside text and tool calls: signatures, reasoning, whatever comes next, purely.

It is stored in the assistant message where it stood, unread, beside :data:`MADE_BY`, which says whose it is. It goes
back to that provider and model as it came, and to no other. Reasoning that came in no field of its own (between tags in
the text, in parts of it) is kept with :data:`MADE_BY`, for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from workers.models.provider import ModelReply

MADE_BY = "made_by"  # key of a stored message: {"provider", "model", "reasoning"}; a plain text needs none
REASONING = "reasoning_content"  # as callers are shown it
MAX_ATTACHED_BYTES = 256 * 1024  # of one message

_REASONING_TEXTS = (REASONING, "reasoning", "reasoning_text")  # the same by name of provider
_OF_MESSAGE = frozenset({"role", "content", "name", "refusal", "tool_calls", "function_call", "tool_call_id", MADE_BY})
_OF_CALL = frozenset({"id", "type", "function", "custom", "name", "arguments"})
_OF_FUNCTION = frozenset({"name", "arguments"})


def attached_to(message: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an assistant message that its provider attached."""
    return _without(message, _OF_MESSAGE)


def attached_to_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a tool call that its provider attached."""
    return _without(call, _OF_CALL)


def attached_to_function(function: Mapping[str, Any]) -> dict[str, Any]:
    """The same of what a call's function holds."""
    return _without(function, _OF_FUNCTION)


def made_by(message: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """The provider and model that made a stored message, where it says so."""
    maker = message.get(MADE_BY)
    return (maker["provider"], maker.get("model")) if isinstance(maker, dict) and "provider" in maker else None


def stored(reply: ModelReply) -> dict[str, Any]:
    """An answer as the message that the transcript keeps."""
    # Null is only valid beside tool calls.
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or (None if reply.tool_calls else "")}
    if reply.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments, **_of_function(call.attached)},
                **attached_to_call(call.attached),
            }
            for call in reply.tool_calls
        ]
    attached = attached_to(reply.attached) if reply.attached else {}
    maker = {"provider": reply.provider, "model": reply.asked or reply.model} if reply.provider else {}
    if reply.reasoning and not any(name in attached for name in _REASONING_TEXTS):
        maker["reasoning"] = reply.reasoning
    if maker and (attached or reply.tool_calls or reply.reasoning):
        message[MADE_BY] = maker
    return message | attached


def shown(message: Mapping[str, Any]) -> dict[str, Any]:
    """A stored message as people read it: with its reasoning, without what only its provider can read."""
    if message.get("role") != "assistant":
        return dict(message)
    told = {name: value for name, value in message.items() if name in _OF_MESSAGE and name != MADE_BY}
    if isinstance(calls := told.get("tool_calls"), list):
        told["tool_calls"] = [_shown_call(call) if isinstance(call, dict) else call for call in calls]
    maker = message.get(MADE_BY)
    texts = [message.get(name) for name in _REASONING_TEXTS]
    texts += [maker.get("reasoning")] if isinstance(maker, dict) else []
    reasoning = next((text for text in texts if isinstance(text, str) and text), None)
    return told if reasoning is None else told | {REASONING: reasoning}


def bounded(reply: ModelReply) -> tuple[ModelReply, list[str]]:
    """The answer with what is attached to it within :data:`MAX_ATTACHED_BYTES`, and the names of what was dropped.

    The largest field goes first, so that a signature outlasts a long train of thought.
    """
    if not reply.attached and not reply.reasoning and not any(call.attached for call in reply.tool_calls):
        return reply, []
    sizes: dict[tuple[int, str], int] = {}  # by number of the call (-1: the message) and name of the field
    for at, fields in enumerate((reply.attached, *(call.attached for call in reply.tool_calls)), -1):
        sizes |= {(at, name): len(orjson.dumps(value)) for name, value in fields.items()}
    if reply.reasoning and not any(name in reply.attached for name in _REASONING_TEXTS):
        sizes[-1, REASONING] = len(reply.reasoning.encode())
    dropped: set[tuple[int, str]] = set()
    total = sum(sizes.values())
    for place in sorted(sizes, key=lambda place: sizes[place], reverse=True):
        if total <= MAX_ATTACHED_BYTES:
            break
        dropped.add(place)
        total -= sizes[place]
    if not dropped:
        return reply, []
    calls = tuple(replace(call, attached=_kept(call.attached, at, dropped)) for at, call in enumerate(reply.tool_calls))
    kept = replace(
        reply,
        tool_calls=calls,
        attached=_kept(reply.attached, -1, dropped),
        reasoning="" if any(name in _REASONING_TEXTS for at, name in dropped if at == -1) else reply.reasoning,
    )
    return kept, sorted({name for _, name in dropped})


def _of_function(attached: Mapping[str, Any]) -> dict[str, Any]:
    """What is attached to the function inside a call stands under that name in what is attached to the call."""
    function = attached.get("function")
    return attached_to_function(function) if isinstance(function, dict) else {}


def _shown_call(call: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in call.items() if name in _OF_CALL}
    if isinstance(function := told.get("function"), dict):
        told["function"] = {name: value for name, value in function.items() if name in _OF_FUNCTION}
    return told


def _without(fields: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in known}


def _kept(fields: Mapping[str, Any], at: int, dropped: set[tuple[int, str]]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if (at, name) not in dropped}
