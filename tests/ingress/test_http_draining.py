"""What callers and load balancers see of a drain."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fakes.gateway import FakeGateway, completed
from fakes.served_ingress import HI, KEYS, NOW, Served, serving, sse_events
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from hermes_actors.wire.refusals import RefusalCode
from workers.turns import Delta, GatewayDraining, Refusal

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "what time is it?"}]
STREAM = {**HI, "stream": True}
DRAINING = GatewayDraining(reason="restart_timeout", deadline=NOW + 60, text="The gateway restarts.")
PARK = {"X_Hermes_When_Draining": "park", "X_Hermes_Session_Id": "one", "Idempotency_Key": "k"}


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    gateway = FakeGateway(Delta(text="it "), DRAINING, Delta(text="is noon"), completed("it is noon"))
    async with serving(gateway) as running:
        yield running


# -- readiness and refusals ---------------------------------------------------------------------------------------


async def test_a_gateway_that_drains_is_healthy_and_not_ready_and_says_so(served: Served) -> None:
    assert (await served.ask("GET", "/health", key=None)).data == {"status": "ok"}
    served.gateway.ready, served.gateway.draining = False, True

    ready, health = await served.ask("GET", "/readyz", key=None), await served.ask("GET", "/health", key=None)

    assert (ready.status, ready.data) == (503, {"status": "draining"})
    assert (health.status, health.data) == (200, {"status": "ok", "draining": True})


async def test_a_message_that_is_refused_says_when_to_come_back(served: Served) -> None:
    served.gateway.refusal = Refusal(RefusalCode.GATEWAY_DRAINING, "The gateway restarts.", 64.2)

    reply = await served.chat()

    assert (reply.status, reply.error["code"]) == (503, "gateway_draining")
    assert reply.headers["Retry-After"] == "65"


# -- streams ------------------------------------------------------------------------------------------------------


async def test_a_stream_is_told_of_the_drain_between_its_chunks_and_goes_on(served: Served) -> None:
    events = sse_events((await served.chat(STREAM)).body)

    names = [name for name, _ in events]
    told = events[names.index("hermes.gateway.draining")][1]
    assert (told["reason"], told["deadline"], told["message"]) == ("restart_timeout", NOW + 60, "The gateway restarts.")
    assert (told["object"], told["choices"][0]["delta"]) == ("chat.completion.chunk", {})
    assert told["choices"][0]["finish_reason"] is None
    assert names.index("hermes.gateway.draining") == 2
    assert events[-1] == ("", "[DONE]")


@pytest.mark.parametrize("include_usage", [False, True])
async def test_the_official_client_takes_no_notice_of_it(served: Served, include_usage: bool) -> None:
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key=KEYS["alice"]) as client:
        plain = await client.chat.completions.create(model="any", messages=MESSAGES, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in plain])
        async with client.chat.completions.stream(
            model="any", messages=MESSAGES, stream_options={"include_usage": include_usage}
        ) as stream:
            answer = await stream.get_final_completion()

    assert text == answer.choices[0].message.content == "it is noon"


# -- parked messages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [HI, STREAM], ids=["whole", "stream"])
async def test_a_parked_message_is_answered_with_its_turn_and_when_to_ask_for_it(
    served: Served, body: dict[str, object]
) -> None:
    served.gateway.parks = True

    reply = await served.chat(body, **PARK)

    turn_id = served.gateway.submission.turn_id
    assert reply.status == 202
    assert reply.data == {"id": turn_id, "object": "hermes.turn", "status": "queued", "session_id": "one"}
    assert reply.headers["X-Hermes-Turn-Id"] == turn_id
    assert reply.headers["Retry-After"] == "8"
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["X-Hermes-Session-Id"] == "one"
    assert "Idempotency-Replayed" not in reply.headers


async def test_a_message_that_was_parked_before_is_told_as_the_same_turn(served: Served) -> None:
    served.gateway.parks, served.gateway.earlier_turn = True, "turn_earlier"

    reply = await served.chat(HI, **PARK)

    assert (reply.status, reply.data["id"]) == (202, "turn_earlier")
    assert reply.headers["Idempotency-Replayed"] == "true"


async def test_without_a_drain_the_header_changes_nothing(served: Served) -> None:
    reply = await served.chat(HI, **PARK)

    assert reply.status == 200
    assert served.gateway.submission.park
    await served.chat(X_Hermes_Session_Id="one")
    assert not served.gateway.submission.park


@pytest.mark.parametrize("value", ["wait", "Park", "", "park, park"])
async def test_another_value_of_the_header_is_named(served: Served, value: str) -> None:
    reply = await served.chat(HI, **{**PARK, "X_Hermes_When_Draining": value})

    assert (reply.status, reply.error["param"]) == (400, "X-Hermes-When-Draining")
    assert "one value: park" in reply.error["message"]
    assert served.gateway.submissions == []


@pytest.mark.parametrize("missing", ["X_Hermes_Session_Id", "Idempotency_Key"])
async def test_a_message_whose_result_nobody_could_ask_for_is_not_parked(served: Served, missing: str) -> None:
    reply = await served.chat(HI, **{name: value for name, value in PARK.items() if name != missing})

    assert (reply.status, reply.error["code"]) == (400, "missing_header")
    assert reply.error["param"] == missing.replace("_", "-")
    assert served.gateway.submissions == []


async def test_a_gateway_that_cannot_store_is_alive_and_not_ready(served: Served) -> None:
    served.gateway.stores = False

    ready, health = await served.ask("GET", "/readyz", key=None), await served.ask("GET", "/health", key=None)

    assert (ready.status, ready.data) == (503, {"status": "not_ready", "reason": "store_failed"})
    assert health.status == 200
