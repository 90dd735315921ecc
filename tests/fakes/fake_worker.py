"""A worker for tests of the supervisor: says what a worker says, and does over TCP what a test tells it.

A connection sends one line of words and gets one line of JSON:

``who``                 slot, generation, pid and the shard table
``activate KEY``        the supervisor's answer to an activation of the key, with the fence that the worker has
``activate KEY FENCE``  the same with this fence
``look KEY``            the same, but none is made
``reset KEY [FENCE]``, ``forget KEY``, ``page PRINCIPAL LIMIT [AFTER]``, ``broken SHARD``
``fell KEY TURN [FENCE]``  tell of a turn that succeeded on a fallback
``told``                the actors that were to be restarted, the configuration and how often it came, the drains
``touch KEY TIME``      tell of activity with a heartbeat
``run KEY TURN``        a turn begins; the key of a stateless one begins with "conv:"
``end KEY``             its turn comes to an end
``wait KEY``            a turn waits
``restart KEY``         an administrator asks for a restart in this session
``child``               start a process that carries the owner's mark in a session of its own; its pid
``garble``              send the supervisor what is no frame
``exit CODE``           end at once
``if SLOT …``           the rest, answered in a list, by the worker of this slot; null by another

A file ``fail-SLOT`` in the home makes the slot's worker exit with 9 before it is ready, ``linger-SLOT`` makes it ignore
a stop, ``silent-SLOT`` that it answers no question, ``mute-SLOT`` that it does not tell what it sealed. A worker leaves
in ``cut-SLOT`` what it cuts, and which sessions are marked on disk by then; one that stops leaves its grace in
``stopped-SLOT``. Each has two connections to every MCP server that is configured.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import uvloop
from fakes.operations import filled

from hermes_actors.operations import workers as requests
from hermes_actors.wire.caused import CausedLink
from hermes_actors.wire.messages import (
    Activate,
    Activated,
    Assign,
    Configure,
    Cut,
    Drain,
    DrainOver,
    Forget,
    Heartbeat,
    Listen,
    ListSessions,
    NoTurnRuns,
    Query,
    QueryResponse,
    Ready,
    Reconfigure,
    Recorded,
    Recovered,
    Refused,
    Reset,
    RestartActor,
    RestartWanted,
    Seal,
    Sealed,
    SessionPage,
    ShardBroken,
    StopWorker,
    SucceededOnFallback,
)
from hermes_actors.wire.ownership import OWNER_VARIABLE, owner_mark
from hermes_actors.wire.records import CutTurn, Load
from hermes_actors.wire.sharding import shard_of

BEATS_PER_INTERVAL = 3


class FakeWorker:
    def __init__(self, listeners: dict[int, socket.socket]) -> None:
        self.listeners = listeners
        self.servers: dict[int, asyncio.Server] = {}
        self.configure: Configure
        self.table: Assign
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self.active: dict[str, float] = {}
        self.restarted: list[str] = []
        self.running: dict[str, str] = {}  # session key -> turn id
        self.queued: list[str] = []
        self.recovered: set[int] = set()
        self.drains: list[str] = []
        self.draining = 0  # the number of the drain
        self.configurations = 1
        self.ready = False
        self.tasks: set[asyncio.Task[None]] = set()
        self.link = CausedLink(self.heard, lambda _: os._exit(3))

    def start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def path(self, what: str) -> Path:
        return Path(self.configure.home, f"{what}-{self.configure.slot}")

    def heard(self, message: Any) -> None:
        match message:
            case Configure():
                self.configure = message
                if self.path("fail").exists():
                    os._exit(9)
            case Assign():
                self.table = message
                self.recover()
            case Listen():
                self.start(self.listen(set(message.slots)))
            case RestartActor():
                self.restarted.append(message.key)
            case Reconfigure():
                self.configurations += 1
                self.configure = dataclasses.replace(self.configure, settings=message.settings)
                self.answer(message.request, {})
            case Query():
                request = requests.read(message.operation, message.arguments)
                if not getattr(request, "key", "").endswith("silent"):
                    self.answer(message.request, self.known(request))
            case Drain():
                self.draining = message.number
                self.drains.append(f"{message.reason} {message.asker}")
                self.drained()
            case DrainOver():
                self.draining = 0  # the number of the drain
                self.drains.append("over")
            case Seal():
                if not self.path("mute").exists():
                    stateful = [CutTurn(key, turn) for key, turn in self.running.items() if not key.startswith("conv:")]
                    stateless = len(self.running) - len(stateful)
                    self.link.send(Sealed(request=message.request, cut=stateful, busy=self.queued, stateless=stateless))
            case Cut():
                with contextlib.closing(sqlite3.connect(Path(self.configure.home, "state", "registry.db"))) as registry:
                    marked = registry.execute("SELECT key, mark, mark_reason FROM sessions WHERE mark != 'clear'")
                    cut = {"reason": message.reason, "turns": self.running, "marked": marked.fetchall()}
                self.path("cut").write_text(json.dumps(cut))
                self.running = {}
            case StopWorker():
                if not self.path("linger").exists():
                    self.path("stopped").touch()
                    os._exit(0)
            case Activated() | Refused() | SessionPage() | Recorded():
                if message.request in self.waiting:  # nothing waits for the answer to Recovered
                    self.waiting.pop(message.request).set_result(message)

    def recover(self) -> None:
        """Tell that nothing was left behind in shards that are new."""
        for shard, (slot, fence) in self.table.owners.items():
            if slot == self.configure.slot and shard not in self.recovered:
                self.recovered.add(shard)
                self.link.send(Recovered(request=shard, shard=shard, fence=fence, cut=[], queued=[]))

    def drained(self) -> None:
        if self.draining and not self.running:
            self.link.send(NoTurnRuns(number=self.draining))

    def answer(self, request: int, data: dict[str, Any]) -> None:
        if not self.path("silent").exists():
            self.link.send(QueryResponse(request=request, found=True, data=data))

    def known(self, request: requests.WorkerRequest) -> dict[str, Any]:
        servers = self.configure.settings.config["mcp_servers"]
        match request:
            case requests.InspectConnections():
                rows = [{"server": name, "pid": pid} for name in servers for pid in (1, 2)]
                return self.filled(request, {"connections": rows})
            case requests.InspectTurns():
                turns = [
                    {
                        "worker": self.configure.slot,
                        "key": key,
                        "turn_id": turn,
                        "started_at": 0.0,
                        "stateless": key.startswith("conv:"),
                        "usual_s": 5.0,
                    }
                    for key, turn in self.running.items()
                ]
                return {"turns": turns, "queued": len(self.queued)}
            case requests.RestartConnections(server=server):
                return {"count": 2 if server in servers else 0}
            case _:
                return self.filled(request, {"state": f"on worker {self.configure.slot}"})

    def filled(self, request: requests.WorkerRequest, known: dict[str, Any]) -> dict[str, Any]:
        plain: dict[str, Any] = filled(request.result, known)
        return plain

    async def listen(self, slots: set[int]) -> None:
        for slot in set(self.servers) - slots:
            self.servers.pop(slot).close()
        for slot in slots - set(self.servers):
            copy = self.listeners[slot].dup()
            self.servers[slot] = await asyncio.start_server(self.serve, sock=copy)
        if not self.ready:
            self.ready = True
            self.link.send(Ready())
            self.start(self.beat())

    async def beat(self) -> None:
        while True:
            self.send_beat()
            await asyncio.sleep(self.configure.settings.config["supervisor"]["heartbeat_seconds"] / BEATS_PER_INTERVAL)

    def send_beat(self) -> None:
        active, self.active = self.active, {}
        load = Load(resident=1, running=2, queued=3, turns=4, mcp=5)
        self.link.send(Heartbeat(load=load, active=active, reached={}))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words = (await reader.readline()).decode().split()
        if words:
            writer.write(json.dumps(await self.do(*words)).encode() + b"\n")
        writer.close()

    async def ask(self, message: Any) -> Any:
        self.waiting[message.request] = asyncio.get_running_loop().create_future()
        self.link.send(message)
        return {"is": (answer := await self.waiting[message.request]).__class__.__name__, **dataclasses.asdict(answer)}

    async def do(self, what: str, *words: str) -> Any:
        configure, request = self.configure, len(self.waiting) + 1000
        match what:
            case "who":
                who = {"slot": configure.slot, "generation": configure.generation, "pid": os.getpid()}
                modules = sorted(name for name in sys.modules if name.startswith(("hermes_actors", "pykka", "mcp")))
                listens = sorted(self.servers)
                return {**who, **dataclasses.asdict(self.table), "listens": listens, "modules": modules}
            case "told":
                return {
                    "restarted": self.restarted,
                    "configurations": self.configurations,
                    "config": configure.settings.config,
                    "environment": configure.settings.environment,
                    "drains": self.drains,
                }
            case "run":
                self.running[words[0]] = words[1]
            case "end":
                del self.running[words[0]]
                self.drained()
            case "wait":
                self.queued.append(words[0])
            case "restart":
                self.link.send(RestartWanted(key=words[0]))
            case "fell":
                shard = shard_of(words[0], configure.shards)
                fence = int(words[2]) if words[2:] else self.table.owners[shard][1]
                provider, model = "custom (http://spare/v1)", "fake-2"
                self.link.send(
                    SucceededOnFallback(
                        key=words[0], shard=shard, fence=fence, turn_id=words[1], provider=provider, model=model
                    )
                )
            case "activate" | "look" | "forget" | "reset":
                shard = shard_of(words[0], configure.shards)
                fence = int(words[1]) if words[1:] else self.table.owners[shard][1]
                if what == "reset":
                    return await self.ask(Reset(request=request, key=words[0], shard=shard, fence=fence))
                if what == "forget":
                    return await self.ask(Forget(request=request, key=words[0], shard=shard, fence=fence))
                key, principal = words[0], words[0].split(":")[1]
                return await self.ask(
                    Activate(
                        request=request,
                        key=key,
                        principal=principal,
                        shard=shard,
                        fence=fence,
                        create=what == "activate",
                    )
                )
            case "page":
                after = words[2] if words[2:] else None
                return await self.ask(
                    ListSessions(request=request, principal=words[0], limit=int(words[1]), after=after)
                )
            case "touch":
                self.active[words[0]] = float(words[1])
                self.send_beat()
            case "broken":
                self.link.send(ShardBroken(shard=int(words[0]), why="torn page", set_aside="/aside", serving=True))
            case "child":
                mark = owner_mark(configure.home, configure.boot, configure.slot, configure.generation)
                child = subprocess.Popen(  # noqa: ASYNC220  # a fake may block
                    ["sleep", "600"], env={OWNER_VARIABLE: mark, "PATH": os.environ["PATH"]}, start_new_session=True
                )
                return child.pid
            case "garble":
                assert self.link._transport is not None
                self.link._transport.write(b"\xff" * 8)
            case "exit":
                os._exit(int(words[0]))
            case "if":
                return [await self.do(*words[1:])] if int(words[0]) == configure.slot else None
        return None


async def live(link: socket.socket, listeners: dict[int, socket.socket]) -> None:
    worker = FakeWorker(listeners)
    link.setblocking(False)
    await asyncio.get_running_loop().create_connection(lambda: worker.link, sock=link)
    await asyncio.get_running_loop().create_future()


def main(link: socket.socket, listeners: dict[int, socket.socket]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    uvloop.run(live(link, listeners))  # as the real one; asyncio loses what it accepts while it closes
