"""A model server whose answers the test chooses: OpenAI-compatible, in the test's process or one of its own.

::

    async with ModelServer() as server:                  # server.base_url, server.requests, server.count
        server.script(say("hello"), refuse(429, headers={"Retry-After": "1"}), say("cut here", end="cut"))

    python tests/fakes/model_server.py --port 18080      # GET /stats tells counts, POST /reset forgets them

A request takes the next scripted answer. Without one, directives in its last user message choose, as text in a chat:

    [[ok]] [[say:text]] [[tokens:n]]   answers
    [[slow:ms]]                        waits first; goes with the others
    [[tool:name:{"json": 1}]]          calls a tool, named by the tail of its name; several are parallel; once the
                                       results are in, answers "tools said: ..."; [[rounds:n]]: calls them n times
    [[http:status]]                    an error status
    [[flaky:n]]                        503 for each n-th request with it, beginning with the first
    [[hang]] [[stall]]                 nothing at all; nothing after the first words
    [[cut]] [[drop]]                   the connection breaks in the middle; before the answer
    [[malformed]]                      a chunk that is no JSON
    [[error]]                          an error object in the stream

Without a directive it answers "pong".
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from aiohttp import web

WAIT_S = 10.0  # the one bound of every wait of a test for the server
KEPT_REQUESTS = 1000

_DIRECTIVE = re.compile(r"\[\[([a-z]+)(?::(.*?))?\]\]", re.DOTALL)

End = Literal["whole", "cut", "hang", "beat"]
BEAT_S = 0.01


@dataclass(frozen=True)
class Answer:
    """What the server does with one request."""

    pieces: tuple[bytes, ...] = ()  # of the body, each written by itself
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "text/event-stream"})
    end: End = "whole"  # after the pieces; "beat": the last one again and again, until the client goes away
    delay_s: float = 0.0  # before the status line
    gate: asyncio.Event | None = None  # before the last piece


@dataclass(frozen=True)
class Received:
    """A request as the server got it."""

    headers: Mapping[str, str]
    raw: bytes
    body: Any


# -- answers ------------------------------------------------------------------------------------------------------


def chunk(delta: Mapping[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of a streamed chat completion."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "fake-1",
        "choices": choices,
        **more,
    }


def sse(*chunks: Any, done: bool = True) -> tuple[bytes, ...]:
    """Chunks as server-sent events; a str or bytes stands for itself."""
    pieces = [
        item if isinstance(item, bytes) else f"data: {item if isinstance(item, str) else json.dumps(item)}\n\n".encode()
        for item in chunks
    ]
    return (*pieces, b"data: [DONE]\n\n") if done else tuple(pieces)


def usage(prompt: int, completion: int) -> dict[str, Any]:
    """The chunk that tells the usage."""
    told = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return chunk(usage=told)


def stream(*chunks: Any, done: bool = True, **how: Any) -> Answer:
    """These chunks, as they are."""
    return Answer(pieces=sse(*chunks, done=done), **how)


def say(text: str, *, prompt_tokens: int = 1, **how: Any) -> Answer:
    """A text, word by word."""
    words = re.findall(r"\s*\S+|\s+$", text)
    chunks = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": word}) for word in words)]
    if how.get("end", "whole") != "whole":
        return stream(*chunks, done=False, **how)
    pieces = sse(*chunks, chunk({}, "stop"), usage(prompt_tokens, len(words)))
    if how.get("gate") is not None:  # all of the end is behind it: what comes after its first chunk is not waited for
        pieces = (*pieces[:-3], b"".join(pieces[-3:]))
    return Answer(pieces=pieces, **how)


def call_tools(*calls: tuple[str, str], prompt_tokens: int = 1, round_number: int = 1, **how: Any) -> Answer:
    """Parallel tool calls, the arguments in two pieces each. A call is the tool's name and its arguments as JSON."""
    chunks = [chunk({"role": "assistant", "content": None})]
    for index, (name, arguments) in enumerate(calls):
        half = len(arguments) // 2
        opening = {
            "index": index,
            "id": f"call_{round_number}_{index}",
            "type": "function",
            "function": {"name": name, "arguments": arguments[:half]},
        }
        chunks.append(chunk({"tool_calls": [opening]}))
        chunks.append(chunk({"tool_calls": [{"index": index, "function": {"arguments": arguments[half:]}}]}))
    return stream(*chunks, chunk({}, "tool_calls"), usage(prompt_tokens, len(calls)), **how)


def refuse(status: int, body: Any = None, headers: Mapping[str, str] | None = None, **how: Any) -> Answer:
    """An error status; ``body`` is bytes, or goes out as JSON."""
    if body is None:
        kind = "invalid_request_error" if status < 429 else "server_error"
        body = {"error": {"message": f"asked to fail with {status}", "type": kind, "param": None, "code": None}}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **(headers or {})}
    return Answer(pieces=(raw,), status=status, headers=sent, **how)


def whole(body: Any, content_type: str = "application/json", **how: Any) -> Answer:
    """A body that is not streamed."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(pieces=(raw,), headers={"Content-Type": content_type}, **how)


def hang() -> Answer:
    """Nothing, until the client goes away."""
    return Answer(delay_s=float("inf"))


def drop() -> Answer:
    """The connection ends before the answer."""
    return Answer(status=0)


# -- the server ---------------------------------------------------------------------------------------------------


class ModelServer:
    """The server; entered, it listens on 127.0.0.1, on a free port where none is given."""

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._scripted: deque[Answer] = deque()
        self._flaky: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self.requests: deque[Received] = deque(maxlen=KEPT_REQUESTS)  # newest last
        self.count = 0
        self.statuses: Counter[int] = Counter()
        self.in_flight = 0
        self.aborted = 0  # requests whose client went away before the answer's end
        self.connections: set[tuple[str, int]] = set()  # peers seen

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/stats", self._stats)
        app.router.add_post("/reset", self._reset)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def base_url(self) -> str:
        """What a client of it is configured with."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def last(self) -> Received:
        """The newest request."""
        return self.requests[-1]

    def script(self, *answers: Answer) -> None:
        """The answers to the next requests, before any directive."""
        self._scripted.extend(answers)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something of the server is so.

        Raises:
            TimeoutError: it did not become so.
        """
        async with asyncio.timeout(WAIT_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    # -- handlers -------------------------------------------------------------------------------------------------
    async def _complete(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw)
        self.requests.append(Received(headers=request.headers.copy(), raw=raw, body=body))
        self.count += 1
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername"))
        self.in_flight += 1
        self._changed.set()
        try:
            answer = self._scripted.popleft() if self._scripted else self._directed(body)
            self.statuses[answer.status] += 1
            return await self._perform(request, answer, streamed=bool(body.get("stream")))
        except (asyncio.CancelledError, ConnectionResetError):
            self.aborted += 1
            raise
        finally:
            self.in_flight -= 1
            self._changed.set()

    async def _perform(self, request: web.Request, answer: Answer, *, streamed: bool) -> web.StreamResponse:
        if answer.delay_s == float("inf"):
            await asyncio.Event().wait()
        await asyncio.sleep(answer.delay_s)
        if answer.status == 0:
            _break(request)
            return web.Response()
        if not streamed and answer.status == 200 and answer.end == "whole":
            return web.json_response(_joined(answer.pieces))
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        await response.prepare(request)
        for number, piece in enumerate(answer.pieces, 1):
            if answer.gate is not None and number == len(answer.pieces):
                await answer.gate.wait()
            await response.write(piece)
        while answer.end == "beat":
            await asyncio.sleep(BEAT_S)
            await response.write(answer.pieces[-1])
        if answer.end == "hang":
            await asyncio.Event().wait()
        elif answer.end == "cut":
            _break(request)
        else:
            await response.write_eof()
        return response

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "fake-1", "object": "model", "owned_by": "fake"}]})

    async def _stats(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "count": self.count,
                "statuses": self.statuses,
                "in_flight": self.in_flight,
                "aborted": self.aborted,
                "connections": len(self.connections),
            }
        )

    async def _reset(self, _: web.Request) -> web.Response:
        self.count = self.aborted = 0
        for kept in (self.statuses, self._flaky, self.requests, self.connections):
            kept.clear()
        return web.json_response({})

    # -- directives -----------------------------------------------------------------------------------------------
    def _directed(self, body: Mapping[str, Any]) -> Answer:
        messages = body["messages"]
        last_user = max((n for n, message in enumerate(messages) if message["role"] == "user"), default=-1)
        text = _text(messages[last_user]) if last_user >= 0 else ""
        directives = [(name, argument or "") for name, argument in _DIRECTIVE.findall(text)]
        how: dict[str, Any] = {"prompt_tokens": sum(len(_text(message).split()) for message in messages)}
        first: dict[str, str] = {}
        for name, argument in directives:
            first.setdefault(name, argument)
        if "slow" in first:
            how["delay_s"] = float(first["slow"]) / 1000
        if "tool" in first:
            results = [_text(message) for message in messages[last_user + 1 :] if message["role"] == "tool"]
            asked = [argument.partition(":") for name, argument in directives if name == "tool"]
            rounds = len(results) // len(asked)
            if rounds < int(first.get("rounds", "1")):
                offered = [tool["function"]["name"] for tool in body.get("tools") or ()]
                calls = ((_by_tail(name, offered), arguments or "{}") for name, _, arguments in asked)
                return call_tools(*calls, round_number=rounds + 1, **how)
            return say("tools said: " + " | ".join(results), **how)
        return self._plain(first, how)

    def _plain(self, first: Mapping[str, str], how: dict[str, Any]) -> Answer:
        match next((name for name in first if name not in ("slow", "ok")), "ok"):
            case "say":
                return say(first["say"], **how)
            case "tokens":
                return say(" ".join(f"w{n}" for n in range(int(first["tokens"]))), **how)
            case "http":
                return refuse(int(first["http"]), delay_s=how.get("delay_s", 0.0))
            case "flaky":
                period = first["flaky"] or "2"
                self._flaky[period] += 1
                return refuse(503) if (self._flaky[period] - 1) % int(period) == 0 else say("pong", **how)
            case "hang":
                return hang()
            case "stall":
                return say("so far", end="hang", **how)
            case "cut":
                return say("so far", end="cut", **how)
            case "drop":
                return drop()
            case "malformed":
                return stream(chunk({"content": "so"}), "{not json", chunk({}, "stop"))
            case "error":
                error = {"message": "the model fell over", "type": "server_error", "code": None}
                return stream(chunk({"role": "assistant"}), {"error": error}, done=False)
            case _:
                return say("pong", **how)


def _break(request: web.Request) -> None:
    """End the connection without the end of the answer; what was written before still arrives."""
    assert request.transport is not None
    request.transport.close()


def _by_tail(name: str, offered: Iterable[str]) -> str:
    return next((tool for tool in offered if tool == name or tool.endswith(f"__{name}")), name)


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def _joined(pieces: Iterable[bytes]) -> dict[str, Any]:
    """A stream's chunks as the completion they make, for clients that did not ask for a stream."""
    text, calls, reason, told = "", dict[int, dict[str, Any]](), "stop", None
    for piece in pieces:
        if piece == b"data: [DONE]\n\n":
            continue
        data = json.loads(piece.removeprefix(b"data: "))
        told = data.get("usage") or told
        for choice in data["choices"]:
            text += choice["delta"].get("content") or ""
            reason = choice["finish_reason"] or reason
            for call in choice["delta"].get("tool_calls") or ():
                if call["index"] in calls:
                    calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
                else:
                    calls[call["index"]] = call
    message = {"role": "assistant", "content": text or None}
    if calls:
        message["tool_calls"] = list(calls.values())  # type: ignore[assignment]  # a message is not all strings
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return {"id": "chatcmpl-fake", "object": "chat.completion", "model": "fake-1", "choices": [choice], "usage": told}


async def _serve(port: int) -> None:
    async with ModelServer(port) as server:
        print(f"model server on {server.base_url}", flush=True)  # noqa: T201 - the line a starter waits for
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    asyncio.run(_serve(parser.parse_args().port))
