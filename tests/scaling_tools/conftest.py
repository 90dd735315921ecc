"""What the tests of the scaling benchmarks' instruments share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from scaling.model_server import ModelServer


@pytest.fixture
async def model_url() -> AsyncIterator[str]:
    """The model server of the benchmarks, on this event loop; the URL of its API."""
    server = await asyncio.get_running_loop().create_server(ModelServer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
