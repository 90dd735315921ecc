"""A time-out whose deadline moves with every piece that arrives, at the cost of an assignment."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class MovingTimeout:
    """A context that raises :class:`TimeoutError` in its task once nothing came for long enough.

    Moving the deadline makes no timer: the one that runs finds at its end that it has to go on.

    Args:
        what: what is waited for first.
        seconds: for how long.
    """

    __slots__ = ("_at", "_handle", "_loop", "_scope", "_seconds", "_what")

    def __init__(self, what: str, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._scope = asyncio.timeout(None)
        self._what = what
        self._seconds = seconds
        self._at = self._loop.time() + seconds
        self._handle: asyncio.TimerHandle | None = None

    def __str__(self) -> str:
        return f"no {self._what} within {self._seconds:g} s"

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        self._handle = self._loop.call_at(self._at, self._ring)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._handle is not None
        self._handle.cancel()
        await self._scope.__aexit__(kind, error, trace)

    def expect(self, what: str, seconds: float) -> None:
        """Something came, or the wait is for something else now: it begins again."""
        assert self._handle is not None
        self._what = what
        self._at = self._loop.time() + seconds
        if seconds < self._seconds:
            self._handle.cancel()
            self._handle = self._loop.call_at(self._at, self._ring)
        self._seconds = seconds

    def _ring(self) -> None:
        now = self._loop.time()
        if now < self._at:
            self._handle = self._loop.call_at(self._at, self._ring)
        else:
            self._scope.reschedule(now)  # ends the context's task at the loop's next turn
