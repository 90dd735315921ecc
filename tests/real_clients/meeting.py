"""A client's program in front of a gateway whose model server counts: what was sent, and what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fakes.model_server import ModelServer, Received
from fakes.running_gateway import KEY, RunningGateway
from fakes.tap import Tap
from real_clients.clients import Client
from real_clients.programs.asked import Asked

PROGRAM_S = 240.0  # LangChain.js takes more than a minute for its six repeats
TIME_SERVER = {"command": sys.executable, "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the client's user sees of one message: one of the two."""

    text: str = ""
    error: str = ""


async def run_program(command: Sequence[str], asked: Mapping[str, Any], work: Path) -> Said:
    """What a program of ``programs`` answers; ``work`` is its home."""
    process = await asyncio.create_subprocess_exec(
        *command, json.dumps(asked), cwd=work, start_new_session=True,
        env={"HOME": str(work), "PATH": os.environ["PATH"], "PYTHONWARNINGS": "ignore"},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(), PROGRAM_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, f"the program ended with {process.returncode}: {err.decode()[-300:]}"
    return Said(**json.loads(out.decode().splitlines()[-1]))


@dataclass(slots=True, kw_only=True)
class Meeting:
    """One client and one situation: ``tag`` is in its messages, and is its session."""

    client: Client
    command: Sequence[str]
    work: Path
    gateway: RunningGateway
    model: ModelServer
    tap: Tap
    tag: str

    async def ask(self, directives: str, *, session: bool = True, **how: Any) -> Said:
        """Let the client send one message.

        Args:
            directives: for the model server, see there.
            session: whether the message belongs to the session.
            how: more of :class:`Asked`.
        """
        headers = {"X-Hermes-Session-Id": self.tag} if session else {}
        asked = Asked(base_url=self.tap.base_url, key=KEY, text=f"{self.tag} {directives}", headers=headers, **how)
        return await run_program(self.command, asdict(asked), self.work)

    # -- the server's side ------------------------------------------------------------------------------------------
    @property
    def sent(self) -> list[int]:
        """The statuses of the requests that the client sent, in order; 0: none came."""
        return [passed.status for passed in self.tap.passed if self.tag in json.dumps(passed.body)]

    @property
    def asked(self) -> list[Received]:
        """What the model was asked, in order."""
        return [received for received in self.model.requests if self.tag.encode() in received.raw]

    async def until_asked(self) -> None:
        """Return when the model has been asked; programs take some seconds to begin."""

        async def asked() -> bool:
            return bool(self.asked)

        await self.gateway.until(asked, "the model to be asked")

    async def transcript(self) -> list[dict[str, Any]]:
        """The messages of the session, once nothing runs in it."""
        path = f"/api/sessions/{self.tag}"

        async def idle() -> bool:
            status, shown, _ = await self.gateway.request("GET", path)
            return status != 503 and shown["state"] != "busy"

        await self.gateway.until(idle, "the session to be idle")
        _, page, _ = await self.gateway.request("GET", f"{path}/messages?limit=200")
        return [row["message"] for row in page["data"]]

    async def faults_of_one_turn(self) -> list[str]:
        """What is wrong, where the client's one message was to be one turn."""
        users = [message for message in await self.transcript() if message["role"] == "user"]
        faults = [] if len(users) == 1 else [f"{len(users)} messages of the user in the transcript"]
        most = max((_times(received, self.tag) for received in self.asked), default=0)
        return faults if most <= 1 else [*faults, f"the model was shown the message {most} times"]


def _times(received: Received, tag: str) -> int:
    """How often a request to the model has the user's message."""
    return sum(tag in json.dumps(message) for message in received.body["messages"] if message["role"] == "user")


@asynccontextmanager
async def counted_gateway(home: Path) -> AsyncIterator[tuple[RunningGateway, ModelServer]]:
    """A gateway, and the model server that counts behind it."""
    async with ModelServer() as model:
        config = {
            "model": {"provider": "custom", "default": "fake-1", "base_url": model.base_url},
            "agent": {"api_max_retries": 0, "restart_drain_timeout": 5},
            "supervisor": {"workers": 2},
            "mcp_servers": {"time": TIME_SERVER},
        }
        async with RunningGateway(home, config) as gateway:
            yield gateway, model


@asynccontextmanager
async def before_a_gateway(client: Client, command: Sequence[str], work: Path) -> AsyncIterator[Meeting]:
    """A gateway of the client's own; each situation makes its meeting from this one."""
    async with counted_gateway(work / "home") as (gateway, model), Tap(f"{gateway.url}/v1") as tap:
        yield Meeting(client=client, command=command, work=work, gateway=gateway, model=model, tap=tap, tag="")
