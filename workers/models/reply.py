"""From the chunks of a chat completion to the whole reply, purely, whichever dialect the provider speaks.

What providers do beside the OpenAI API, and this takes: tool calls without ``index`` or without ``id``, several calls
under one index, a whole call in one chunk, arguments as an object, content as a list of parts, no ``delta``, usage
in any chunk. A body that is not streamed is one chunk whose choice has a ``message`` instead of a ``delta``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

import orjson

from workers.models.provider import ModelReply, ToolCall

MAX_REPLY_CHARS = 8 * 1024 * 1024  # of text, and of the ids, names and arguments of tool calls, together
MAX_CALLS = 128  # of tools in one answer
MAX_TOKENS = 10**12  # told of one answer; more is a mistake, and their sums fit into 64 bits
MAX_NAME_CHARS = 256  # of a tool's name, and of a call's id

_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")


class Malformed(Exception):
    """The provider's answer is no chat completion; the text says why, without its content."""


class ErrorObject(Exception):
    """The provider reports an error where a chunk should be."""

    def __init__(self, chunk: dict[str, Any]) -> None:
        super().__init__("the stream carries an error")
        self.chunk = chunk


@dataclass(slots=True)
class _Call:
    call_id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class ReplyBuilder:
    """Feed it the chunks in order, then take the reply."""

    __slots__ = (
        "_at_index",
        "_calls",
        "_chars",
        "_finish_reason",
        "_model",
        "_text",
        "_usage",
        "_with_id",
        "answered",
        "complete",
        "pieces",
    )

    def __init__(self) -> None:
        self._text: list[str] = []
        self._calls: list[_Call] = []
        self._at_index: dict[int, _Call] = {}
        self._with_id: dict[str, _Call] = {}  # the first with each id
        self._finish_reason = ""
        self._usage: dict[str, int] = {}
        self._model = ""
        self._chars = 0
        self.answered = False  # a choice has come: this is a chat completion
        self.complete = False  # a finish_reason has come, or whoever reads the stream saw its end mark
        self.pieces = 0  # of the answer so far: a chunk that brings none only keeps the connection alive

    def feed(self, chunk: Any) -> str:
        """Take a chunk; the piece of text in it.

        Raises:
            ErrorObject: the chunk is an error.
            Malformed: it is no chunk, or the reply grows too large.
        """
        if not isinstance(chunk, dict):
            raise Malformed("a chunk is no JSON object")
        if chunk.get("error"):
            raise ErrorObject(chunk)
        if (model := chunk.get("model")) and isinstance(model, str):
            self._model = model
        if usage := chunk.get("usage"):
            self._take_usage(usage)
        choices = chunk.get("choices")
        if not choices:
            return ""
        try:
            choice = choices[0]
            return self._take_choice(choice) if choice.get("index", 0) in (0, None) else ""
        except (AttributeError, KeyError, TypeError) as error:
            raise Malformed(f"a chunk does not look like a chat completion's ({type(error).__name__})") from error

    def reply(self, asked_model: str, *, provider: str = "") -> ModelReply:
        """The whole reply.

        Args:
            asked_model: for an answer that names no model.
            provider: whose answer it is.

        Raises:
            Malformed: no choice came, or a tool call has no name.
        """
        if not self.answered:
            raise Malformed("the answer holds no choice")
        taken: set[str] = set()
        calls = []
        for call in self._calls:
            if not call.name:
                raise Malformed("a tool call has no name")
            if not call.call_id or call.call_id in taken:
                call.call_id = f"call_{token_hex(12)}"
            taken.add(call.call_id)
            arguments = "".join(call.arguments) or "{}"
            calls.append(ToolCall(call_id=call.call_id, name=call.name, arguments=arguments))
        return ModelReply(
            text="".join(self._text),
            tool_calls=tuple(calls),
            finish_reason=self._finish_reason or ("tool_calls" if calls else "stop"),
            usage=self._usage,
            model=self._model or asked_model,
            provider=provider,
            asked=asked_model,
        )

    def _take_choice(self, choice: dict[str, Any]) -> str:
        self.answered = True
        if reason := choice.get("finish_reason"):
            self.pieces += not self.complete
            self._finish_reason = str(reason)
            self.complete = True
        delta = choice.get("delta") or choice.get("message")
        if not delta:
            return ""
        # Reasoning comes under names that differ by provider; the role alone stands in chunks that say nothing.
        self.pieces += any(value for name, value in delta.items() if name != "role")
        text = delta.get("content") or delta.get("refusal") or ""
        if text:
            if not isinstance(text, str):
                text = "".join(part["text"] for part in text if part.get("type") == "text")
            self._text.append(text)
            self._grow(len(text))
        for piece in delta.get("tool_calls") or ():
            self._take_call(piece)
        return text

    def _take_call(self, piece: dict[str, Any]) -> None:
        function = piece.get("function") or {}
        call_id, name = str(piece.get("id") or ""), str(function.get("name") or "")
        call = self._call_of(piece.get("index"), call_id, name)
        if call_id and not call.call_id:
            call.call_id = self._named(call_id)
            self._with_id.setdefault(call_id, call)
        if name and not call.name:
            call.name = self._named(name)
        if arguments := function.get("arguments"):
            text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
            call.arguments.append(text)
            self._grow(len(text))

    def _call_of(self, index: int | None, call_id: str, name: str) -> _Call:
        """The call that a piece belongs to: by index, else by id, else the last one; a new one where none fits."""
        if index is not None:
            found = self._at_index.get(index)
        elif call_id:
            found = self._with_id.get(call_id)
        else:
            found = self._calls[-1] if self._calls and not name else None
        another = found is not None and name and call_id and found.call_id and found.call_id != call_id
        if found is None or another:
            if len(self._calls) == MAX_CALLS:
                raise Malformed(f"the answer calls more than {MAX_CALLS} tools")
            found = _Call()
            self._calls.append(found)
            if index is not None:
                self._at_index[index] = found
        return found

    def _take_usage(self, usage: Any) -> None:
        if isinstance(usage, dict):
            told = {name: usage[name] for name in _USAGE if _is_count(usage.get(name))}
            if told and "total_tokens" not in told:
                told["total_tokens"] = sum(told.values())
            if told and told != self._usage:
                self.pieces += 1
                self._usage = told

    def _named(self, name: str) -> str:
        if len(name) > MAX_NAME_CHARS:
            raise Malformed(f"a tool call has an id or a name of more than {MAX_NAME_CHARS} characters")
        self._grow(len(name))
        return name

    def _grow(self, chars: int) -> None:
        self._chars += chars
        if self._chars > MAX_REPLY_CHARS:
            raise Malformed(f"the reply is longer than {MAX_REPLY_CHARS} characters")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_TOKENS  # a bool is an int too
