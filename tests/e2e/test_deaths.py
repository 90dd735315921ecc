"""Real processes, really killed: what was accepted is settled, nothing survives its owner, others notice nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from e2e.conftest import Counting, on
from fakes.model_server import ModelServer, say
from fakes.running_gateway import BOUND_S, KEY, RunningGateway

from hermes_actors.wire.sharding import shard_of

SHARDS = 8


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def worker_of(gateway: RunningGateway, session: str) -> dict[str, Any]:
    """The worker that owns a session."""
    shard = shard_of(f"api:default:{session}", SHARDS)
    return next(worker for worker in await gateway.workers() if shard in worker["shards"])


async def session_on(gateway: RunningGateway, slot: int) -> str:
    """A session name that a worker owns."""
    names = (f"s{number}" for number in range(100))
    owners = {name: (await worker_of(gateway, name))["slot"] for name in [next(names) for _ in range(20)]}
    return next(name for name, owner in owners.items() if owner == slot)


async def kill_worker(gateway: RunningGateway, slot: int) -> None:
    worker = next(worker for worker in await gateway.workers() if worker["slot"] == slot)
    process = psutil.Process(worker["pid"])
    process.kill()
    await asyncio.to_thread(process.wait, BOUND_S)


async def test_a_killed_workers_sessions_answer_again_with_their_transcripts(
    gateway: RunningGateway, model: ModelServer
) -> None:
    name = await session_on(gateway, 0)
    await gateway.say("before", name)
    before = await worker_of(gateway, name)

    await kill_worker(gateway, 0)
    await gateway.say("after", name)  # waits for the replacement

    after = await worker_of(gateway, name)
    assert after["generation"] == before["generation"] + 1
    assert [message["content"] for message in model.last.body["messages"]] == ["before", "pong", "after"]


async def test_other_sessions_are_served_and_no_connection_is_refused_while_a_worker_is_replaced(
    gateway: RunningGateway,
) -> None:
    other = await session_on(gateway, 1)
    await gateway.say("hi", other)
    await kill_worker(gateway, 0)

    answers = await asyncio.gather(*(gateway.chat("hi", other, Connection="close") for _ in range(3)))
    more = [await gateway.chat(str(n), other, Connection="close") for n in range(20)]

    assert {status for status, _, _ in [*answers, *more]} == {200}


async def test_a_turn_cut_by_a_crash_is_interrupted_told_and_never_run_again(
    gateway: RunningGateway, model: ModelServer
) -> None:
    name = await session_on(gateway, 0)
    async with gateway.landing_on(1) as via:
        asked = model.count
        model.script(say("never", gate=asyncio.Event()))
        cut = asyncio.ensure_future(gateway.chat("[[tool:echo:{}]] hold", name, via=via))
        await model.until(lambda: model.count == asked + 1)
        await kill_worker(gateway, 0)
        status, body, headers = await cut

    assert status == 503
    assert body["error"]["code"] == "turn_interrupted"
    assert headers["x-should-retry"] == "false"
    await gateway.say("go on", name)
    note, *conversation = [message["content"] for message in model.last.body["messages"]]
    assert "a process of the gateway died" in note
    assert conversation == ["[[tool:echo:{}]] hold", "go on"]
    assert model.count == asked + 2


async def test_a_stream_cut_by_a_crash_ends_with_an_error_event(gateway: RunningGateway, model: ModelServer) -> None:
    name = await session_on(gateway, 0)
    async with gateway.landing_on(1) as via:
        model.script(say("some words then nothing", gate=asyncio.Event()))
        async with via.post(
            f"{gateway.url}/v1/chat/completions",
            json={"model": "x", "stream": True, "messages": [{"role": "user", "content": "hi"}]},
            headers={"Authorization": f"Bearer {KEY}", "X-Hermes-Session-Id": name},
        ) as stream:
            async for line in stream.content:
                if b'"some' in line:
                    break
            await kill_worker(gateway, 0)
            rest = await asyncio.wait_for(stream.content.read(), BOUND_S)

    assert b"turn_interrupted" in rest


async def test_a_message_that_waited_when_its_worker_died_is_answered_once_by_the_next(
    gateway: RunningGateway, model: ModelServer
) -> None:
    name = await session_on(gateway, 0)
    async with gateway.landing_on(1) as first_via, gateway.landing_on(1) as second_via:
        asked = model.count
        model.script(say("never", gate=asyncio.Event()))
        cut = asyncio.ensure_future(gateway.chat("first", name, via=first_via))
        await model.until(lambda: model.count == asked + 1)
        waiting = asyncio.ensure_future(gateway.chat("second", name, via=second_via))
        await gateway.until(lambda: queued(gateway, 1), "the second message to wait")
        await kill_worker(gateway, 0)

        assert (await cut)[0] == 503
        status, body, _ = await waiting

    assert status == 200
    assert body["choices"][0]["message"]["content"] == "pong"
    assert model.count == asked + 2


async def queued(gateway: RunningGateway, number: int) -> bool:
    return sum(int(worker["queued"]) for worker in await gateway.workers()) == number


async def test_an_idempotency_key_still_answers_after_its_worker_died(
    gateway: RunningGateway, model: ModelServer
) -> None:
    name = await session_on(gateway, 0)
    _, first, _ = await gateway.chat("pay", name, Idempotency_Key="k")
    asked = model.count
    await kill_worker(gateway, 0)

    status, again, headers = await gateway.chat("pay", name, Idempotency_Key="k")

    assert (status, again["id"]) == (200, first["id"])
    assert headers["Idempotency-Replayed"] == "true"
    assert model.count == asked


async def test_tool_servers_of_a_killed_worker_are_gone_with_their_children(
    gateway: RunningGateway, counting: Counting
) -> None:
    name = await session_on(gateway, 0)
    child = int((await gateway.say('[[tool:spawn_child:{"seconds": 600}]]', name)).split(": ")[1])
    (server,) = counting.pids
    assert alive(server)
    assert alive(child)

    await kill_worker(gateway, 0)

    await gateway.until(lambda: all_gone([server, child]), "the tool processes to be gone")


async def all_gone(pids: list[int]) -> bool:
    return not any(alive(pid) for pid in pids)


async def test_a_hung_worker_is_replaced(gateway: RunningGateway) -> None:
    worker = next(worker for worker in await gateway.workers() if worker["slot"] == 0)
    name = await session_on(gateway, 0)

    os.kill(worker["pid"], signal.SIGSTOP)

    await gateway.until(lambda: replaced(gateway, worker), "the hung worker to be replaced")
    await gateway.say("hi", name)


async def replaced(gateway: RunningGateway, worker: dict[str, Any]) -> bool:
    now = next(other for other in await gateway.workers() if other["slot"] == worker["slot"])
    return bool(now["generation"] > worker["generation"] and now["state"] == "ready")


async def test_nothing_survives_a_killed_supervisor_and_the_next_start_has_everything(
    tmp_path: Path, model: ModelServer, counting: Counting
) -> None:
    gateway = RunningGateway(tmp_path / "home", on(model, mcp_servers={"counting": counting.config}))
    await gateway.start()
    for name in ("a", "b", "c", "d"):
        await gateway.say("[[tool:pid:{}]]", name)
    everything = [process.pid for process in gateway.processes()] + counting.pids

    gateway.kill()

    await gateway.ended()
    await gateway.until(lambda: all_gone(everything), "all processes to be gone")
    await gateway.start()
    await gateway.say("after", "a")
    assert model.last.body["messages"][0]["content"] == "[[tool:pid:{}]]"
    assert await gateway.stop() == 0


async def test_a_running_turn_is_settled_when_everything_is_killed_at_once(tmp_path: Path, model: ModelServer) -> None:
    gateway = RunningGateway(tmp_path / "home", on(model))
    await gateway.start()
    model.script(say("never", gate=asyncio.Event()))
    cut = asyncio.ensure_future(gateway.chat("hold", "a"))
    await model.until(lambda: model.count == 1)

    for process in gateway.processes():
        process.kill()
    with pytest.raises(aiohttp.ClientError):
        await cut
    await gateway.ended()

    await gateway.start()
    await gateway.until(lambda: settled(gateway, "a"), "the turn to be settled")
    assert await gateway.say("go on", "a") == "pong"
    assert model.count == 2
    await gateway.stop()


async def settled(gateway: RunningGateway, name: str) -> bool:
    session = await gateway.ask("sessions.show", session=name)
    return bool(session["turns"].get("interrupted") == 1 and not session["turns"].get("running"))
