"""A small chat-completions API: says what a test tells it to, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

KEY = "a-long-enough-key"


def chunk(text: str | None = None, finish_reason: str | None = None) -> str:
    """One event of a streamed completion."""
    delta = {} if text is None else {"content": text}
    return sse(
        {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}
    )


def progress(tool: str, status: str) -> str:
    """One event about a tool: a chunk without text, under a name."""
    choice = {"index": 0, "delta": {}, "finish_reason": None}
    return (
        f"event: hermes.tool.progress\n{sse({'choices': [choice], 'tool': tool, 'toolCallId': 'c1', 'status': status})}"
    )


def sse(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


DONE = "data: [DONE]\n\n"
TALK = [
    chunk("It is "), progress("mcp__time__now", "running"), ": keep-alive\n\n",
    progress("mcp__time__now", "completed"), chunk("noon."), chunk(None, "stop"), DONE,
]  # fmt: skip


class FakeApi:
    """Streams ``talk``; or refuses with ``status`` and ``error``; then hangs or cuts the connection if told to."""

    def __init__(
        self, talk: list[str] = TALK, status: int = 200, error: Any = None, *, hang: bool = False, cut: bool = False
    ) -> None:
        self.asked: list[tuple[dict[str, str], dict[str, Any]]] = []  # headers, body
        self.gone = asyncio.Event()  # a client left while we hung
        self.running: str | None = None  # the turn that runs in each session
        self._talk = talk
        self._status = status
        self._error = error
        self._hang = hang
        self._cut = cut

    async def completions(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((dict(request.headers), await request.json()))
        if self._status != 200:
            return web.Response(status=self._status, body=json.dumps(self._error), content_type="application/json")
        return await self._said(request)

    async def _said(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for event in self._talk:
            await answer.write(event.encode())
        if self._hang:
            try:
                await asyncio.Event().wait()
            finally:
                self.gone.set()
        if self._cut and request.transport is not None:
            request.transport.close()
        return answer

    async def session(self, request: web.Request) -> web.Response:
        self.asked.append((dict(request.headers), {"session": request.match_info["id"]}))
        if self._status != 200:
            return web.Response(status=self._status, body=json.dumps(self._error), content_type="application/json")
        return web.json_response({"id": request.match_info["id"], "running": self.running})

    async def events(self, request: web.Request) -> web.StreamResponse:
        assert request.match_info["id"] == self.running
        return await self._said(request)


@asynccontextmanager
async def served(api: FakeApi) -> AsyncIterator[str]:
    """The URL of the API on a free port of this machine, until the block ends."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", api.completions)
    app.router.add_get("/api/sessions/{id}", api.session)
    app.router.add_get("/v1/runs/{id}/events", api.events)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")
