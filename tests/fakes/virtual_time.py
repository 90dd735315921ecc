"""An event loop whose clock the test owns: a wait of minutes takes no time, and timers fire in one order always.

The clock stands still while anything can run. Once all tasks wait, it goes on to the next timer at once, so
``asyncio.sleep``, ``asyncio.timeout`` and ``loop.call_later`` need no shorter numbers for a test. ``time.monotonic``
and ``time.time`` follow the loop's clock while it runs, so that code that reads them agrees with it.

Three things the loop waits for really, because their work is not on the loop: calls in executors, operations of a
journal, and other threads and processes that were started on it. The clock then goes at its usual pace. Sockets with
both ends in the test need no wait: what one end wrote is there for the other at once.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

import pytest
import uvloop

from workers.store.journal import Journal

LOOP_FACTORIES: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {}  # by the name that a test's mark gives
TCP_GRACE_S = 0.002  # a busy kernel may deliver a segment of the loopback device a moment later

in_virtual_time = pytest.mark.asyncio(loop_factories=["virtual"])
in_real_time = pytest.mark.asyncio(loop_factories=["asyncio"])


def loop_factories(item: pytest.Item, *usual: str) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """For a folder's hook of that name: the loops that a test's mark names, otherwise the usual ones of the folder."""
    mark = item.get_closest_marker("asyncio")
    chosen = mark.kwargs.get("loop_factories") if mark else None
    return {name: LOOP_FACTORIES[name] for name in chosen or usual}


async def step() -> None:
    """Let all run once that can run now."""
    await asyncio.sleep(0)


async def time_passes(seconds: float) -> None:
    """Let everything happen that does so within this time."""
    _loop()
    await asyncio.sleep(seconds)


async def until_idle() -> None:
    """Let everything happen that does so without time passing."""
    await _loop().idle()


async def until(holds: Callable[[], bool]) -> None:
    """Return once this held after some step of the loop."""
    await _loop().reached(holds)


def _loop() -> VirtualTimeLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop), "this test runs in real time"
    return loop


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.loop: VirtualTimeLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert self.loop is not None
        return self.loop.select(super().select, timeout)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._now = float(math.ceil(time.monotonic()))
        self._ahead_of_wall = math.ceil(time.time()) - self._now
        self._in_executors = 0
        self._processes: list[asyncio.SubprocessTransport] = []
        self._threads_before = set(threading.enumerate())
        self._idle: list[asyncio.Future[None]] = []
        self._conditions: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        selector = _Selector()
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        return self._now

    def wall_time(self) -> float:
        """What ``time.time`` says while the loop runs."""
        return self._now + self._ahead_of_wall

    async def idle(self) -> None:
        """Return once all tasks wait for a timer or for each other."""
        self._idle.append(self.create_future())
        await self._idle[-1]

    async def reached(self, holds: Callable[[], bool]) -> None:
        """Return once this holds; it is looked at after each step of the loop."""
        if holds():
            return
        condition = (holds, self.create_future())
        self._conditions.append(condition)
        try:
            await condition[1]
        finally:
            self._conditions.remove(condition)

    def run_forever(self) -> None:
        with self._clocks():
            super().run_forever()

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]  # as asyncio does it
        future: asyncio.Future[Any] = super().run_in_executor(executor, func, *args)
        self._in_executors += 1
        future.add_done_callback(self._came_back)
        return future

    async def subprocess_exec(self, *args: Any, **options: Any) -> Any:
        made = await super().subprocess_exec(*args, **options)
        self._processes.append(made[0])
        return made

    def select(
        self, select: Callable[[float | None], list[tuple[selectors.SelectorKey, int]]], timeout: float | None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        """What the loop does where another one waits for its sockets."""
        if timeout is not None and timeout <= 0:
            return select(0)
        if self._waits_for_others() or (timeout is None and not self._idle):
            began = time.perf_counter()
            events = select(timeout)
            self._now += time.perf_counter() - began
            return events
        if events := select(TCP_GRACE_S if self._has_tcp() else 0):
            return events
        if self._idle:
            for waiter in self._idle:
                if not waiter.done():
                    waiter.set_result(None)
            self._idle.clear()
        else:
            self._now = max(self._now, self._scheduled[0].when())  # type: ignore[attr-defined]  # of BaseEventLoop
        return []

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]  # of BaseEventLoop
        for holds, reached in self._conditions:
            if not reached.done() and holds():
                reached.set_result(None)

    def _came_back(self, _: asyncio.Future[Any]) -> None:
        self._in_executors -= 1

    def _waits_for_others(self) -> bool:
        self._processes = [process for process in self._processes if process.get_returncode() is None]
        return bool(self._in_executors or self._processes) or any(
            self._works(thread) for thread in set(threading.enumerate()) - self._threads_before
        )

    def _works(self, thread: threading.Thread) -> bool:
        """Whether a thread may still do something for this loop."""
        target = getattr(thread, "_target", None)
        journal = getattr(target, "__self__", None)
        if isinstance(journal, Journal):
            closes = journal._closing and not journal._closed.done()
            return journal._loop is self and (journal.waiting > 0 or closes)
        return getattr(target, "__module__", None) != "concurrent.futures.thread"  # these are counted

    def _has_tcp(self) -> bool:
        return any(transport.get_extra_info("peername") for transport in self._transports.values())  # type: ignore[attr-defined]

    @contextmanager
    def _clocks(self) -> Iterator[None]:
        real = time.monotonic, time.time
        time.monotonic, time.time = self.time, self.wall_time
        try:
            yield
        finally:
            time.monotonic, time.time = real


LOOP_FACTORIES |= {"virtual": VirtualTimeLoop, "asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
