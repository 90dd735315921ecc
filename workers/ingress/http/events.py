"""A server-sent event stream as an answer."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from aiohttp import web

from workers.ingress.http.completion import KEEP_ALIVE
from workers.ingress.http.cors import CORS
from workers.ingress.http.errors import ClientGone


class EventStream:
    """Open while the block runs; a comment now and then shows proxies and clients that it lives.

    Args:
        request: what it answers.
        headers: of the answer.
        keep_alive_s: between two comments.
    """

    def __init__(self, request: web.BaseRequest, headers: dict[str, str], *, keep_alive_s: float) -> None:
        streaming = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        self.response = web.StreamResponse(headers=headers | streaming | request.get(CORS, {}))
        self._request = request
        self._keep_alive_s = keep_alive_s
        self._pulse: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Send the head.

        Raises:
            ClientGone: the client went away.
        """
        try:
            await self.response.prepare(self._request)
        except ConnectionError:
            raise ClientGone from None
        self._pulse = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pulse is not None:
            self._pulse.cancel()

    async def send(self, event: bytes) -> None:
        """Write an event; waits where the client reads slowly.

        Raises:
            ClientGone: the client went away.
        """
        try:
            await self.response.write(event)
        except ConnectionError:
            raise ClientGone from None

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._keep_alive_s)
            try:
                await self.response.write(KEEP_ALIVE)
            except ConnectionError:
                return  # send() raises it
