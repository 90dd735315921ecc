"""Requests that wait for their answers on a link, by number."""

from __future__ import annotations

import asyncio
from typing import Any

from hermes_actors.wire.link import Link, LinkClosed


class Requests:
    """Numbers requests and gives each response to the task that waits for it; one for each link."""

    def __init__(self) -> None:
        self._last = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    def number(self) -> int:
        """A number that no request of this link had."""
        self._last += 1
        return self._last

    async def ask(self, link: Link, request: Any, *, timeout_s: float) -> Any:
        """Send a request, which carries a fresh ``number()``, and wait for its answer.

        Raises:
            LinkClosed: the link went away; whether the request was done is unknown.
            TimeoutError: no answer in time.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[request.request] = answer
        try:
            link.send(request)
            async with asyncio.timeout(timeout_s):
                return await answer
        finally:
            self._waiting.pop(request.request, None)

    def answer(self, message: Any) -> None:
        """A response came; it is dropped where its task has stopped waiting."""
        waiting = self._waiting.get(message.request)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    def lost(self, why: str) -> None:
        """The link is gone: every task that waits gets an error."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(LinkClosed(why))
        self._waiting.clear()
