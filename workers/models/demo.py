"""The embedded demo model (``provider: demo``): deterministic, without network and key.

It answers the last user message with ``You said: <text>``, word by word; pictures are mentioned: ``(and 1 image)``.
These words, anywhere in the message, make it do something else, so that the whole gateway can be tried and tested:

``call <tool> {json arguments}``
    calls a tool, and then tells what the tool said. The tool may be named by the tail of its name if only one ends so:
    ``call get_current_time {"timezone": "UTC"}``. Alone on its line, ``call <tool>`` has no arguments. Broken JSON is
    passed on as it is, up to the end of the line. Several of them are parallel calls. It may be a tool of the agent or
    one that the client brought.
``say <n> words``
    answers with n words (at most 100,000).
``sleep <seconds>``
    waits before it answers (at most 600 seconds).
``fail <status>``, ``fail <status> on <model>``
    fails as a provider would with that HTTP status (400 to 599): whichever demo model is asked, or only the one that
    answers under exactly that name. So in a chain of demo models, ``fail 503 on one and fail 404 on two`` is answered
    by the third.

A tool that is not on offer is answered with the names of those that are. Usage counts words.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from workers.models.messages import upstream_messages
from workers.models.provider import ModelFailure, ModelReply, ModelRequest, ToolCall
from workers.models.signs import of_status
from workers.models.target import ModelTarget

MAX_WORDS = 100_000
MAX_SLEEP_S = 600.0
MAX_RESULT_CHARS = 2000  # told of one tool's result

_SAY = re.compile(r"\bsay (\d{1,9}) words?\b", re.IGNORECASE)
_SLEEP = re.compile(r"\bsleep (\d{1,9}(?:\.\d+)?)\b", re.IGNORECASE)
_FAIL = re.compile(r"\bfail ([45]\d\d)\b(?: on ([\w.:/@+\-]*\w))?", re.IGNORECASE)
_CALL = re.compile(r"\bcall ([\w.\-]+) *(?=\{)|^[ \t]*call ([\w.\-]+)[ \t]*$", re.IGNORECASE | re.MULTILINE)
_JSON = json.JSONDecoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class _DemoToolCall:
    """A tool call as the message asks for it."""

    tool: str
    arguments: str


class DemoModel:
    """A :class:`workers.models.provider.ModelProvider` that needs nothing; the module says what it understands.

    Args:
        model: the name it answers under.
        context_length: its window in tokens, where the configuration states one; it takes more.
        sleep: waits for ``sleep <seconds>``.
    """

    def __init__(
        self,
        *,
        model: str = "demo",
        context_length: int | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._model = model
        self._context_length = context_length
        self._sleep = sleep

    @property
    def name(self) -> str:
        return "demo"

    @property
    def model(self) -> str:
        return self._model

    @property
    def context_length(self) -> int | None:
        return self._context_length

    async def window(self, model: str) -> int | None:  # noqa: ARG002 - it is one model under any name
        return None

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply | ModelFailure:
        model = request.model or self._model
        target = ModelTarget(provider=self.name, model=model)
        messages = [orjson.loads(body) for body in upstream_messages(request, target)]
        if told := results_in(messages):
            return await self._answer(told, (), messages, model, on_text)
        text, images = last_user_message(messages)
        if seconds := _SLEEP.search(text):
            await self._sleep(min(float(seconds[1]), MAX_SLEEP_S))
        for status, failing in _FAIL.findall(text):
            if failing in ("", model):
                return _failure(int(status), model)
        if asked := list(asked_calls(text)):
            offered = tools_of(request.tools.joined)
            answer, calls = resolve(asked, offered, call_prefix=f"call_demo_{len(messages)}")
            return await self._answer(answer, calls, messages, model, on_text)
        if count := _SAY.search(text):
            answer = " ".join(f"word{n}" for n in range(1, min(int(count[1]), MAX_WORDS) + 1))
        else:
            answer = f"You said: {text}" + _mention(images)
        return await self._answer(answer, (), messages, model, on_text)

    async def close(self) -> None:
        """Nothing is open."""

    async def _answer(
        self,
        text: str,
        calls: tuple[ToolCall, ...],
        messages: Sequence[dict[str, Any]],
        model: str,
        on_text: Callable[[str], None],
    ) -> ModelReply:
        for piece in re.findall(r"\s*\S+|\s+$", text):
            on_text(piece)
            await asyncio.sleep(0)  # others of this worker have their turn between words
        asked = sum(len(_text_and_images(message)[0].split()) for message in messages)
        answered = len(text.split()) + sum(1 + len(call.arguments.split()) for call in calls)
        return ModelReply(
            text=text,
            tool_calls=calls,
            finish_reason="tool_calls" if calls else "stop",
            usage={"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered},
            model=model,
            provider=self.name,
            asked=model,
        )


def last_user_message(messages: Sequence[dict[str, Any]]) -> tuple[str, int]:
    """The text of the last user message, and how many images it has."""
    for message in reversed(messages):
        if message.get("role") == "user":
            return _text_and_images(message)
    return "", 0


def results_in(messages: Sequence[dict[str, Any]]) -> str:
    """What to say about the tool results that the conversation ends with; empty where it does not end so."""
    end = len(messages)
    pictures = 0
    if end > 1 and messages[-1].get("role") == "user" and messages[-2].get("role") == "tool":
        text, pictures = _text_and_images(messages[-1])
        if not text.startswith("[pictures returned by "):  # as workers.runtimes.chat.machine sends what tools show
            return ""
        end -= 1
    start = end
    while start > 0 and messages[start - 1].get("role") == "tool":
        start -= 1
    results = messages[start:end]
    if not results:
        return ""
    calls = (messages[start - 1].get("tool_calls") or ()) if start else ()
    names = {call["id"]: call["function"]["name"] for call in calls}
    said = (
        f"The tool {names.get(result.get('tool_call_id'), 'unknown')} said: "
        + _text_and_images(result)[0][:MAX_RESULT_CHARS]
        for result in results
    )
    return "\n".join(said) + _mention(pictures)


def asked_calls(text: str) -> Iterator[_DemoToolCall]:
    """The tool calls that a message asks for, in order."""
    at = 0
    while found := _CALL.search(text, at):
        start = at = found.end()
        if found[1]:
            try:
                _, at = _JSON.raw_decode(text, start)
            except json.JSONDecodeError:
                line_end = text.find("\n", start)
                at = line_end if line_end >= 0 else len(text)
        yield _DemoToolCall(tool=found[1] or found[2], arguments=text[start:at] or "{}")


def resolve(
    asked: Sequence[_DemoToolCall], offered: Sequence[str], *, call_prefix: str
) -> tuple[str, tuple[ToolCall, ...]]:
    """The calls, or a text that says which tool does not exist or is ambiguous."""
    calls = []
    for number, call in enumerate(asked, 1):
        names = _named(call.tool, offered)
        if len(names) != 1:
            why = f"{call.tool} may be any of: {', '.join(names)}." if names else f"There is no tool {call.tool}."
            return f"{why} Tools on offer: {', '.join(offered) or 'none'}.", ()
        calls.append(ToolCall(call_id=f"{call_prefix}_{number}", name=names[0], arguments=call.arguments))
    return "", tuple(calls)


def tools_of(tools: bytes) -> list[str]:
    """The names of the tools on offer."""
    return [tool["function"]["name"] for tool in orjson.loads(tools)] if tools else []


def _named(tool: str, offered: Sequence[str]) -> list[str]:
    """The tools that a name may mean: itself, else those whose last part it is, else those that end so."""
    if tool in offered:
        return [tool]
    whole_part = [name for name in offered if name.endswith(f"__{tool}")]
    return whole_part or [name for name in offered if name.endswith(tool)]


def _text_and_images(message: dict[str, Any]) -> tuple[str, int]:
    content = message.get("content")
    if not isinstance(content, list):
        return content or "", 0
    texts = [part["text"] for part in content if part.get("type") == "text"]
    return " ".join(texts), sum(part.get("type") == "image_url" for part in content)


def _mention(images: int) -> str:
    return f" (and {images} image{'s' if images > 1 else ''})" if images else ""


def _failure(status: int, model: str) -> ModelFailure:
    return ModelFailure(
        cause=of_status(status),
        kind="status",
        provider="demo",
        model=model,
        status=status,
        text=f"it was asked to fail with {status}",
        code=None,
        retry_after_s=None,
        attempts=1,
    )
