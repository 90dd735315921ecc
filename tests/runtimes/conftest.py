"""Sessions on fakes whose turns each runtime runs in its turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import orjson
import pykka
import pytest
from fakes.pydantic_runtime import PydanticRuntime
from fakes.sessions import Bench, FakeToolbox
from fakes.virtual_time import loop_factories
from structlog.testing import capture_logs

from hermes_actors.config.model import SessionsConfig
from workers.models.offer import Offer, OfferedTool, offer
from workers.runtimes.chat.runtime import ChatRuntime
from workers.runtimes.runtime import Runtime
from workers.sessions.agent import AgentActor

TOOLS = ("mcp__files__read", "mcp__files__write")
RUNTIMES: dict[str, Callable[[], Runtime]] = {"chat": ChatRuntime, "pydantic-ai": PydanticRuntime}


def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Nothing here waits for another process."""
    return loop_factories(item, "virtual")


class OfferingToolbox(FakeToolbox):
    """Tools that the model is offered too."""

    async def definitions(self) -> Offer:
        return offer(_offered(name) for name in TOOLS)


def _offered(name: str) -> OfferedTool:
    function = {"name": name, "description": "A tool.", "parameters": {"type": "object", "properties": {}}}
    definition = orjson.dumps({"type": "function", "function": function})
    return OfferedTool(name=name, server="files", tool=name, definition=definition, description_chars=7)


async def closed(bench: Bench) -> None:
    """End what a test left."""
    bench.model.gate.set()
    for toolbox in bench.toolboxes:
        toolbox.gate.set()
    await bench.sessions.close()
    for ref in pykka.ActorRegistry.get_by_class(AgentActor):
        pykka.ActorRegistry.unregister(ref)


@pytest.fixture(autouse=True)
def unprinted_logs() -> Iterator[None]:
    """A traceback through a library with its variables takes half a minute to print for a terminal."""
    with capture_logs():
        yield


@pytest.fixture(params=RUNTIMES)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """With a fallback, so that each test may need one."""
    made = Bench(SessionsConfig(), runtime=RUNTIMES[request.param](), with_fallback=True)
    made.toolbox_class = OfferingToolbox
    yield made
    await closed(made)
