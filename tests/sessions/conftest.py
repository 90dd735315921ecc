"""Sessions on fakes, for each test of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pykka
import pytest
from fakes.sessions import Bench
from fakes.virtual_time import loop_factories

from hermes_actors.config.model import SessionsConfig
from workers.sessions.agent import AgentActor


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench(SessionsConfig(mailbox_limit=2, max_resident_per_worker=3, idle_ttl_seconds=3600.0))
    yield made
    made.model.gate.set()
    await made.sessions.close()
    for ref in pykka.ActorRegistry.get_by_class(AgentActor):
        pykka.ActorRegistry.unregister(ref)


def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return loop_factories(item, "virtual")
