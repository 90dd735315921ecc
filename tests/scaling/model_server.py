"""A model server that costs as little as it can: OpenAI-compatible chat completions, whole or streamed, at once.

    python -m scaling.model_server --port PORT

A directive in the last user message changes the answer; several may stand together:

``[[slow:200]]``       wait 200 ms before the first byte
``[[http:400]]``       answer with that HTTP status and an error object
``[[http:400:ok]]``    the same, but only where the model ``ok`` is asked for
``[[tokens:20]]``      20 tokens instead of one
``[[tokens:20:5]]``    20 tokens, 5 ms between them (streamed answers)
``[[tool:echo:{}]]``   call the tool whose name ends so, with these arguments; once its result is in, answer as without
                       the directive (streamed answers)

It speaks HTTP/1.1 over keep-alive connections, one request at a time on each, with ``Content-Length`` bodies.
``GET /stats`` tells how many completions were asked for, by model.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import re
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any, ClassVar, cast

import orjson
import uvloop

FIRST_TOKEN = "token0"  # what every answer begins with; a client that waits for the first token looks for it
PROMPT_TOKENS = 8  # as told in `usage`; nothing is counted

_DIRECTIVE = re.compile(r"\[\[(slow|http|tokens|tool):(\w+)(?::(.*?))?\]\]")
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_ID = b"chatcmpl-0000000000"  # a place of fixed width in the ready-made answers
_CREATED = int(time.time())


Calls = tuple[tuple[str, str], ...]  # of tools: name, arguments as JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How a request is answered."""

    delay_s: float = 0.0  # before the first byte
    status: int = 200
    refused: str = ""  # the only model that gets this status; none: all do
    tokens: int = 1
    gap_s: float = 0.0  # between streamed tokens
    calls: Calls = ()  # with the ends of the tools' names


INSTANT = Behaviour()


def behaviour_of(messages: Sequence[dict[str, Any]]) -> Behaviour:
    """What the last user message asks for."""
    content: Any = next((m.get("content") for m in reversed(messages) if m.get("role") == "user"), "")
    if isinstance(content, list):
        content = " ".join(part.get("text", "") for part in content)
    if "[[" not in content:
        return INSTANT
    wanted: dict[str, Any] = {}
    for name, value, extra in _DIRECTIVE.findall(content):
        match name:
            case "slow":
                wanted["delay_s"] = int(value) / 1000
            case "http":
                wanted |= {"status": int(value), "refused": extra}
            case "tokens":
                wanted |= {"tokens": int(value), "gap_s": int(extra or 0) / 1000}
            case "tool" if messages[-1].get("role") != "tool":
                wanted["calls"] = (*wanted.get("calls", ()), (value, extra))
    return Behaviour(**wanted)


def words(tokens: int) -> list[str]:
    """The answer, token by token."""
    return [f"{' ' if i else ''}token{i}" for i in range(tokens)]


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens, "total_tokens": PROMPT_TOKENS + tokens}


def _response(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@lru_cache(maxsize=64)
def whole(model: str, tokens: int) -> bytes:
    """The response of a request that does not stream."""
    message = {"role": "assistant", "content": "".join(words(tokens)), "refusal": None}
    answer = {
        "id": _ID.decode(),
        "object": "chat.completion",
        "created": _CREATED,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": _usage(tokens),
    }
    return _response(200, orjson.dumps(answer))


@lru_cache(maxsize=64)
def streamed(model: str, tokens: int, include_usage: bool, calls: Calls = ()) -> tuple[bytes, ...]:
    """The response of a request that streams: the head with the role, the tokens or tool calls one by one, the rest."""

    def chunk(choices: list[dict[str, Any]], **more: Any) -> bytes:
        kind = {"id": _ID.decode(), "object": "chat.completion.chunk", "created": _CREATED, "model": model}
        return _http_chunk(orjson.dumps(kind | {"choices": choices} | more))

    def choice(delta: dict[str, Any], finish_reason: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "finish_reason": finish_reason}]

    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    deltas = [_call(*call, index) for index, call in enumerate(calls)] or [{"content": word} for word in words(tokens)]
    last = chunk(choice({}, "tool_calls" if calls else "stop"))
    if include_usage:
        last += chunk([], usage=_usage(tokens))
    return (
        head + chunk(choice({"role": "assistant", "content": ""})),
        *(chunk(choice(delta)) for delta in deltas),
        last + _http_chunk(b"[DONE]") + b"0\r\n\r\n",
    )


def _call(name: str, arguments: str, index: int) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": index, "id": f"{_ID.decode()}-{index}", "type": "function", "function": function}]}


def named_in(request: dict[str, Any], calls: Calls) -> Calls:
    """The calls by the whole names of the tools that a request offers."""
    offered = [tool["function"]["name"] for tool in request.get("tools") or ()]
    return tuple((next((full for full in offered if full.endswith(name)), name), given) for name, given in calls)


def _http_chunk(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def error(status: int, model: str) -> bytes:
    """The response of a request that fails."""
    body = {
        "message": f"The model `{model}` does not exist" if status in {400, 404} else f"status {status} was asked for",
        "type": "invalid_request_error" if status < 500 else "server_error",
        "param": None,
        "code": "model_not_found" if status in {400, 404} else None,
    }
    return _response(status, orjson.dumps({"error": body}))


class ModelServer(asyncio.Protocol):
    """One connection."""

    _serial = itertools.count(1)
    _asked: ClassVar[Counter[str]] = Counter()  # by model

    def __init__(self) -> None:
        self._received = bytearray()
        self._loop = asyncio.get_running_loop()
        self._later: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        if self._later is not None:
            self._later.cancel()

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        head_end = received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        length = _LENGTH.search(received, 0, head_end)
        end = head_end + 4 + (int(length[1]) if length else 0)
        if len(received) < end:
            return
        request_line = bytes(received[: received.find(b"\r\n")])
        body = bytes(received[head_end + 4 : end])
        del received[:end]
        self._answer(request_line, body)

    def _answer(self, request_line: bytes, body: bytes) -> None:
        if request_line.startswith(b"POST /v1/chat/completions "):
            self._complete(orjson.loads(body))
        elif request_line.startswith(b"GET /stats "):
            self._transport.write(_response(200, orjson.dumps(self._asked)))
        elif request_line.startswith(b"GET /v1/models "):
            self._transport.write(_response(200, orjson.dumps({"object": "list", "data": []})))
        else:
            self._transport.write(error(404, "-"))

    def _complete(self, request: dict[str, Any]) -> None:
        behaviour = behaviour_of(request["messages"])
        model = request["model"]
        self._asked[model] += 1
        serial = b"chatcmpl-%010d" % next(self._serial)
        if behaviour.status != 200 and behaviour.refused in {"", model}:
            parts: tuple[bytes, ...] = (error(behaviour.status, model),)
        elif request.get("stream"):
            include_usage = bool((request.get("stream_options") or {}).get("include_usage"))
            parts = streamed(model, behaviour.tokens, include_usage, named_in(request, behaviour.calls))
        else:
            parts = (whole(model, behaviour.tokens),)
        if not behaviour.gap_s:
            parts = (b"".join(parts),)
        self._write(tuple(part.replace(_ID, serial) for part in parts), behaviour.delay_s, behaviour.gap_s)

    def _write(self, parts: tuple[bytes, ...], wait_s: float, gap_s: float) -> None:
        if wait_s:
            self._later = self._loop.call_later(wait_s, self._write, parts, 0.0, gap_s)
            return
        self._transport.write(parts[0])
        if len(parts) > 1:
            self._later = self._loop.call_later(gap_s, self._write, parts[1:], 0.0, gap_s)


async def serve(port: int) -> None:
    """Serve on the loopback until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(ModelServer, "127.0.0.1", port, backlog=1024)
    await stop.wait()
    server.close()


def main() -> None:
    """Serve from the command line."""
    arguments = argparse.ArgumentParser(description="A fast OpenAI-compatible model server.")
    arguments.add_argument("--port", type=int, required=True)
    uvloop.run(serve(arguments.parse_args().port))


if __name__ == "__main__":
    main()
