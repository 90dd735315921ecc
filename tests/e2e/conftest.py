"""Gateways for end-to-end tests: on the demo model, or on a model server whose answers the test chooses."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fakes.model_server import ModelServer
from fakes.running_gateway import RunningGateway

COUNTING_SERVER = Path(__file__).parents[1] / "fakes" / "mcp_counting_server.py"
TIME_SERVER = {"command": sys.executable, "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"]}
DEMO: dict[str, Any] = {"model": {"provider": "demo"}, "mcp_servers": {"time": TIME_SERVER}}


class Counting:
    """The counting MCP server, as configuration and as what it counted."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.config = {"command": sys.executable, "args": [str(COUNTING_SERVER), str(directory)]}

    def _lines(self, name: str) -> list[str]:
        path = self.directory / name
        return path.read_text().splitlines() if path.exists() else []

    @property
    def pids(self) -> list[int]:
        """The process of each start."""
        return [int(line) for line in self._lines("starts")]

    @property
    def calls(self) -> list[str]:
        """The tool of each call."""
        return [line.split()[1] for line in self._lines("calls")]


@pytest.fixture
def counting(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "counting")


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with RunningGateway(tmp_path / "home", DEMO) as gateway:
        yield gateway


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


def on(model: ModelServer, **config: Any) -> dict[str, Any]:
    """A configuration whose model is the test's server."""
    return {
        "model": {"provider": "custom", "default": "fake-1", "base_url": model.base_url},
        "agent": {"api_max_retries": 0, "restart_drain_timeout": 5},
        **config,
    }


@pytest.fixture
async def gateway(tmp_path: Path, model: ModelServer, counting: Counting) -> AsyncIterator[RunningGateway]:
    config = on(
        model,
        mcp_servers={"counting": counting.config},
        supervisor={"workers": 2, "heartbeat_seconds": 0.5},
        sessions={"mailbox_limit": 2},
    )
    async with RunningGateway(tmp_path / "home", config) as running:
        yield running
