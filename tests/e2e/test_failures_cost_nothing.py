"""The founding incident, the other way round: a failed run keeps its agent and tools, a fallback restarts it once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.conftest import Counting, on
from fakes.model_server import ModelServer, call_tools, refuse, say
from fakes.running_gateway import RunningGateway

MODEL_NOT_FOUND = {"error": {"message": "The model `fake-1` does not exist", "code": "model_not_found"}}


@pytest.fixture
async def fallback() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


@pytest.fixture
async def gateway(
    tmp_path: Path, model: ModelServer, fallback: ModelServer, counting: Counting
) -> AsyncIterator[RunningGateway]:
    config = on(
        model,
        fallback_providers=[{"provider": "custom", "model": "fake-2", "base_url": fallback.base_url}],
        mcp_servers={"counting": {**counting.config, "on_stop": "end"}},
    )
    async with RunningGateway(tmp_path / "home", config) as running:
        yield running


async def actor(gateway: RunningGateway, session: str) -> dict[str, Any]:
    return dict((await gateway.ask("sessions.show", session=session))["actor"])


async def connect_tools(gateway: RunningGateway, model: ModelServer, session: str) -> None:
    """A first good turn with a tool, so that there is a connection to lose."""
    await gateway.say("[[tool:pid:{}]]", session)


async def test_a_failed_run_starts_no_tool_server_and_restarts_no_actor(
    gateway: RunningGateway, model: ModelServer, fallback: ModelServer, counting: Counting
) -> None:
    await connect_tools(gateway, model, "a")
    before = await actor(gateway, "a")

    for _ in range(5):
        model.script(refuse(400, MODEL_NOT_FOUND))
        fallback.script(refuse(400, MODEL_NOT_FOUND))
        status, body, _ = await gateway.chat("hello", "a")
        assert status == 400
        assert "model_not_found" in str(body) or "does not exist" in body["error"]["message"]
    await gateway.say("[[tool:pid:{}]]", "a")

    assert len(counting.pids) == 1
    assert counting.calls == ["pid", "pid"]
    assert await actor(gateway, "a") == before
    assert fallback.count == 5, "one request each: nothing is asked twice that cannot change"


async def test_a_run_that_succeeds_on_the_primary_restarts_nothing(gateway: RunningGateway, model: ModelServer) -> None:
    for _ in range(3):
        await gateway.say("hello", "a")

    assert (await actor(gateway, "a"))["restarts"] == 0


async def test_a_run_that_succeeds_on_the_fallback_restarts_its_actor_once_and_keeps_its_tools(
    gateway: RunningGateway, model: ModelServer, fallback: ModelServer, counting: Counting
) -> None:
    await connect_tools(gateway, model, "a")
    model.script(refuse(404, MODEL_NOT_FOUND))
    fallback.script(say("from the fallback"))

    assert await gateway.say("hello", "a") == "from the fallback"
    asked = model.count
    await gateway.say("[[tool:pid:{}]] and again", "a")

    after = await actor(gateway, "a")
    assert (after["restarts"], after["generation"]) == (1, 2)
    assert "fallback" in after["last_restart_reason"]
    assert model.count > asked, "the next message tried the primary first"
    assert fallback.count == 1
    assert len(counting.pids) == 1
    assert counting.calls == ["pid", "pid"], "over the same connection"


async def test_the_fallback_goes_on_where_the_turn_stands(
    gateway: RunningGateway, model: ModelServer, fallback: ModelServer, counting: Counting
) -> None:
    model.script(call_tools(("mcp__counting__echo", '{"text": "kept"}')), refuse(503))
    fallback.script(say("done"))

    assert await gateway.say("hello", "a") == "done"

    assert [message["role"] for message in fallback.last.body["messages"]] == ["user", "assistant", "tool"]
    assert counting.calls == ["echo"]


async def test_a_request_that_is_itself_at_fault_is_not_sent_to_the_fallback_and_poisons_nothing(
    gateway: RunningGateway, model: ModelServer, fallback: ModelServer
) -> None:
    model.script(refuse(400, {"error": {"message": "image too large"}}))

    status, _, _ = await gateway.chat("poison", "a")
    await gateway.say("hello", "a")

    assert status == 400
    assert fallback.count == 0
    assert [message["content"] for message in model.last.body["messages"]] == ["hello"]


async def test_a_message_that_comes_while_the_actor_is_restarted_is_answered(
    gateway: RunningGateway, model: ModelServer, fallback: ModelServer
) -> None:
    model.script(refuse(404, MODEL_NOT_FOUND))
    gate = asyncio.Event()
    fallback.script(say("first", gate=gate))
    first = asyncio.ensure_future(gateway.chat("one", "a"))
    await fallback.until(lambda: fallback.count == 1)
    second = asyncio.ensure_future(gateway.chat("two", "a"))
    gate.set()

    assert [status for status, _, _ in await asyncio.gather(first, second)] == [200, 200]
    assert (await actor(gateway, "a"))["restarts"] == 1
    assert model.count == 2


async def test_a_primary_that_says_when_it_is_back_is_left_alone_until_then(
    gateway: RunningGateway, model: ModelServer, fallback: ModelServer
) -> None:
    model.script(refuse(429, headers={"Retry-After": "600"}))

    for _ in range(3):
        await gateway.say("hello", "a")

    assert (model.count, fallback.count) == (1, 3)


async def test_a_reload_that_leaves_the_models_alone_keeps_what_they_said(
    gateway: RunningGateway, model: ModelServer, fallback: ModelServer
) -> None:
    model.script(refuse(429, headers={"Retry-After": "3600"}))
    await gateway.say("hello", "a")
    file = gateway.home / "config.yaml"
    config = yaml.safe_load(file.read_text())

    file.write_text(yaml.safe_dump(config | {"agent": {**config["agent"], "max_turns": 7}}))
    assert (await gateway.ask("reload"))["changes"]
    await gateway.say("hello", "a")
    assert (model.count, fallback.count) == (1, 2)

    file.write_text(yaml.safe_dump(config | {"model": {**config["model"], "inter_token_timeout": 7}}))
    assert (await gateway.ask("reload"))["changes"]
    await gateway.say("hello", "a")
    assert (model.count, fallback.count) == (2, 2)


async def test_a_chosen_model_is_asked_for_and_restarts_nothing(gateway: RunningGateway, model: ModelServer) -> None:
    told = await gateway.say("/model fake-9", "a")
    await gateway.say("hello", "a")

    assert "fake-9" in told
    assert model.last.body["model"] == "fake-9"
    assert (await actor(gateway, "a"))["restarts"] == 0


async def test_stop_ends_the_running_turn_for_good_and_kills_its_tool(
    gateway: RunningGateway, model: ModelServer, counting: Counting
) -> None:
    running = asyncio.ensure_future(gateway.chat('[[tool:sleep:{"seconds": 600}]]', "a"))
    await gateway.until(lambda: called(counting, "sleep"), "the tool to be called")

    told = await gateway.say("/stop", "a")
    status, body, _ = await running

    assert "stopped" in told.lower()
    assert status >= 400
    assert body["error"]["code"] == "turn_cancelled"
    await gateway.until(lambda: gone(counting.pids[0]), "the tool's process to be gone")
    assert await gateway.say("go on", "a") == "pong"


async def called(counting: Counting, tool: str) -> bool:
    return tool in counting.calls


async def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


async def test_status_answers_while_a_turn_runs_and_help_without_a_model(
    gateway: RunningGateway, model: ModelServer
) -> None:
    running = asyncio.ensure_future(gateway.chat("[[hang]]", "a"))
    await model.until(lambda: model.in_flight == 1)

    status = await gateway.say("/status", "a")
    await gateway.say("/help", "a")
    await gateway.say("/stop", "a")
    await running

    assert "running" in status
    assert model.count == 1


async def test_reset_begins_a_fresh_conversation_under_the_same_name(
    gateway: RunningGateway, model: ModelServer
) -> None:
    await gateway.say("remember this", "a")
    _, before = await gateway.ctl_json("sessions", "show", "a")

    await gateway.say("/reset", "a")
    await gateway.say("hello", "a")

    _, after = await gateway.ctl_json("sessions", "show", "a")
    assert before["session_id"] != after["session_id"]
    assert [message["content"] for message in model.last.body["messages"]] == ["hello"]


async def test_retry_sends_the_last_message_again_in_place_of_the_failed_one(
    gateway: RunningGateway, model: ModelServer
) -> None:
    await gateway.say("first", "a")
    model.script(refuse(400, {"error": {"message": "not today"}}))
    await gateway.chat("second", "a")

    assert await gateway.say("/retry", "a") == "pong"

    assert [message["content"] for message in model.last.body["messages"]] == ["first", "pong", "second"]
    _, page, _ = await gateway.request("GET", "/api/sessions/a/messages")
    assert [row["message"]["content"] for row in page["data"]] == ["first", "pong", "second", "pong"]
