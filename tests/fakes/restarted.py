"""A gateway with one worker that a test ends and starts again, and what it says of its sessions then."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Literal

import psutil
from fakes.model_server import ModelServer
from fakes.running_gateway import RunningGateway

RAW_SERVER = Path(__file__).with_name("mcp_counting_raw.py")
HELD_IN_A_TOOL = '[[tool:count:{"id": "once", "seconds": 60}]]'

Kind = Literal["restart", "stop", "crash", "kill"]
REASONS = {"restart": "restart_timeout", "stop": "shutdown_timeout", "crash": "crash", "kill": "crash"}


class Restarted:
    """A running gateway, and the ways to end its life or its worker's."""

    def __init__(self, gateway: RunningGateway, model: ModelServer, directory: Path) -> None:
        self.gateway = gateway
        self.model = model
        self.exit_codes: list[int] = []
        self._counted = directory / "counted"
        self._cuts = count(1)

    async def cut(self, kind: Kind) -> None:
        """End what runs, and return when the gateway serves again."""
        match kind:
            case "restart":
                boot = await self._boot()
                self.exit_codes.append((await self.gateway.ctl("drain", "--restart", "--timeout", "0"))[0])
                await self.gateway.until(lambda: self.is_up(but=boot), "the gateway to be restarted")
            case "stop":
                await self.end("stop")
                await self.gateway.start()
            case "crash":
                workers = await self.gateway.workers()
                for worker in workers:
                    psutil.Process(worker["pid"]).kill()
                await self.gateway.until(lambda: self._are_replaced(workers), "the workers to be replaced")
            case "kill":
                await self.end("kill")
                await self.gateway.start()

    async def end(self, kind: Literal["stop", "kill"]) -> None:
        """End all of it."""
        if kind == "stop":
            self.exit_codes.append((await self.gateway.ctl("drain", "--timeout", "0"))[0])
            assert await self.gateway.ended() == 0
            return
        for process in self.gateway.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        await self.gateway.ended()

    async def cut_while_running(self, kind: Kind, *sessions: str, in_a_tool: str | None = None) -> list[Any]:
        """End what runs, with a turn in each of these sessions; what their callers got."""
        before = self.model.in_flight
        text = f"[[hang]] {next(self._cuts)}"  # the same words again would be taken for a library's repeat
        held = [asyncio.ensure_future(self.gateway.chat(text, session)) for session in sessions]
        await self.model.until(lambda: self.model.in_flight == before + len(sessions))
        if in_a_tool is not None:
            held.append(asyncio.ensure_future(self.gateway.chat(HELD_IN_A_TOOL, in_a_tool)))
            await self.gateway.until(self._is_counted, "the tool to be called")
        await self.cut(kind)
        return await asyncio.gather(*held, return_exceptions=True)

    async def session(self, name: str) -> dict[str, Any]:
        """How the gateway lists a session."""
        return (await self.sessions())[name]

    async def sessions(self) -> dict[str, dict[str, Any]]:
        """How the gateway lists its sessions, by name."""
        listed = await self.gateway.ask("sessions.list", limit=100)
        return {line["key"].rpartition(":")[2]: line for line in listed["sessions"]}

    def ledger(self) -> dict[str, dict[str, Any]]:
        """The entries of the ledger's file, by name."""
        whole = json.loads((self.gateway.home / "state/restart_failures.json").read_text())
        return {key.rpartition(":")[2]: entry for key, entry in whole["sessions"].items()}

    def requested(self, role: str) -> list[str]:
        """The messages of a role in the newest request to the model."""
        return [str(message["content"]) for message in self.model.last.body["messages"] if message["role"] == role]

    async def _boot(self) -> str:
        status = await self.gateway.status()
        return "" if status is None else str(status["boot"])

    async def is_up(self, but: str) -> bool:
        """Whether it serves in another life than that of this id."""
        status = await self.gateway.status()
        if status is None or status["boot"] == but or status["phase"] != "serving":
            return False
        return all(worker["state"] == "ready" for worker in status["workers"])

    async def _are_replaced(self, before: list[dict[str, Any]]) -> bool:
        after = await self.gateway.workers()
        return all(
            now["generation"] > then["generation"] and now["state"] == "ready"
            for then, now in zip(before, after, strict=True)
        )

    async def _is_counted(self) -> bool:
        return self._counted.exists()


@asynccontextmanager
async def restartable(
    directory: Path, model: ModelServer, *, workers: int = 1, environ: Mapping[str, str] | None = None, **config: Any
) -> AsyncIterator[Restarted]:
    """A running one, with a tool server that starts at once; all its files are below ``directory``."""
    tools = {"command": sys.executable, "args": ["-S", str(RAW_SERVER), str(directory)], "protocol": "legacy"}
    whole = {
        "model": {"provider": "custom", "default": "fake-1", "base_url": model.base_url},
        "agent": {"api_max_retries": 0, "restart_drain_timeout": 5},
        "mcp_servers": {"raw": tools},
        "supervisor": {"workers": workers, "heartbeat_seconds": 0.5},
        **config,
    }
    async with RunningGateway(directory / "home", whole, environ=environ) as gateway:
        yield Restarted(gateway, model, directory)
