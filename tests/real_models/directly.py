"""What a model server does when it is asked directly: the first table of docs/reference/model-servers.md."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
from real_models.odd_schemas_server import FORMS
from real_models.servers import ModelServer

ANSWER_S = 120.0
PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TOOL = "mcp__time__get_current_time"
ZONE = {"type": "object", "properties": {"timezone": {"type": "string"}}, "required": ["timezone"]}
CALLABLE = [{"type": "function", "function": {"name": TOOL, "description": "The time.", "parameters": ZONE}}]


class Asked:
    """A server that is asked."""

    def __init__(self, server: ModelServer, http: aiohttp.ClientSession) -> None:
        self.server = server
        self._http = http

    async def post(self, text: Any = "hello", *, key: str | None = None, **fields: Any) -> tuple[int, str]:
        """A completion: status, and the body as text."""
        messages = text if isinstance(text, list) and "role" in text[0] else [{"role": "user", "content": text}]
        body = {"model": self.server.model, "messages": messages, **fields}
        headers = {"Authorization": f"Bearer {key or self.server.key}"}
        url = f"{self.server.base_url}/chat/completions"
        async with self._http.post(url, json=body, headers=headers) as answer:
            return answer.status, await answer.text()

    async def models(self) -> dict[str, Any]:
        """What the server says of its first model."""
        headers = {"Authorization": f"Bearer {self.server.key}"}
        async with self._http.get(f"{self.server.base_url}/models", headers=headers) as answer:
            return dict((await answer.json())["data"][0])


Row = Callable[[Asked], Awaitable[str]]


def told(status: int, text: str) -> str:
    """A refusal by its status, and by its type or code where it has one."""
    try:
        error = json.loads(text)
    except ValueError:
        return str(status) if status == 200 else f"{status}, no JSON"
    error = error.get("error", error.get("detail")) if isinstance(error, dict) else None
    if status == 200 or not isinstance(error, Mapping):
        return str(status)
    return f"{status} `{error.get('type') or error.get('code')}`"


def events(text: str) -> list[dict[str, Any]]:
    """The chunks of a stream."""
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def choice(text: str) -> dict[str, Any]:
    return dict(json.loads(text)["choices"][0])


def as_called(status: int, text: str) -> str:
    """How a tool call came, of an answer that is no stream."""
    if status != 200:
        return told(status, text)
    said = choice(text)
    calls = said["message"].get("tool_calls") or ()
    end = f"`{said['finish_reason']}`"
    if not calls:
        return f"as text, {end}"
    try:
        json.loads(calls[0]["function"]["arguments"])
    except ValueError:
        return f"half a call, {end}"
    return f"parsed, {end}"


async def unknown_model(asked: Asked) -> str:
    return told(*await asked.post(model="nonsense"))


async def wrong_key(asked: Asked) -> str:
    if asked.server.key is None:
        return "asks for none"
    return told(*await asked.post(key="sk-another-0123456789"))


async def window(asked: Asked) -> str:
    model = await asked.models()
    said = {"max_model_len": model.get("max_model_len"), "meta.n_ctx": (model.get("meta") or {}).get("n_ctx")}
    return ", ".join(f"`{name}`" for name, tokens in said.items() if tokens) or "not said"


async def too_long(asked: Asked) -> str:
    return told(*await asked.post("x" * (asked.server.window + 1_000)))


async def too_much_to_say(asked: Asked) -> str:
    return told(*await asked.post(max_tokens=asked.server.window))


async def odd_schemas(asked: Asked) -> str:
    refused = []
    for form, schema in FORMS.items():
        tools = [{"type": "function", "function": {"name": form, "description": "Odd.", "parameters": schema}}]
        status, _ = await asked.post(tools=tools)
        refused += [form] if status != 200 else []
    return f"{len(refused)} of {len(FORMS)} refused" if refused else "all taken"


async def tool_call(asked: Asked) -> str:
    return as_called(*await asked.post("what time is it?", tools=CALLABLE))


async def half_a_call(asked: Asked) -> str:
    return as_called(*await asked.post("what time is it?", tools=CALLABLE, max_tokens=5))


async def broken_past(asked: Asked) -> str:
    call = {"id": "call_1", "type": "function", "function": {"name": TOOL, "arguments": '{"timez'}}
    past = [
        {"role": "user", "content": "what time is it?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "not called"},
    ]
    return told(*await asked.post(past, tools=CALLABLE))


async def picture(asked: Asked) -> str:
    parts = [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    status, text = await asked.post(parts)
    return "dropped in silence" if status == 200 else told(status, text)


async def usage(asked: Asked) -> str:
    _, asked_for = await asked.post(stream=True, stream_options={"include_usage": True})
    _, unasked = await asked.post(stream=True)
    if any(event.get("usage") for event in events(unasked)):
        return "always"
    last = events(asked_for)[-1]
    if not last.get("usage"):
        return "never"
    return "if asked; a chunk of its own" if not last["choices"] else "if asked; with a choice"


async def end_of_stream(asked: Asked) -> str:
    _, text = await asked.post(stream=True)
    return "`[DONE]`" if text.rstrip().endswith("data: [DONE]") else "no `[DONE]`"


async def reasoning(asked: Asked) -> str:
    status, text = await asked.post("ponder")
    if status != 200:
        return told(status, text)
    message = choice(text)["message"]
    field = next((name for name in ("reasoning_content", "reasoning") if message.get(name)), None)
    return f"`{field}`" if field else "in the text"


DIRECTLY: dict[str, Row] = {
    "a model id that it does not have": unknown_model,
    "a wrong key": wrong_key,
    "the window in `/v1/models`": window,
    "a prompt longer than the window": too_long,
    "`max_tokens` as large as the window": too_much_to_say,
    "tool schemas of fifteen odd forms": odd_schemas,
    "a tool call": tool_call,
    "a tool call cut by `max_tokens`": half_a_call,
    "a past call whose arguments are no JSON": broken_past,
    "a picture, to a model of text": picture,
    "`usage` in a stream": usage,
    "the end of a stream": end_of_stream,
    "reasoning between `<think>` and `</think>`": reasoning,
}


async def ask(server: ModelServer) -> dict[str, str]:
    """All rows of one server."""
    connector = aiohttp.TCPConnector(force_close=True)  # some close it without a word after a stream
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S), connector=connector) as http:
        asked = Asked(server, http)
        return {title: await row(asked) for title, row in DIRECTLY.items()}
