"""A worker process: what the supervisor says, done in the order it is said.

It serves as long as its supervisor lives. When the link to the supervisor ends it interrupts what runs, durably, and
exits.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import structlog
import uvloop

from hermes_actors import logs
from hermes_actors.home import Home
from hermes_actors.wire.codec import ProtocolError
from hermes_actors.wire.link import FrameLink
from hermes_actors.wire.messages import (
    Activated,
    Assign,
    Configure,
    Forgotten,
    Listen,
    Query,
    Refused,
    SessionPage,
    Stop,
)
from workers.routing.requests import Requests
from workers.worker import Worker

log = structlog.get_logger(__name__)

ORPHAN_EXIT_S = 1.5  # a worker without a supervisor is gone within 2 s
MAX_OPEN_FILES = 65_536
MAX_ORDERS = 1024  # orders of the supervisor that wait to be obeyed
EXIT_STOPPED = 0
EXIT_ORPHANED = 3


class Service:
    """What the supervisor says, done in the order it is said; the worker's life."""

    def __init__(self, listeners: dict[int, socket.socket]) -> None:
        self._listeners = listeners
        self._requests = Requests()
        self._orders: asyncio.Queue[Any] = asyncio.Queue(MAX_ORDERS)
        self._worker: Worker | None = None
        self._queries: set[asyncio.Task[None]] = set()
        self.link = FrameLink(self._received, self._lost)

    def _received(self, message: Any) -> None:
        match message:
            case Activated() | Refused() | SessionPage() | Forgotten():
                self._requests.answer(message)
            case Configure() | Assign() | Listen() | Stop() | Query():
                try:
                    self._orders.put_nowait(message)
                except asyncio.QueueFull:
                    raise ProtocolError(f"the supervisor sent {MAX_ORDERS} orders ahead") from None
            case _:
                raise ProtocolError(f"a supervisor does not say {type(message).__name__}")

    def _lost(self, why: str) -> None:
        self._requests.lost(why)
        orphaned = asyncio.get_running_loop().create_task(self._orders.put(None))  # after what it still said
        self._queries.add(orphaned)

    async def run(self) -> int:
        """Serve until told to stop or orphaned; the exit code."""
        while True:
            order = await self._orders.get()
            if order is None:
                return await self._orphaned()
            if isinstance(order, Stop):
                if self._worker is not None:
                    await self._stop(self._worker, order)
                return EXIT_STOPPED
            await self._obey(order)

    async def _obey(self, order: Any) -> None:
        if isinstance(order, Configure):
            if self._worker is not None:
                raise ProtocolError("a worker is configured once")
            logs.configure(process=f"worker-{order.slot}", directory=Home(Path(order.home)).logs)
            logs.protect([*order.environment.values(), *order.api_keys.values()])
            self._worker = Worker(order, self.link, self._requests, self._listeners)
            await self._worker.start()
            return
        if self._worker is None:
            raise ProtocolError(f"{type(order).__name__} before Configure")
        match order:
            case Assign():
                await self._worker.assign(order)
            case Listen():
                await self._worker.listen(order)
            case Query():
                task = asyncio.create_task(self._worker.answer(order))
                self._queries.add(task)
                task.add_done_callback(self._queries.discard)

    async def _stop(self, worker: Worker, order: Stop) -> None:
        """Stop in order; a second order, or the supervisor's end, cuts the grace short."""
        stopping = asyncio.create_task(worker.stop(order.grace_s, "shutdown_timeout"))
        while not stopping.done():
            hurry = asyncio.create_task(self._orders.get())
            await asyncio.wait((stopping, hurry), return_when=asyncio.FIRST_COMPLETED)
            if hurry.done() and (hurry.result() is None or isinstance(hurry.result(), Stop)):
                worker.hurry()
            hurry.cancel()
        await stopping

    async def _orphaned(self) -> int:
        log.error("the supervisor is gone: interrupting what runs")
        if self._worker is not None:
            try:
                async with asyncio.timeout(ORPHAN_EXIT_S):
                    await self._worker.stop(0.0, "crash")
            except TimeoutError:
                log.error("did not end in time", seconds=ORPHAN_EXIT_S)  # noqa: TRY400  # nothing to trace
        return EXIT_ORPHANED


async def serve(link: socket.socket, listeners: dict[int, socket.socket]) -> int:
    """A worker's life on a running loop; its exit code."""
    service = Service(listeners)
    await asyncio.get_running_loop().create_connection(lambda: service.link, sock=link)
    return await service.run()


def allow_open_files() -> None:
    """Raise the soft limit of open files: thousands of callers, model requests and tool pipes are a worker's job."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < MAX_OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(MAX_OPEN_FILES, hard), hard))


def main(link: socket.socket, listeners: dict[int, socket.socket]) -> None:
    """The target of a worker process.

    Args:
        link: stream socket to the supervisor.
        listeners: slot -> listening socket of the public address, open in the supervisor too.
    """
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # sent to the whole group; the supervisor decides
        signal.signal(stop, signal.SIG_IGN)
    allow_open_files()
    sys.exit(uvloop.run(serve(link, listeners)))
