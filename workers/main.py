"""A worker process: what the supervisor says, done in the order it is said.

It serves as long as its supervisor lives. When the link to the supervisor ends it interrupts what runs, durably, and
exits.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import uvloop

from hermes_actors import logs
from hermes_actors.background import Background
from hermes_actors.home import Home
from hermes_actors.wire.caused import CausedLink, cause
from hermes_actors.wire.codec import ProtocolError
from hermes_actors.wire.messages import (
    Activated,
    Assign,
    Configure,
    Cut,
    Drain,
    DrainOver,
    Listen,
    Query,
    QueryResponse,
    Reckoned,
    Reconfigure,
    Recorded,
    Refused,
    RestartActor,
    Seal,
    Sealed,
    SessionPage,
    StopWorker,
)
from workers.routing.requests import Requests
from workers.runtimes.chat.runtime import ChatRuntime
from workers.runtimes.runtime import Runtime
from workers.worker import Worker

log = structlog.get_logger(__name__)

ORPHAN_EXIT_S = 1.5  # for a worker without a supervisor to end in order
ORPHAN_KILLED_S = 1.9  # then the kernel ends it; 2 s are promised
MAX_OPEN_FILES = 65_536
MAX_ORDERS = 1024  # orders of the supervisor that wait to be obeyed
GC_THRESHOLDS = (50_000, 20, 50)  # new objects, young collections, middle ones: a turn makes some hundred objects
EXIT_STOPPED = 0
EXIT_FAILED = 1
EXIT_ORPHANED = 3
BUILT_IN = ChatRuntime()

Order = Configure | Reconfigure | Assign | Listen | StopWorker
_MAKES_WHAT_LIVES_ON = (Configure, Listen)  # each line of the listeners would have their cause for as long as they live


class Service:
    """A worker's life: what the supervisor says, done in the order it is said.

    Args:
        listeners: slot -> listening socket of the public address.
        on_orphaned: called at once when the supervisor is gone.
        runtime: runs the turns.
    """

    def __init__(
        self, listeners: dict[int, socket.socket], on_orphaned: Callable[[], object], runtime: Runtime = BUILT_IN
    ) -> None:
        self._listeners = listeners
        self._runtime = runtime
        self._on_orphaned = on_orphaned
        self._requests = Requests()
        self._orders: asyncio.Queue[tuple[int | None, Order]] = asyncio.Queue(MAX_ORDERS)  # with their causes
        self._worker: Worker | None = None
        self._drain: Drain | None = None  # that began before the worker was made
        self._background = Background()
        self._told_to_stop = False
        self._stopping = False
        self._orphaned = asyncio.Event()
        self.link = CausedLink(self._received, self._lost)

    def _received(self, message: Any) -> None:
        match message:
            case Activated() | Reckoned() | Recorded() | Refused() | SessionPage():
                self._requests.answer(message)
            case Drain() | DrainOver() | Seal() | Cut() | Query() if self._worker is None:
                self._unconfigured(message)
            case Query():
                self._background.start(self._configured(message).answer(message))
            case StopWorker() if self._told_to_stop:
                pass  # it stops as fast as it can already
            case RestartActor():
                self._configured(message).restart_actor(message.key)
            case Drain():  # this and what follows overtakes the orders: an order may take long
                self._configured(message).drain(message)
            case DrainOver():
                self._configured(message).drain_over()
            case Seal():
                self._configured(message).seal(message)
            case Cut():
                self._configured(message).cut(message)
            case Configure() | Reconfigure() | Assign() | Listen() | StopWorker():
                self._told_to_stop = self._told_to_stop or isinstance(message, StopWorker)
                try:
                    self._orders.put_nowait((cause(), message))
                except asyncio.QueueFull:
                    raise ProtocolError(f"the supervisor sent {MAX_ORDERS} orders ahead") from None
            case _:
                raise ProtocolError(f"a supervisor does not say {type(message).__name__}")

    def _unconfigured(self, message: Drain | DrainOver | Seal | Cut | Query) -> None:
        """Answer while Configure waits to be obeyed: nothing runs, and nothing shall begin in a drain."""
        match message:
            case Drain():
                self._drain = message
            case DrainOver():
                self._drain = None
            case Seal():
                self.link.send(Sealed(request=message.request, cut=[], busy=[], stateless=0))
            case Query():
                self.link.send(QueryResponse(request=message.request, found=False, data={}))

    def _lost(self, why: str) -> None:
        log.error("the supervisor is gone", why=why)
        self._on_orphaned()
        self._orphaned.set()
        self._requests.lost(why)

    async def run(self) -> int:
        """Serve until told to stop, orphaned, or at an end by a bug; the exit code."""
        obeying = asyncio.create_task(self._obey_orders())
        orphaned = asyncio.create_task(self._orphaned.wait())
        await asyncio.wait((obeying, orphaned), return_when=asyncio.FIRST_COMPLETED)
        orphaned.cancel()
        if obeying.done() and obeying.exception() is None:
            return EXIT_STOPPED
        if not self._orphaned.is_set():
            log.critical("the worker failed by a bug", exc_info=obeying.exception())
        await self._give_up(obeying)
        return EXIT_ORPHANED if self._orphaned.is_set() else EXIT_FAILED

    async def _obey_orders(self) -> None:
        while True:
            number, order = await self._orders.get()
            bound = {} if number is None or isinstance(order, _MAKES_WHAT_LIVES_ON) else {"cause": number}
            with structlog.contextvars.bound_contextvars(**bound):
                await self._obey(order)
            if isinstance(order, StopWorker):
                return

    async def _obey(self, order: Order) -> None:
        match order:
            case Configure():
                await self._configure(order)
            case Reconfigure():
                logs.protect([*order.settings.environment.values(), *order.settings.api_keys.values()])
                await self._configured(order).reconfigure(order)
            case Assign():
                await self._configured(order).assign(order)
            case Listen():
                await self._configured(order).listen(order)
            case StopWorker():
                self._stopping = True
                if self._worker is not None:
                    await self._worker.stop("shutdown_timeout")

    async def _configure(self, order: Configure) -> None:
        if self._worker is not None:
            raise ProtocolError("a worker is configured once")
        logs.configure(process=f"worker-{order.slot}", directory=Home(Path(order.home)).logs)
        logs.protect([*order.settings.environment.values(), *order.settings.api_keys.values()])
        self._worker = Worker(order, self.link, self._requests, self._listeners, self._runtime)
        if self._drain is not None:
            self._worker.drain(self._drain)
        await self._worker.start()

    def _configured(self, message: Any) -> Worker:
        if self._worker is None:
            raise ProtocolError(f"{type(message).__name__} before Configure")
        return self._worker

    async def _give_up(self, obeying: asyncio.Task[None]) -> None:
        """Interrupt what runs, durably, in the little time there is."""
        try:
            async with asyncio.timeout(ORPHAN_EXIT_S):
                if not self._stopping:
                    obeying.cancel()
                await asyncio.wait((obeying,))
                if self._worker is not None and not self._stopping:
                    await self._worker.stop("crash")
        except TimeoutError:
            log.error("did not end in time", seconds=ORPHAN_EXIT_S)  # noqa: TRY400  # nothing to trace


async def serve(
    link: socket.socket,
    listeners: dict[int, socket.socket],
    on_orphaned: Callable[[], object] = lambda: None,
    runtime: Runtime = BUILT_IN,
) -> int:
    """A worker's life on a running loop; its exit code."""
    service = Service(listeners, on_orphaned, runtime)
    await asyncio.get_running_loop().create_connection(lambda: service.link, sock=link)
    return await service.run()


def be_killed_soon() -> None:
    """Have the kernel end this process, whatever its loop and threads wait for: nothing outlives a supervisor."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, ORPHAN_KILLED_S)


def allow_open_files() -> None:
    """Raise the soft limit of open files: thousands of callers, model requests and tool pipes are a worker's job."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < MAX_OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(MAX_OPEN_FILES, hard), hard))


def collect_less() -> None:
    """Leave what the imports made out of every later garbage collection, which stops the loop, and collect less often.

    With everything imported a full collection takes 50 to 90 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def main(link: socket.socket, listeners: dict[int, socket.socket], runtime: Runtime = BUILT_IN) -> None:
    """The target of a worker process.

    Args:
        link: stream socket to the supervisor.
        listeners: slot -> listening socket of the public address, open in the supervisor too.
        runtime: runs the turns; another program that starts workers may give its own.
    """
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # sent to the whole group; the supervisor decides
        signal.signal(stop, signal.SIG_IGN)
    allow_open_files()
    collect_less()
    sys.exit(uvloop.run(serve(link, listeners, be_killed_soon, runtime)))
