"""A gateway whose turns are run by a pydantic-ai agent: what the product promises of a turn does not hang on its agent.

Real processes, a real tool server, a real kill.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import Counting, on
from e2e.test_deaths import kill_worker, session_on, worker_of
from fakes.model_server import ModelServer
from fakes.running_gateway import RunningGateway

from workers.runtimes.transcript import OUTCOME_UNKNOWN

PROGRAM = Path(__file__).parents[1] / "fakes" / "pydantic_gateway.py"
HANGS = '[[tool:sleep:{"seconds": 600}]]'


@pytest.fixture
async def gateway(tmp_path: Path, model: ModelServer, counting: Counting) -> AsyncIterator[RunningGateway]:
    config = on(
        model,
        mcp_servers={"counting": counting.config},
        supervisor={"workers": 2, "heartbeat_seconds": 0.5},
        agent={"api_max_retries": 0, "restart_drain_timeout": 0.5},
    )
    async with RunningGateway(tmp_path / "home", config, program=(sys.executable, str(PROGRAM))) as running:
        yield running


def conversation(model: ModelServer) -> tuple[str, list[tuple[str, Any]]]:
    """What the model was sent last: the system message, and the others by role."""
    note, *messages = model.last.body["messages"]
    return note["content"], [(message["role"], message["content"]) for message in messages]


async def test_a_kill_of_its_worker_leaves_what_was_committed_and_the_next_message_goes_on(
    gateway: RunningGateway, model: ModelServer, counting: Counting
) -> None:
    name = await session_on(gateway, 0)
    owner = await worker_of(gateway, name)
    assert await gateway.say('[[tool:echo:{"text": "before"}]]', name) == "tools said: before"
    async with gateway.landing_on(1) as via:
        cut = asyncio.ensure_future(gateway.chat(HANGS, name, via=via))
        await gateway.until(lambda: called(counting, "sleep"), "the tool to run")
        await kill_worker(gateway, 0)
        status, body, _ = await cut

    assert (status, body["error"]["code"]) == (503, "turn_interrupted")
    await gateway.until(lambda: replaced(gateway, name, owner["generation"]), "the worker's replacement")
    assert await gateway.say("go on", name) == "pong"
    note, messages = conversation(model)
    assert "a process of the gateway died while it ran" in note
    assert [role for role, _ in messages] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
        "assistant",
        "tool",
        "user",
    ]
    assert messages[2:5] == [("tool", "before"), ("assistant", "tools said: before"), ("user", HANGS)]
    assert messages[-2:] == [("tool", "outcome unknown"), ("user", "go on")]
    await gateway.say("and on", name)
    assert ("tool", OUTCOME_UNKNOWN) in [(m["role"], m["content"]) for m in model.last.body["messages"]]
    assert counting.calls == ["echo", "sleep"]


async def test_a_stop_cuts_its_turn_at_the_deadline_and_the_next_start_goes_on(
    gateway: RunningGateway, model: ModelServer, counting: Counting
) -> None:
    cut = asyncio.ensure_future(gateway.chat(HANGS, "s"))
    await gateway.until(lambda: called(counting, "sleep"), "the tool to run")
    await gateway.stop()
    status, body, _ = await cut

    assert (status, body["error"]["code"]) == (503, "turn_interrupted")
    await gateway.start()
    assert await gateway.say("go on", "s") == "pong"
    note, messages = conversation(model)
    assert "stopped or held while it ran" in note
    assert messages[-2:] == [("tool", "outcome unknown"), ("user", "go on")]


async def called(counting: Counting, tool: str) -> bool:
    return tool in counting.calls


async def replaced(gateway: RunningGateway, session: str, generation: int) -> bool:
    owner = await worker_of(gateway, session)
    return bool(owner["state"] == "ready" and owner["generation"] > generation)
