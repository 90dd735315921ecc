"""A turn in the shapes of the chat-completions API: one JSON object, or the chunks of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson

from workers.ingress.http.errors import ApiError
from workers.ingress.http.shapes import TEXT, record, schema_of
from workers.turns import Ended, GatewayDraining, ToolProgress

MODEL = "hermes-actors"  # the model of the API; X-Hermes-Model names the model that answered
BARE_MODEL = "hermes-actors-bare"  # the model alone, without the agent around it
KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"

_PASSED_REASONS = frozenset({"stop", "length", "content_filter"})
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def completion_id(turn_id: str) -> str:
    """The id of a turn's answer: the same for each time it is given."""
    return f"chatcmpl-{turn_id}"


def completion(turn_id: str, created: int, ended: Ended, model: str = MODEL) -> bytes:
    """A whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": ended.text, "refusal": None}
    if ended.tool_calls:
        message |= {"content": ended.text or None, "tool_calls": ended.tool_calls}
    if ended.reasoning:
        message["reasoning_content"] = ended.reasoning
    return orjson.dumps(
        {
            "id": completion_id(turn_id),
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(ended)}],
            "usage": usage(ended.usage),
        }
    )


def finish_reason(ended: Ended) -> str:
    """The provider's reason where the API knows it, and ``tool_calls`` where the client is to call some."""
    if ended.tool_calls:
        return "tool_calls"
    return ended.finish_reason if ended.finish_reason in _PASSED_REASONS else "stop"


def usage(counted: Mapping[str, int]) -> dict[str, int]:
    """Tokens in the fields of the API; zero where the provider named none."""
    return {name: counted.get(name, 0) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}


_MESSAGE = record(["role", "content"], role=TEXT, content={"type": ["string", "null"]}, tool_calls={"type": "array"})
_USAGE = schema_of(usage({}))
COMPLETION = record(
    ["id", "object", "created", "model", "choices", "usage"],
    id=TEXT,
    object={"const": "chat.completion"},
    created={"type": "integer"},
    model={"enum": [MODEL, BARE_MODEL]},
    choices={"type": "array", "items": record(["message", "finish_reason"], message=_MESSAGE, finish_reason=TEXT)},
    usage=_USAGE,
)


class Chunks:
    """The events of one stream.

    Args:
        include_usage: the client asked for a last chunk with the usage; then all others say ``"usage": null``.
    """

    __slots__ = ("_close", "_include_usage", "_open_reasoning", "_open_text", "_shared")

    def __init__(self, turn_id: str, created: int, model: str = MODEL, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._shared: dict[str, Any] = {
            "id": completion_id(turn_id),
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
        }
        # All chunks of text are the same but for the text.
        self._open_text, self._close = self._delta({"content": ""}).split(b'""', 1)
        self._open_reasoning, _ = self._delta({"reasoning_content": ""}).split(b'""', 1)

    def role(self) -> bytes:
        """The first chunk."""
        return self._delta({"role": "assistant", "content": "", "refusal": None})

    def text(self, piece: str) -> bytes:
        """A piece of the answer."""
        return self._open_text + orjson.dumps(piece) + self._close

    def reasoning(self, piece: str) -> bytes:
        """A piece of what the model thinks aloud."""
        return self._open_reasoning + orjson.dumps(piece) + self._close

    def tool(self, progress: ToolProgress) -> bytes:
        """A tool began or ended: a named event, which to a client that heeds no names is a chunk that says nothing."""
        fields = {"tool": progress.tool, "toolCallId": progress.call_id, "status": progress.status}
        return b"event: hermes.tool.progress\n" + self._delta({}, more=fields)

    def draining(self, event: GatewayDraining) -> bytes:
        """The gateway drains: a named event likewise."""
        fields = {"reason": event.reason, "deadline": event.deadline, "message": event.text}
        return b"event: hermes.gateway.draining\n" + self._delta({}, more=fields)

    def end(self, ended: Ended) -> bytes:
        """The calls that the client is to make, why the text ends, the usage if asked for, and the end."""
        last = self._delta({}, reason=finish_reason(ended))
        if ended.tool_calls:  # whole, in one chunk
            calls = [{"index": index, **call} for index, call in enumerate(ended.tool_calls)]
            last = self._delta({"tool_calls": calls}) + last
        if self._include_usage:
            last += _event({**self._shared, "choices": [], "usage": usage(ended.usage)})
        return last + DONE

    def _delta(self, delta: dict[str, Any], reason: str | None = None, more: Mapping[str, Any] = _NOTHING) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        chunk = {**self._shared, "choices": [choice], **more}
        return _event(chunk | {"usage": None} if self._include_usage else chunk)


def error_event(error: ApiError) -> bytes:
    """The last event of a stream without an answer; client libraries raise it."""
    return b"data: " + error.body() + b"\n\n"


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"
