from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fakes.mcp_counting import Counting
from fakes.virtual_time import loop_factories

from workers.tools.servers import ToolServers

OWNER_MARK = f"test-{os.getpid()}:boot:0:1:"  # tests in other processes sweep too


def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that workers run on; the other one too for tests whose mark names it."""
    return loop_factories(item, "uvloop")


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[Counting]:
    directory = tmp_path / "counts"
    directory.mkdir()
    counting = Counting(directory)
    yield counting
    counting.kill_left()


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., ToolServers]]:
    """Makes the servers of a worker, by keyword, and closes them."""
    made: list[ToolServers] = []

    def serve(variables: Mapping[str, str] = {}, **servers: Any) -> ToolServers:
        made.append(ToolServers(servers, variables, owner_mark=OWNER_MARK, home=tmp_path, logs=tmp_path))
        return made[-1]

    yield serve
    for each in made:
        await each.close()
