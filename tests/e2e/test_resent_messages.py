"""What client libraries send again by themselves, against a real gateway with two workers, counted at the model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from e2e.conftest import on
from e2e.test_deaths import SHARDS, kill_worker, session_on
from fakes.model_server import ModelServer, refuse, say
from fakes.running_gateway import RunningGateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIMEOUT_S = 0.5  # of the client: shorter than the turn, which ends when the test says so


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(model: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    config = on(model, supervisor={"workers": 2, "shards": SHARDS})
    async with RunningGateway(tmp_path_factory.mktemp("resent") / "home", config) as running:
        yield running


async def said(gateway: RunningGateway, session: str) -> list[str]:
    """What the transcript has of people."""
    _, page, _ = await gateway.request("GET", f"/api/sessions/{session}/messages")
    return [row["message"]["content"] for row in page["data"] if row["message"]["role"] == "user"]


@pytest.mark.parametrize("slot", [0, 1], ids=["at the owner", "through another worker"])
async def test_a_client_that_times_out_and_sends_again_gets_the_answer_of_its_one_turn(
    gateway: RunningGateway, model: ModelServer, slot: int
) -> None:
    name = await session_on(gateway, slot)
    end, asked = asyncio.Event(), model.count
    model.script(say("at last", gate=end))

    async with gateway.openai(timeout=TIMEOUT_S).with_options(max_retries=8) as client:
        answer: asyncio.Future[Any] = asyncio.ensure_future(
            client.chat.completions.with_raw_response.create(
                model="x",
                messages=[{"role": "user", "content": "take your time"}],
                extra_headers={"X-Hermes-Session-Id": name},
            )
        )
        await model.until(lambda: model.count == asked + 1)
        done, _ = await asyncio.wait((answer,), timeout=3 * TIMEOUT_S)  # it sends again meanwhile
        assert not done
        end.set()
        response = await answer

    assert response.parse().choices[0].message.content == "at last"
    assert response.headers["Idempotency-Replayed"] == "true"
    assert model.count == asked + 1
    assert (await said(gateway, name)).count("take your time") == 1


async def test_a_message_that_failed_and_is_sent_again_is_in_the_transcript_once(
    gateway: RunningGateway, model: ModelServer
) -> None:
    model.script(refuse(400), refuse(400))
    for _ in range(2):
        status, _, _ = await gateway.chat("once more", "failing")
        assert status == 400

    assert await gateway.say("once more", "failing") == "pong"

    assert await said(gateway, "failing") == ["once more"]
    assert [message["content"] for message in model.last.body["messages"]] == ["once more"]


async def test_a_turn_that_a_crash_cut_does_not_run_when_its_message_is_sent_again(
    gateway: RunningGateway, model: ModelServer
) -> None:
    name = await session_on(gateway, 0)
    async with gateway.landing_on(1) as via:
        asked = model.count
        model.script(say("never", gate=asyncio.Event()))
        cut = asyncio.ensure_future(gateway.chat("do it", name, via=via))
        await model.until(lambda: model.count == asked + 1)
        await kill_worker(gateway, 0)
        first_status, first, _ = await cut

        status, again, headers = await gateway.chat("do it", name, via=via)
        last_status, last, _ = await gateway.chat("do it", name, via=via)

    assert (status, first_status) == (503, 503)
    assert again["error"]["code"] == first["error"]["code"] == "turn_interrupted"
    assert headers["Idempotency-Replayed"] == "true"
    assert (last_status, last["error"]["code"]) == (400, "turn_interrupted"), "which no library sends again"
    assert model.count == asked + 1
    await gateway.say("go on", name)
    assert (await said(gateway, name))[-2:] == ["do it", "go on"]


async def test_a_turn_that_was_stopped_runs_again_when_a_person_says_so(
    gateway: RunningGateway, model: ModelServer
) -> None:
    asked = model.count
    model.script(say("never", gate=asyncio.Event()))
    running = asyncio.ensure_future(gateway.chat("long work", "stopped"))
    await model.until(lambda: model.count == asked + 1)
    await gateway.say("/stop", "stopped")
    status, body, _ = await running

    assert (status, body["error"]["code"]) == (400, "turn_cancelled")
    assert await gateway.say("long work", "stopped") == "pong"
    assert model.count == asked + 2
