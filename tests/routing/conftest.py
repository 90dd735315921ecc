"""Routing on the loop that workers run on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pykka
import pytest
import uvloop
from fakes.cluster import Cluster

from workers.agents.agent import AgentActor


def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def no_actor_is_left() -> Any:
    yield
    for ref in pykka.ActorRegistry.get_by_class(AgentActor):
        pykka.ActorRegistry.unregister(ref)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two workers that serve."""
    made = Cluster(tmp_path)
    await made.start_all()
    yield made
    await made.end()
