"""Routing on the loop that workers run on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pykka
import pytest
from fakes.cluster import Cluster
from fakes.sessions import BOUND_S
from fakes.virtual_time import loop_factories

from workers.sessions.agent import AgentActor


def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return loop_factories(item, "virtual")


@pytest.fixture(autouse=True)
def no_actor_is_left() -> Any:
    yield
    for ref in pykka.ActorRegistry.get_by_class(AgentActor):
        pykka.ActorRegistry.unregister(ref)


@pytest.fixture
async def make_cluster(tmp_path: Path) -> AsyncIterator[Callable[[float], Awaitable[Cluster]]]:
    """Two workers that serve; given how long a request waits for an owner."""
    made: list[Cluster] = []

    async def make(owner_wait_s: float) -> Cluster:
        made.append(Cluster(tmp_path, owner_wait_s=owner_wait_s))
        await made[-1].start_all()
        return made[-1]

    yield make
    for cluster in made:
        await cluster.end()


@pytest.fixture
async def cluster(make_cluster: Callable[[float], Awaitable[Cluster]]) -> Cluster:
    """Two workers that serve."""
    return await make_cluster(BOUND_S)
