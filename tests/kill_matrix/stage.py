"""A real gateway, and a keeper that starts it again whenever it ends, as a service manager would."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil
import yaml
from fakes.running_gateway import KEY, installed
from kill_matrix import disk
from kill_matrix.desk import Desk
from kill_matrix.expected import Window

from hermes_actors.home import Home
from hermes_actors.operators.messages import OperatorRequest, OperatorResponse
from hermes_actors.wire.codec import decode, encode
from hermes_actors.wire.failpoints import VARIABLE

Victim = Literal["worker", "supervisor", "everything"]

LOOK_S = 0.02  # between two looks at what tells nobody when it changes
ANSWER_S = 2.0  # for a supervisor to say how it is
GONE_S = 5.0  # for whatever a killed process started to be gone
THRESHOLD = 3
CRASH = frozenset({"crash"})

_HEADER = struct.Struct(">I")
_request = itertools.count(1)


class ControlLost(Exception):
    """The supervisor is not there, or went away before it answered."""


async def ask(home: Home, operation: str, bound_s: float = ANSWER_S, **arguments: Any) -> dict[str, Any]:
    """The data of a reply over the control socket.

    Raises:
        ControlLost: there was none in time.
    """
    try:
        async with asyncio.timeout(bound_s):
            reader, writer = await asyncio.open_unix_connection(home.control)
            try:
                body = encode(OperatorRequest(request=next(_request), operation=operation, arguments=arguments))
                writer.write(_HEADER.pack(len(body)) + body)
                (length,) = _HEADER.unpack(await reader.readexactly(_HEADER.size))
                reply = decode(await reader.readexactly(length))
            finally:
                writer.close()
    except (OSError, EOFError, TimeoutError) as error:
        raise ControlLost(f"{operation}: {error!r}") from error
    assert isinstance(reply, OperatorResponse)
    if reply.error is not None:
        raise ControlLost(f"{operation}: {reply.error}: {reply.why}")
    return reply.data


@dataclass(slots=True, kw_only=True)
class _Restart:
    """One of the supervisor that is not over."""

    begin: float  # seconds since the epoch
    reasons: set[str] = field(default_factory=set)
    launched: bool = False  # another process was started
    tangled: bool = False


class Stage:
    """The gateway of one home. While it is entered, it is started again whenever it ends.

    Args:
        patient: a start waits until nothing of the life before is left; else it comes at once.
    """

    def __init__(self, root: Path, config: Mapping[str, Any], desk: Desk, *, patient: bool) -> None:
        self.home = Home(root)
        self.url = ""
        self.windows: list[Window] = []  # over
        self.serving = asyncio.Event()  # callers may come
        self.leaked: set[int] = set()
        self._patient = patient
        self._config = config
        self._environ = {**os.environ, "API_SERVER_KEY": KEY, VARIABLE: str(desk.path)}
        self._desk = desk
        self._process: subprocess.Popen[bytes]
        self._boot = ""
        self._restart: _Restart | None = _Restart(begin=0.0)  # begun and not over
        self._crashes: list[tuple[float, int]] = []  # of workers: when, which; not over
        self._inspected = asyncio.Event()  # callers are not kept out by those who look at what is
        self._inspected.set()
        self._over = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """While this runs, the gateway is kept running."""
        self.home.root.mkdir(mode=0o700)
        self.home.config.write_text(yaml.safe_dump(self._config))
        self._launch()
        keeper = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            self._process.kill()
            self._process.wait()
            for pid in disk.marked(self.home):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    # -- what is done to it -----------------------------------------------------------------------------------------
    def begin_restart(self, *reasons: str) -> None:
        """From now on the supervisor may go, and another come. Callers wait."""
        self.serving.clear()
        self._restart = self._restart or _Restart(begin=time.time())
        self._restart.reasons |= set(reasons)

    def kill(self, victim: Victim, worker: int | None) -> int:
        """SIGKILL.

        Args:
            victim: what is killed.
            worker: its pid, where that is the victim; None: there is none.

        Returns:
            How many processes it was sent to.
        """
        if victim == "worker":
            if worker is None:
                return 0
            self._crashes.append((time.time(), worker))
            if self._restart is not None:  # its turns may be told of one or the other
                self.begin_restart("crash")
                self._restart.tangled = True
            _kill(worker)
            return 1
        if self._restart is not None:
            self._untangle(self._restart)
        self.begin_restart("crash")
        victims = [self.pid, *([] if victim == "supervisor" else _gateway_processes(self.pid))]
        for pid in victims:
            _kill(pid)
        return len(victims)

    def _untangle(self, restart: _Restart) -> None:
        """Tell a restart from the kill that comes now, before anybody saw that it was over."""
        served = self._desk.latest.get("announced", 0.0)
        if served > restart.begin:
            self._over_at(served, restart)
        elif restart.launched or self._desk.latest.get("exec", 0.0) > restart.begin:
            restart.tangled = True  # the new life may have reckoned with the old one already

    def _over_at(self, end: float, restart: _Restart) -> None:
        self.windows.append(
            Window(
                begin=restart.begin,
                end=end,
                reasons=frozenset(restart.reasons),
                restart=True,
                tangled=restart.tangled,
            )
        )
        self._restart = None

    def terminate(self) -> None:
        """What a service manager does."""
        self.begin_restart("shutdown_timeout")
        self._process.terminate()

    async def ask_restart(self, timeout_s: float) -> None:
        """A planned restart in place; returns when it is over or was prevented."""
        self.begin_restart("restart_timeout")
        with contextlib.suppress(ControlLost):
            await ask(self.home, "drain", bound_s=20.0, timeout=timeout_s, then="restart", asker=None)

    async def worker_of(self, shard: int) -> int:
        """The pid of the worker that owns a shard."""
        while True:
            with contextlib.suppress(ControlLost):
                for worker in (await ask(self.home, "status"))["workers"]:
                    if shard in worker["shards"] and worker["state"] == "ready":
                        return int(worker["pid"])
            await asyncio.sleep(LOOK_S)

    async def settled(self) -> None:
        """Return when callers may come and all workers are there."""
        await until(lambda: self.serving.is_set() and self._is_up)

    @asynccontextmanager
    async def inspection(self) -> AsyncIterator[None]:
        """Keep callers out, and once the gateway is up, while this runs."""
        self._inspected.clear()
        self.serving.clear()
        try:
            await until(lambda: self._is_up)
            yield
        finally:
            self._inspected.set()
            if self._is_up:
                self.serving.set()

    @property
    def _is_up(self) -> bool:
        return self._restart is None and not self._crashes

    def workers(self) -> list[int]:
        """The pids of the worker processes, whatever the supervisor thinks of them."""
        servers = [child for child in _children(self.pid) if any("forkserver" in word for word in _cmdline(child))]
        return [worker.pid for server in servers for worker in _children(server.pid)]

    async def stop(self) -> int:
        """End it for good; its exit code."""
        self._over = True
        self._process.terminate()
        await until(lambda: self._process.poll() is not None)
        await self._await_gone()
        return self._process.returncode

    # -- the keeper -------------------------------------------------------------------------------------------------
    def _launch(self) -> None:
        command = [installed("hermes-supervisor"), "start", "--home", str(self.home.root)]
        with (self.home.root / "output.log").open("ab") as output:
            self._process = subprocess.Popen(command, env=self._environ, stdout=output, stderr=output)

    async def _keep(self) -> None:
        while True:
            if self._process.poll() is not None and not self._over:
                self.begin_restart()
                if self._patient:
                    await self._await_gone()
                self._launch()
                assert self._restart is not None
                self._restart.launched = True
            if self._restart is not None or self._crashes:
                with contextlib.suppress(ControlLost):
                    self._look(await ask(self.home, "status"))
            await asyncio.sleep(LOOK_S)

    def _look(self, status: Mapping[str, Any]) -> None:
        if status["phase"] != "serving" or any(worker["state"] != "ready" for worker in status["workers"]):
            return
        now = time.time()
        alive = {worker["pid"] for worker in status["workers"]}
        for begun, pid in [crash for crash in self._crashes if crash[1] not in alive]:
            self.windows.append(Window(begin=begun, end=now, reasons=CRASH, restart=False))
            self._crashes.remove((begun, pid))
        if self._restart is not None and status["boot"] != self._boot:
            self._over_at(now, self._restart)
            self._boot = status["boot"]
            self.url = f"http://127.0.0.1:{status['http']['port']}"
            if self._inspected.is_set():
                self.serving.set()

    async def _await_gone(self) -> None:
        """What is left of a life ends by itself; what does not has leaked."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GONE_S):
                await until(lambda: not disk.marked(self.home))
        self.leaked |= set(disk.marked(self.home))


async def until(holds: Callable[[], Any]) -> None:
    """Wait for what tells nobody when it happens; the cell as a whole is bounded."""
    while not holds():  # noqa: ASYNC110  # another process's state has no event
        await asyncio.sleep(LOOK_S)


def _gateway_processes(pid: int) -> list[int]:
    """Of the gateway itself. The tool servers are left: they must notice."""
    children = _children(pid, recursive=True)
    return [child.pid for child in children if not any("mcp_counting" in word for word in _cmdline(child))]


def _children(pid: int, *, recursive: bool = False) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=recursive)
    except psutil.NoSuchProcess:
        return []


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
