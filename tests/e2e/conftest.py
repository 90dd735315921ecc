"""Gateways for end-to-end tests: one on the demo model for all that only talk to it, others made by the test."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fakes.running_gateway import RunningGateway

TIME_SERVER = {"command": sys.executable, "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"]}
DEMO: dict[str, Any] = {"model": {"provider": "demo"}, "mcp_servers": {"time": TIME_SERVER}}


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with RunningGateway(tmp_path / "home", DEMO) as gateway:
        yield gateway
