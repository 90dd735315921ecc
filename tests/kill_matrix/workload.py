"""The workload: ordinary work, a worker's crash, a planned restart, a stop and a start, each with turns that it cuts.

Sessions, and what becomes of them where nothing else is killed: ``stuck`` is cut by all three and is suspended;
``busy`` is cut by all three, and each time a message that waited succeeds; ``tool`` is cut in a tool call by the last
two; ``stream`` and ``once`` are cut by the restart alone and idle at the stop; ``late`` finishes while the gateway
drains; ``plain`` is never cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from kill_matrix.desk import Desk
from kill_matrix.messages import Message, People
from kill_matrix.model import WorkloadModel
from kill_matrix.stage import Stage

from hermes_actors.wire.sharding import shard_of

Act = Literal["crash", "restart", "stop"]
ACTS: tuple[Act, ...] = get_args(Act)

SHARDS = 8
DRAIN_S = 0.4
TOOL_S = 60.0  # longer than anything waits for a tool here


def key_of(session: str) -> str:
    """The session key of a name."""
    return f"api:default:{session}"


def on_slot(slot: int, name: str) -> str:
    """A session of the worker of a slot, where there are two."""
    names = (f"{name}{number}" for number in range(100))
    return next(found for found in names if shard_of(key_of(found), SHARDS) * 2 // SHARDS == slot)


STUCK, BUSY, TOOL = on_slot(0, "stuck"), on_slot(0, "busy"), on_slot(0, "tool")
STREAM, ONCE, LATE, PLAIN = on_slot(1, "stream"), on_slot(1, "once"), on_slot(1, "late"), on_slot(1, "plain")
SESSIONS = (STUCK, BUSY, TOOL, STREAM, ONCE, LATE, PLAIN)


class Workload:
    """Everything that is said in one run."""

    def __init__(self, stage: Stage, desk: Desk, model: WorkloadModel, people: People, counting: Path) -> None:
        self._stage = stage
        self._desk = desk
        self._model = model
        self._people = people
        self._counting = counting
        self._sent: list[asyncio.Task[None]] = []
        self.messages: dict[str, Message] = {}

    async def run(self, acts: Sequence[Act], enough: Callable[[], bool]) -> None:
        """Ordinary work, then these acts; returns when every sender knows how it ended.

        Args:
            acts: in their order.
            enough: whether the acts that take long are not needed any more.
        """
        await self._stage.settled()
        await self._ordinary_work()
        for act in acts:
            if act == "crash" or not enough():
                await {"crash": self._crash, "restart": self._restart, "stop": self._stop}[act]()

    async def close(self) -> None:
        """Nobody waits for anything any more."""
        for task in self._sent:
            task.cancel()
        await asyncio.gather(*self._sent, return_exceptions=True)

    async def hello(self) -> None:
        """A last message to every session, which all succeed."""
        for session in SESSIONS:
            self.send(f"hello-{session}", session)
        await self._all_told()

    def counted(self) -> list[str]:
        """The ids that the counting tool was called with."""
        path = self._counting / "counted"
        return path.read_text().split() if path.exists() else []

    # -- saying things ----------------------------------------------------------------------------------------------
    def send(
        self, name: str, session: str | None, more: str = "", *, stream: bool = False, park: bool = False
    ) -> Message:
        """Begin to deliver a message."""
        text = f"[id={name}]{more}"
        message = self.messages[name] = Message(name=name, session=session, text=text, stream=stream, park=park)
        self._sent.append(asyncio.create_task(self._people.deliver(message)))
        return message

    async def _all_told(self) -> None:
        await asyncio.gather(*self._sent)
        self._sent.clear()

    async def _begun(self, *messages: Message) -> None:
        """Their turns do what they are to be cut in."""
        await asyncio.gather(*(self._people.runs(message, self._is_at_it(message)) for message in messages))

    def _is_at_it(self, message: Message) -> Callable[[], bool]:
        if "[tool=" in message.text:
            return lambda: message.name in self.counted()
        return lambda: self._model.asked[message.name] > 0

    # -- the acts ---------------------------------------------------------------------------------------------------
    async def _ordinary_work(self) -> None:
        for n in range(2):
            self.send(f"plain-{n}", PLAIN, "[tool=0]")
        self.send("streamed", STREAM, stream=True)
        self.send("stateless", None, "[tool=0]")
        self.send("busy-0", BUSY)
        await self._all_told()

    async def _crash(self) -> None:
        cut = [self.send("stuck-1", STUCK, "[gate=crash]"), self.send("busy-1", BUSY, "[gate=crash]")]
        await self._begun(*cut)
        await self._people.waits(self.send("busy-2", BUSY))
        worker = await self._stage.worker_of(shard_of(key_of(STUCK), SHARDS))
        await self._stage.settled()
        self._stage.kill("worker", worker)
        await self._over("crash")

    async def _restart(self) -> None:
        cut = [
            self.send("stuck-3", STUCK, "[gate=restart]"),
            self.send("busy-3", BUSY, "[gate=restart]"),
            self.send("tool-3", TOOL, f"[tool={TOOL_S}]"),
            self.send("stream-3", STREAM, "[tool=0][gate=restart]", stream=True),
            self.send("once-3", ONCE, "[gate=restart]"),
            self.send("late-3", LATE, "[gate=finish]"),
        ]
        await self._begun(*cut)
        await self._people.waits(self.send("busy-4", BUSY, "[tool=0]"))
        await self._stage.settled()
        drained = self._desk.seen["drain.sent"]
        restart = asyncio.create_task(self._stage.ask_restart(DRAIN_S))
        await self._until_draining(drained)
        self.send("parked", PLAIN, park=True)
        self._model.gates["finish"].set()
        await restart
        await self._over("restart", "finish")

    async def _stop(self) -> None:
        cut = [
            self.send("stuck-5", STUCK, "[gate=stop]"),
            self.send("busy-5", BUSY, "[gate=stop]"),
            self.send("tool-5", TOOL, f"[tool={TOOL_S}]"),
            self.send("stateless-5", None, "[gate=stop]"),
        ]
        await self._begun(*cut)
        await self._people.waits(self.send("busy-6", BUSY))
        await self._stage.settled()
        self._stage.terminate()
        await self._over("stop")

    async def _until_draining(self, drained: int) -> None:
        """Or until something else became of it."""
        passed = asyncio.ensure_future(self._desk.passed("drain.sent", drained))
        served = asyncio.ensure_future(self._stage.settled())
        await asyncio.wait((passed, served), return_when=asyncio.FIRST_COMPLETED)
        for task in (passed, served):
            task.cancel()

    async def _over(self, *gates: str) -> None:
        """It served again; whose message came late is not held up by it."""
        await self._stage.settled()
        for gate in gates:
            self._model.gates[gate].set()
        await self._all_told()


def configuration(model: WorkloadModel, counting: Path, python: str, server: Path) -> dict[str, Any]:
    """Of the gateway: two workers, short waits."""
    return {
        "model": {"provider": "custom", "default": "fake-1", "base_url": model.base_url},
        "agent": {"api_max_retries": 0, "restart_drain_timeout": DRAIN_S},
        "mcp_servers": {
            "counting": {
                "command": python,
                "args": ["-S", str(server), str(counting)],
                "protocol": "legacy",
                "tools": {"include": ["count"]},
            }
        },
        "supervisor": {"workers": 2, "shards": SHARDS, "heartbeat_seconds": 0.5, "max_restarts": 50},
        "api_server": {"port": 0, "key_env": "API_SERVER_KEY"},
    }
