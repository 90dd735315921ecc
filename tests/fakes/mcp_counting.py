"""The counting MCP server as tests use it, and what they ask about processes."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from inspect import isawaitable
from pathlib import Path
from typing import Any

import orjson
import psutil

from hermes_actors.config.model import McpServer
from workers.models.provider import ToolCall
from workers.tools.toolbox import Toolbox, ToolResult

BOUND_S = 20.0  # for anything that a test waits for
SCRIPT = Path(__file__).with_name("mcp_counting_server.py")
RAW_SCRIPT = Path(__file__).with_name("mcp_counting_raw.py")


class Counting:
    """A directory in which counting servers note what happens to them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._http: subprocess.Popen[bytes] | None = None

    def entry(self, *mode: str, **settings: Any) -> McpServer:
        """A stdio server of the configuration."""
        args = (str(SCRIPT), str(self.directory), *mode)
        return McpServer(**{"command": sys.executable, "args": args, "connect_timeout": BOUND_S, **settings})

    def raw(self, mode: str = "steady", **settings: Any) -> McpServer:
        """A stdio server of the configuration that misbehaves, and starts quickly."""
        args = ("-S", str(RAW_SCRIPT), str(self.directory), mode)
        settings = {"connect_timeout": BOUND_S, "protocol": "legacy", **settings}
        return McpServer(command=sys.executable, args=args, **settings)

    @property
    def starts(self) -> list[int]:
        """The pids of the servers that were started."""
        return [int(line) for line in self._lines("starts")]

    @property
    def calls(self) -> list[str]:
        """The tools that were called, in order."""
        return [line.split()[1] for line in self._lines("calls")]

    @property
    def listings(self) -> int:
        """How often tools were listed, by servers of :meth:`raw`."""
        return len(self._lines("listings"))

    @property
    def questions(self) -> int:
        """How often servers of :meth:`raw` were asked for the newer protocol."""
        return len(self._lines("questions"))

    def kill_left(self) -> None:
        """End servers that a test failed to end."""
        self.kill_http()
        for pid in self.starts:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if str(self.directory) in process.cmdline():
                    process.kill()

    def _lines(self, name: str) -> list[str]:
        path = self.directory / name
        return path.read_text().splitlines() if path.exists() else []

    # -- over HTTP ------------------------------------------------------------------------------------------------
    def start_http(self, port: int) -> None:
        """Serve on a port; returns when it accepts."""
        command = [sys.executable, str(SCRIPT), str(self.directory), "http", str(port)]
        self._http = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + BOUND_S
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            time.sleep(0.02)
        raise TimeoutError("the HTTP server does not accept")

    def kill_http(self) -> None:
        """End it as a crash would."""
        if self._http is not None:
            self._http.kill()
            self._http.wait()
            self._http = None


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def call(toolbox: Toolbox, name: str, /, **arguments: Any) -> ToolResult:
    """Call a tool by its whole name, or one of the server named ``count``."""
    name = name if name.startswith("mcp__") else f"mcp__count__{name}"
    text = orjson.dumps(arguments).decode()
    return await toolbox.call(ToolCall(call_id="call", name=name, arguments=text))


async def until(happened: Callable[[], Any], what: str) -> None:
    """Wait for something that tells nobody when it happens."""

    async def asked() -> Any:
        answer = happened()
        return await answer if isawaitable(answer) else answer

    try:
        async with asyncio.timeout(BOUND_S):
            while not await asked():  # noqa: ASYNC110  # other processes tell nobody
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {BOUND_S} s: {what}") from None


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
