"""A tap between a client and a server of completions: it passes everything on and remembers what it was."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from aiohttp import web

WAIT_S = 20.0  # the one bound of every wait of a test for what passes here
CONNECT_S = 5.0
BEGINNING_LINES = 8  # of a streamed answer, that pass at once where the rest is held back
COUNTED = ("/chat/completions", "/responses")  # the ends of the paths whose requests are remembered
OF_A_CONNECTION = {
    "host",
    "connection",
    "keep-alive",
    "content-length",
    "transfer-encoding",
    "accept-encoding",
    "date",
    "server",
}  # headers that are not passed on


@dataclass(slots=True, kw_only=True)
class Passed:
    """A request for a completion, and what came of it."""

    body: dict[str, Any]
    status: int = 0  # 0: no answer yet, or none at all
    answer: bytearray = field(default_factory=bytearray)
    left: bool = False  # the client went before the answer was over

    @property
    def said(self) -> str:
        """The answer as it came."""
        return self.answer.decode(errors="replace")

    @property
    def roles(self) -> list[str]:
        """Who speaks in the conversation that was sent, in order."""
        return [message["role"] for message in self.body["messages"]]

    @property
    def tools(self) -> dict[str, Any]:
        """The tools that were offered, by name: what was sent as their schema."""
        return {tool["function"]["name"]: tool["function"]["parameters"] for tool in self.body.get("tools") or ()}


class Tap:
    """Entered, it listens on a free port of 127.0.0.1.

    Args:
        upstream: the server's base URL, which ends in ``/v1``.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.passed: list[Passed] = []  # requests for completions or responses only, oldest first
        self.rest_may_pass: asyncio.Event | None = None  # where set: what the rest of a streamed answer waits for
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S),
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            read_bufsize=1 << 20,
        )
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/v1/{path:.*}", self._pass)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._http.close()

    @property
    def base_url(self) -> str:
        """What a client of it is configured with."""
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    def clear(self) -> None:
        """Forget what has passed, and hold nothing back."""
        self.passed.clear()
        self.rest_may_pass = None

    @property
    def last(self) -> Passed:
        return self.passed[-1]

    @property
    def statuses(self) -> list[int]:
        """Of all completions that passed, in order."""
        return [passed.status for passed in self.passed]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something of what passed is so.

        Raises:
            TimeoutError: it did not become so.
        """
        async with asyncio.timeout(WAIT_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        passed = Passed(body={})
        if request.method == "POST" and request.path.endswith(COUNTED):
            passed.body = json.loads(raw)
            self.passed.append(passed)
            self._changed.set()
        try:
            return await self._answered(request, raw, passed)
        except (asyncio.CancelledError, ConnectionResetError):
            passed.left = True
            raise
        except aiohttp.ClientError:  # the server went: so does the connection
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)
        finally:
            self._changed.set()

    async def _answered(self, request: web.Request, raw: bytes, passed: Passed) -> web.StreamResponse:
        headers = _passed_on(request.headers)
        url = f"{self.upstream}/{request.match_info['path']}"
        async with self._http.request(request.method, url, data=raw or None, headers=headers) as answer:
            passed.status = answer.status
            response = web.StreamResponse(status=answer.status, headers=_passed_on(answer.headers))
            await response.prepare(request)
            async for piece in self._pieces(answer.content):
                passed.answer += piece
                self._changed.set()
                await response.write(piece)
        with contextlib.suppress(ConnectionResetError):
            await response.write_eof()
        return response

    async def _pieces(self, content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
        if self.rest_may_pass is not None:
            for _ in range(BEGINNING_LINES):
                yield await content.readline()
            async with asyncio.timeout(WAIT_S):
                await self.rest_may_pass.wait()
        async for piece in content.iter_any():
            yield piece


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in OF_A_CONNECTION}
