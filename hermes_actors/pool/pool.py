"""The pool of worker processes: it starts them, receives their messages, notices their deaths and kills them.

Everything here runs on the supervisor's event loop, but for what waits for the fork server: that has its own thread.
This is the only module that names the workers' package, and it does not import it.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import pkgutil
import random
import signal
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import ForkServerProcess
from typing import Any, Literal

import structlog

from hermes_actors.background import Background
from hermes_actors.core.events import Event, Said, WorkerExited, WorkerLost, WorkerSpawned
from hermes_actors.core.state import Process
from hermes_actors.pool import fork_server
from hermes_actors.pool.cores import usable_cores
from hermes_actors.pool.fork_server import ForkServer
from hermes_actors.wire.caused import CausedLink, cause
from hermes_actors.wire.codec import ProtocolError
from hermes_actors.wire.link import LinkClosed
from hermes_actors.wire.messages import FromWorker

WORKER_ENTRY = "workers.main:main"  # called with the link's socket and the listening sockets by slot
MOST_WORKERS = 240  # a process gets all listening sockets in one message of at most 253 descriptors
REAP_TIMEOUT_S = 2.0  # for the fork server to tell how a process ended that has ended
ORPHAN_EXIT_S = 2.0  # for workers to end by themselves when the supervisor fails
STUCK_S = 5.0  # for the fork server to go on with a start that is not wanted any more

log = structlog.get_logger(__name__)


class _EntryPoint:
    """Pickles as the function of this name, so that only the child imports it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return pkgutil.resolve_name, (self._name,)

    def __call__(self, *_: object) -> None:
        raise AssertionError("the entry of a worker runs in the worker")


class TooManyWorkers(Exception):
    """More workers are configured than one supervisor can have."""


def slots(wanted: int | Literal["auto"]) -> int:
    """How many workers to start, for what is configured.

    Raises:
        TooManyWorkers: more than are possible.
    """
    if wanted == "auto":
        return min(usable_cores(), MOST_WORKERS)
    if wanted > MOST_WORKERS:
        raise TooManyWorkers(f"supervisor.workers is {wanted}, at most {MOST_WORKERS} are possible")
    return wanted


@dataclass(slots=True, eq=False)
class _Child:
    """One worker process. ``pidfd`` means this process even when its number was given to another."""

    slot: int
    generation: int
    process: ForkServerProcess | None = None
    pidfd: int = -1
    link: CausedLink | None = None
    doomed: bool = False  # killed, maybe before it was there

    @property
    def identity(self) -> Process:
        """As decisions know it."""
        return Process(self.slot, self.generation)


class Pool:
    """Worker processes by slot; at most one in each.

    Args:
        entry: ``module:function`` that a worker runs.
        mark: the owner mark of the workers themselves and of the fork server.
        listeners: the public sockets by slot; every worker gets all of them.
        tell: where events go.
        flooded: whether so many events wait already that a worker which sends more is broken.
        background: what runs the tasks.
    """

    def __init__(
        self,
        *,
        entry: str,
        mark: str,
        listeners: Mapping[int, socket.socket],
        tell: Callable[[Event], None],
        flooded: Callable[[], bool],
        background: Background,
    ) -> None:
        self._module = entry.partition(":")[0]
        self._entry = _EntryPoint(entry)
        self._mark = mark
        self._listeners = dict(listeners)
        self._tell = tell
        self._flooded = flooded
        self._background = background
        self._children: dict[int, _Child] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._loop = asyncio.get_running_loop()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([self._module])
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="starter")

    def spawn(self, slot: int, generation: int) -> None:
        """Start a process in a slot; :class:`WorkerSpawned` or :class:`WorkerExited` follows."""
        child = self._children[slot] = _Child(slot, generation)
        self._empty.clear()
        self._background.start(self._spawn(child))

    def send(self, slot: int, generation: int, message: object) -> None:
        """Send to a process; nothing happens when it is gone: its exit is an event of its own."""
        child = self._children.get(slot)
        if child is not None and child.generation == generation and child.link is not None:
            with contextlib.suppress(LinkClosed):
                child.link.send(message)

    def kill(self, slot: int, generation: int) -> None:
        """SIGKILL a process, also one that is only being started."""
        child = self._children.get(slot)
        if child is None or child.generation != generation:
            return
        child.doomed = True
        if child.process is None:
            self._loop.call_later(STUCK_S, self._unstick, child)
        elif child.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)

    def inherit(self, server: ForkServer) -> None:
        """Fork from this one, which an earlier life of this process left, before the first is spawned."""
        if not fork_server.use(server, self._module):
            log.info("the fork server is started again: other code is on disk, or it died")

    async def preload(self, mark: str) -> ForkServer:
        """Start the fork server of the next life of this process, from the code on disk.

        Args:
            mark: the owner mark of that life's workers.

        Raises:
            OSError: no memory, no descriptors.
        """
        return await self._loop.run_in_executor(self._starter, fork_server.start, self._module, mark)

    async def close(self) -> None:
        """Close the links to what still runs, so that it ends by itself, and SIGKILL what does not."""
        for child in self._children.values():
            if child.link is not None:
                child.link.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ORPHAN_EXIT_S):
                await self._empty.wait()
        for child in self._children.values():
            self.kill(child.slot, child.generation)
            if child.pidfd >= 0:
                self._loop.remove_reader(child.pidfd)
        self._starter.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(fork_server.end_own)

    # -- one process -------------------------------------------------------------------------------------------------
    async def _spawn(self, child: _Child) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                arguments = (theirs, self._listeners)
                process = self._context.Process(
                    target=self._entry, args=arguments, name=f"worker-{child.slot}", daemon=True
                )
                await self._loop.run_in_executor(self._starter, _start, process, self._mark)
            assert process.pid is not None
            child.process = process
            self._watch(child, process.pid)
            ours.setblocking(False)
            link = CausedLink(partial(self._heard, child), partial(self._lost, child))
            await self._loop.create_unix_connection(lambda: link, sock=ours)
        except (OSError, EOFError) as error:  # no descriptors, no memory, no fork server
            ours.close()
            if child.process is not None:
                self.kill(child.slot, child.generation)  # its end tells the rest
            else:
                self._gone(child, None, f"it could not be started: {error}")
            return
        child.link = link
        self._tell(WorkerSpawned(process=child.identity, pid=process.pid))

    def _watch(self, child: _Child, pid: int) -> None:
        """See the process end. Not by its sentinel: that ends with the fork server too, which the workers outlive."""
        try:
            child.pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._background.start(self._ended(child))
            return
        self._loop.add_reader(child.pidfd, self._exited, child)
        if child.doomed:
            self.kill(child.slot, child.generation)

    def _heard(self, child: _Child, message: object) -> None:
        if self._flooded():
            raise ProtocolError("the workers send more than can be handled")
        if not isinstance(message, FromWorker):
            raise ProtocolError(f"a worker does not say {type(message).__name__} to the supervisor")
        self._tell(Said(process=child.identity, message=message, cause=cause()))

    def _lost(self, child: _Child, why: str) -> None:
        self._tell(WorkerLost(process=child.identity, why=why))

    def _exited(self, child: _Child) -> None:
        self._loop.remove_reader(child.pidfd)
        self._background.start(self._ended(child))

    async def _ended(self, child: _Child) -> None:
        assert child.process is not None
        # To start a process reads the ends of the others too, so all of it happens in one thread.
        exitcode = await self._loop.run_in_executor(self._starter, _reap, child.process)
        self._gone(child, exitcode)

    def _gone(self, child: _Child, exitcode: int | None, why: str = "") -> None:
        del self._children[child.slot]
        if not self._children:
            self._empty.set()
        if child.pidfd >= 0:
            os.close(child.pidfd)
        if child.link is not None:
            child.link.close()
        jitter = random.random()  # noqa: S311  # spreads restarts, hides nothing
        self._tell(WorkerExited(process=child.identity, exitcode=exitcode, jitter=jitter, why=why))

    def _unstick(self, child: _Child) -> None:
        """A fork server that does not answer would hold up every later start; the next start makes another one."""
        pid = fork_server.own_pid()
        if child.process is None and self._children.get(child.slot) is child and pid is not None:
            log.error("the fork server hangs and is killed", pid=pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _start(process: ForkServerProcess, mark: str) -> None:
    with fork_server.clean_start(mark):
        process.start()


def _reap(process: ForkServerProcess) -> int | None:
    """The exit code; None where it is not known, since the fork server hangs."""
    process.join(REAP_TIMEOUT_S)
    exitcode = process.exitcode
    if exitcode is not None:
        process.close()
    return exitcode
