"""``hermes-actors-bare``: the model alone, for titles, tags and the like."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from fakes.gateway import FakeGateway, completed
from fakes.open_responses import check_response
from fakes.served_ingress import HI, Reply, Served, serving, sse_events

from workers.turns import Delta

BARE: dict[str, Any] = HI | {"model": "hermes-actors-bare"}
IN_A_SESSION = {"X_Hermes_Session_Id": "s", "Idempotency_Key": "k"}


async def respond(served: Served, headers: dict[str, str] | None = None, **fields: Any) -> Reply:
    body = orjson.dumps({"model": "hermes-actors-bare", "input": "hi", **fields})
    return await served.ask("POST", "/v1/responses", body, **{"Content_Type": "application/json", **(headers or {})})


async def test_it_is_a_model_of_the_api() -> None:
    async with serving() as served:
        listed = (await served.ask("GET", "/v1/models")).data["data"]
        alone = (await served.ask("GET", "/v1/models/hermes-actors-bare")).data

    assert [model["id"] for model in listed] == ["hermes-actors", "hermes-actors-bare"]
    assert listed[1] == alone


async def test_it_answers_under_its_name_and_keeps_nothing() -> None:
    async with serving() as served:
        reply = await served.chat(BARE)

    sent = served.gateway.submission
    assert reply.data["model"] == "hermes-actors-bare"
    assert sent.key.startswith("bare:alice:")
    assert (sent.stateless, sent.response) == (True, None)
    assert "X-Hermes-Ignored" not in reply.headers


@pytest.mark.parametrize("park", [False, True])
async def test_a_session_that_is_named_is_not_used_and_the_answer_says_so(park: bool) -> None:
    async with serving() as served:
        headers = IN_A_SESSION | ({"X_Hermes_When_Draining": "park"} if park else {})
        reply = await served.chat(BARE, **headers)

    sent = served.gateway.submission
    assert (sent.stateless, sent.idempotency_key, sent.park) == (True, None, False)
    assert reply.headers["X-Hermes-Ignored"] == "X-Hermes-Session-Id"
    assert "X-Hermes-Session-Id" not in reply.headers


async def test_it_streams() -> None:
    async with serving(FakeGateway(Delta(text="A title"), completed("A title"))) as served:
        reply = await served.chat(BARE | {"stream": True}, X_Hermes_Session_Id="s")

    chunks = [data for _, data in sse_events(reply.body) if data != "[DONE]"]
    assert {chunk["model"] for chunk in chunks} == {"hermes-actors-bare"}
    assert reply.headers["X-Hermes-Ignored"] == "X-Hermes-Session-Id"


async def test_its_responses_are_not_stored() -> None:
    async with serving() as served:
        reply = await respond(served, {"X_Hermes_Session_Id": "s"}, conversation="c")

    response = check_response(reply.data)
    assert (response["model"], response["store"]) == ("hermes-actors-bare", False)
    assert served.gateway.submission.key.startswith("bare:")
    assert served.gateway.submission.response is None
    assert reply.headers["X-Hermes-Ignored"] == "X-Hermes-Session-Id"


@pytest.mark.parametrize("fields", [{"background": True}, {"previous_response_id": "resp_turn_1"}])
async def test_it_has_no_responses_to_come_back_to(fields: dict[str, Any]) -> None:
    async with serving() as served:
        reply = await respond(served, **fields)

    assert (reply.status, reply.error["param"]) == (400, next(iter(fields)))


async def test_it_has_no_runs() -> None:
    async with serving() as served:
        body = orjson.dumps({"input": "hi", "model": "hermes-actors-bare"})
        reply = await served.ask("POST", "/v1/runs", body, Content_Type="application/json")

    assert (reply.status, reply.error["param"]) == (400, "model")
