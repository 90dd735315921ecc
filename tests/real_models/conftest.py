"""llama.cpp's own server for this folder's tests: one for all of them, started in a third of a second."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from fakes.running_gateway import RunningGateway
from fakes.tap import Tap
from real_models.llama_cpp import LlamaCpp

TIME_SERVER = {"command": sys.executable, "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"]}


def on(tap: Tap, **config: Any) -> dict[str, Any]:
    """A configuration whose model is what stands behind the tap."""
    return {
        "model": {"provider": "custom", "default": "automaton", "base_url": tap.base_url},
        "agent": {"restart_drain_timeout": 5},
        "supervisor": {"workers": 1},
        "mcp_servers": {"time": TIME_SERVER},
        **config,
    }


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCpp]:
    with LlamaCpp(tmp_path_factory.mktemp("llama")) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def line(llama: LlamaCpp) -> AsyncIterator[Tap]:
    """The way to the server."""
    async with Tap(llama.base_url) as tap:
        yield tap


@pytest.fixture
def tap(line: Tap) -> Tap:
    """The way to the server, with nothing remembered."""
    line.clear()
    return line


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(line: Tap, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    """One for the module: each test has sessions of its own."""
    home: Path = tmp_path_factory.mktemp("gateway") / "home"
    async with RunningGateway(home, on(line)) as running:
        yield running
