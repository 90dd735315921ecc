"""A tool call on its way, as the transport knows it that carries its messages.

The MCP SDK tells no caller the id of its request, and no transport when a request is given up. But it sends what it
sends for a call in the context of its caller, over HTTP too (mcp 2.3), so the call itself stands there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import anyio

T = TypeVar("T")


class CallOver(Exception):
    """No caller waits for this any more: the call is over that it was done for."""


class ToolInvocation:
    """A call, or all that is done for none."""

    __slots__ = ("__weakref__", "_over", "_waits", "answered", "refused")

    def __init__(self) -> None:
        self.answered = asyncio.Event()  # a stdio server owes nothing for it
        self.answered.set()
        self.refused = False  # its answer was an error
        self._over = False
        self._waits: set[anyio.CancelScope] = set()

    async def until_over(self, awaitable: Awaitable[T]) -> T:
        """The result of something that ends with the call.

        Raises:
            CallOver: the call is over.
        """
        with anyio.CancelScope() as scope:
            if self._over:
                scope.cancel()
            self._waits.add(scope)
            try:
                return await awaitable
            finally:
                self._waits.discard(scope)
        raise CallOver

    def end(self) -> None:
        """It is over, however."""
        self._over = True
        for scope in self._waits:
            scope.cancel()


NO_CALL = ToolInvocation()
current: ContextVar[ToolInvocation] = ContextVar("current", default=NO_CALL)


@contextmanager
def calling(call: ToolInvocation) -> Iterator[None]:
    """What is sent in this block is sent for the call, and the call is over with it."""
    token = current.set(call)
    try:
        yield
    finally:
        current.reset(token)
        call.end()
