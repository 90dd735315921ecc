"""What people and their client libraries meet: the official client, callers that leave, keys, sessions of their own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest
from e2e.conftest import DEMO, on
from e2e.test_deaths import session_on
from fakes.model_server import ModelServer, say
from fakes.running_gateway import BOUND_S, KEY, RunningGateway

from workers.worker import INGRESS_CLOSE_S


def ask(client: openai.OpenAI, text: str, **more: Any) -> Any:
    return client.chat.completions.create(model="x", messages=[{"role": "user", "content": text}], **more)


async def test_the_synchronous_client_talks_streams_and_ignores_tool_progress(demo: RunningGateway) -> None:
    def talk() -> tuple[str, str]:
        with openai.OpenAI(base_url=f"{demo.url}/v1", api_key=KEY, max_retries=0) as client:
            whole = ask(client, "hello").choices[0].message.content
            stream = ask(client, 'call get_current_time {"timezone": "UTC"}', stream=True)
            return whole, "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

    whole, streamed = await asyncio.wait_for(asyncio.to_thread(talk), BOUND_S)

    assert whole == "You said: hello"
    assert "UTC" in streamed


async def test_a_provider_that_refuses_is_told_in_words_and_status(gateway: RunningGateway) -> None:
    async with gateway.openai() as client:
        with pytest.raises(openai.BadRequestError) as failed:
            await client.chat.completions.create(
                model="x",
                messages=[{"role": "user", "content": "[[http:401]]"}],
                extra_headers={"X-Hermes-Session-Id": "a"},
            )

    assert failed.value.status_code == 400
    for part in ("custom", "fake-1", "401", "What to do"):
        assert part in str(failed.value)
    assert await gateway.say("and now?", "a") == "pong"


async def test_a_stateless_caller_that_leaves_cancels_its_turn(gateway: RunningGateway, model: ModelServer) -> None:
    leaving = asyncio.ensure_future(gateway.chat("[[hang]]"))
    await model.until(lambda: model.in_flight == 1)

    leaving.cancel()

    await model.until(lambda: model.aborted == 1)


async def test_a_stateful_turn_whose_caller_left_is_found_in_the_transcript(
    gateway: RunningGateway, model: ModelServer
) -> None:
    gate = asyncio.Event()
    model.script(say("finished anyway", gate=gate))
    leaving = asyncio.ensure_future(gateway.chat("long work", "a"))
    await model.until(lambda: model.count == 1)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    gate.set()

    await gateway.say("and?", "a")

    assert [message["content"] for message in model.last.body["messages"]] == ["long work", "finished anyway", "and?"]


async def test_a_session_belongs_to_the_key_that_made_it(tmp_path: Path) -> None:
    keys = {"alice": {"key_env": "ALICE_KEY"}, "bob": {"key_env": "BOB_KEY"}}
    config = {**DEMO, "api_server": {"key_env": None, "keys": keys}}
    environ = {"ALICE_KEY": "alice-0123456789", "BOB_KEY": "bob-0123456789"}
    body = {"messages": [{"role": "user", "content": "hi"}]}
    mine = {"X-Hermes-Session-Id": "diary"}
    async with RunningGateway(tmp_path / "home", config, environ=environ) as gateway:
        made, _, _ = await gateway.request("POST", "/v1/chat/completions", body, key="alice-0123456789", headers=mine)
        hers, page, _ = await gateway.request("GET", "/api/sessions", key="alice-0123456789")
        his, empty, _ = await gateway.request("GET", "/api/sessions", key="bob-0123456789")
        foreign, _, _ = await gateway.request("GET", "/api/sessions/diary/messages", key="bob-0123456789")
        refused, _, _ = await gateway.request("GET", "/api/sessions", key="nobody-0123456789")

    assert (made, hers, his, foreign, refused) == (200, 200, 200, 404, 401)
    assert [session["id"] for session in page["data"]] == ["diary"]
    assert empty["data"] == []


async def test_a_deleted_session_is_gone_and_its_name_starts_anew(demo: RunningGateway) -> None:
    await demo.say("remember me", "a")

    gone, body, _ = await demo.request("DELETE", "/api/sessions/a")
    missing, _, _ = await demo.request("GET", "/api/sessions/a")
    await demo.say("hello", "a")
    _, page, _ = await demo.request("GET", "/api/sessions/a/messages")

    assert (gone, missing) == (200, 404)
    assert body["deleted"] is True
    assert [row["message"]["content"] for row in page["data"]] == ["hello", "You said: hello"]


async def test_a_session_sleeps_when_idle_and_wakes_with_its_transcript_and_without_its_tools(
    tmp_path: Path, model: ModelServer, counting: Any
) -> None:
    config = on(model, mcp_servers={"counting": counting.config}, sessions={"idle_ttl_seconds": 0.2})
    async with RunningGateway(tmp_path / "home", config) as gateway:
        await gateway.say("[[tool:pid:{}]]", "a")
        await gateway.until(lambda: resident(gateway, 0), "the session to sleep")
        await gateway.say("still there?", "a")
        assert len(counting.pids) == 1, "a turn that calls no tool starts no server"

    assert model.last.body["messages"][0]["content"] == "[[tool:pid:{}]]"
    assert len(model.last.body["messages"]) == 5


async def resident(gateway: RunningGateway, number: int) -> bool:
    return sum(int(worker["resident"]) for worker in await gateway.workers()) == number


async def test_a_transcript_is_whole_after_a_stop_and_a_start(tmp_path: Path, model: ModelServer) -> None:
    gateway = RunningGateway(tmp_path / "home", on(model))
    await gateway.start()
    await gateway.say("before", "a")
    assert await gateway.stop() == 0

    async with gateway:
        await gateway.say("after", "a")

    assert [message["content"] for message in model.last.body["messages"]] == ["before", "pong", "after"]


async def test_a_stop_lets_running_turns_end_wherever_they_landed_and_refuses_new_ones(
    gateway: RunningGateway, model: ModelServer
) -> None:
    gate = asyncio.Event()
    name = await session_on(gateway, 1)
    async with gateway.landing_on(0) as via, gateway.landing_on(1) as probe:
        model.script(say("ended in peace", gate=gate))
        running = asyncio.ensure_future(gateway.chat("last words", name, via=via))
        await model.until(lambda: model.in_flight == 1)
        stopping = asyncio.ensure_future(gateway.stop())
        await gateway.until(lambda: refuses(gateway, probe), "the gateway to refuse new turns")
        await asyncio.sleep(INGRESS_CLOSE_S + 0.5)  # longer than an answer gets that is ready to leave
        gate.set()
        status, body, _ = await running

    assert (status, body["choices"][0]["message"]["content"]) == (200, "ended in peace")
    assert await stopping == 0


async def refuses(gateway: RunningGateway, via: Any) -> bool:
    status, _, headers = await gateway.chat("one more", "b", via=via)
    return status == 503 and "Retry-After" in headers


async def test_a_second_signal_stops_at_once(gateway: RunningGateway, model: ModelServer) -> None:
    running = asyncio.ensure_future(gateway.chat("[[hang]]", "a"))
    await model.until(lambda: model.in_flight == 1)
    first = asyncio.ensure_future(gateway.stop())
    await gateway.until(lambda: drains(gateway), "the stop to begin")

    second = await gateway.stop()

    assert (await first, second) == (0, 0)
    assert (await running)[0] == 503


async def drains(gateway: RunningGateway) -> bool:
    status = await gateway.ask("status")
    return bool(status["phase"] == "draining")


async def test_a_broken_shard_file_is_set_aside_loudly_and_everything_serves(tmp_path: Path) -> None:
    gateway = RunningGateway(tmp_path / "home", DEMO)
    await gateway.start()
    await gateway.say("hello", "a")
    await gateway.stop()
    for path in (tmp_path / "home/state/shards").glob("00.db*"):
        path.write_bytes(b"not a database at all" * 1000)

    async with gateway:
        for name in "abcdefghij":
            await gateway.say("hello", name)
        status = await gateway.ask("status")

    (broken,) = status["shards"]["broken"]
    assert broken["shard"] == 0
    assert broken["serving"]
    assert Path(broken["set_aside"]).exists()
