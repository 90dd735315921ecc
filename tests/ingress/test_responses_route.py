"""``POST /v1/responses`` over a socket, in front of a fake gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from fakes.gateway import FakeGateway, completed, failed
from fakes.open_responses import check_response, stream_events
from fakes.served_ingress import Reply, Served, serving

from hermes_actors.wire.refusals import RefusalCode
from workers.turns import Delta, Refusal

RESPONSES = "/v1/responses"
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
EARLIER, OTHER = "turn_3_00112233445566778899aabb", "turn_3_00112233445566778899aacc"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(FakeGateway(Delta(text="it is "), Delta(text="noon"), completed("it is noon"))) as running:
        yield running


async def post(served: Served, given: Any = "hi", /, *, headers: dict[str, str] | None = None, **fields: Any) -> Reply:
    body = orjson.dumps({"model": "any", "input": given, **fields})
    return await served.ask("POST", RESPONSES, body, **{"Content_Type": "application/json", **(headers or {})})


async def test_a_request_gets_a_response_object(served: Served) -> None:
    reply = await post(served, metadata={"a": "b"})

    response = check_response(reply.data)
    assert reply.status == 200
    assert response["id"] == f"resp_{reply.headers['X-Hermes-Turn-Id']}"
    assert response["status"] == "completed"
    assert response["output"][0]["content"][0]["text"] == "it is noon"
    assert response["metadata"] == {"a": "b"}
    assert reply.headers["X-Hermes-Model"] == "gpt-5-mini"


async def test_a_request_gets_a_stream_of_events(served: Served) -> None:
    reply = await post(served, stream=True)

    events = stream_events(reply.body)
    assert reply.headers["Content-Type"] == "text/event-stream"
    assert "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta") == "it is noon"


async def test_instructions_and_parameters_travel_with_the_turn(served: Served) -> None:
    await post(served, instructions="be brief", max_output_tokens=20)

    assert served.gateway.submission.parameters == {"instructions": "be brief", "max_tokens": 20}
    assert served.gateway.submission.stateless


@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        ({"X-Hermes-Session-Id": "s1"}, {}),
        ({}, {"conversation": "s1"}),
        ({"X-Hermes-Session-Id": "s1"}, {"conversation": {"id": "s1"}}),
    ],
)
async def test_a_session_is_named_by_its_header_or_as_the_conversation(
    served: Served, headers: dict[str, str], fields: dict[str, Any]
) -> None:
    reply = await post(served, headers=headers, **fields)

    assert reply.headers["X-Hermes-Session-Id"] == "s1"
    assert served.gateway.submission.key == "api:alice:s1"
    assert not served.gateway.submission.stateless


async def test_a_session_takes_a_result_alone_and_no_session_does_not(served: Served) -> None:
    result = {"type": "function_call_output", "call_id": "c1", "output": "blue"}

    assert (await post(served, [result], headers={"X-Hermes-Session-Id": "s1"})).status == 200
    reply = await post(served, [result])
    assert (reply.status, reply.error["param"], reply.error["code"]) == (400, "input[0].call_id", "no_such_call")


async def test_two_names_for_the_session_are_refused(served: Served) -> None:
    reply = await post(served, headers={"X-Hermes-Session-Id": "s1"}, conversation="s2")

    assert (reply.status, reply.error["param"]) == (400, "conversation")


async def test_a_call_for_the_client_is_an_item(served: Served) -> None:
    served.gateway.events = (completed("", finish_reason="tool_calls", tool_calls=[CALL]),)

    response = check_response((await post(served, tools=[{"type": "function", "name": "look"}])).data)

    assert response["status"] == "completed"
    assert [(item["type"], item["call_id"], item["name"]) for item in response["output"]] == [
        ("function_call", "c1", "look")
    ]


@pytest.mark.parametrize("status", [400, 429, 502, 504])
async def test_a_failed_turn_is_an_error_with_its_status(served: Served, status: int) -> None:
    served.gateway.events = (failed(status),)

    reply = await post(served)

    assert (reply.status, reply.error["code"]) == (status, "provider_error")
    assert reply.headers["x-should-retry"] == "false"


async def test_a_failed_turn_ends_its_stream_as_failed(served: Served) -> None:
    served.gateway.events = (Delta(text="it "), failed())

    assert stream_events((await post(served, stream=True)).body)[-1]["type"] == "response.failed"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_is_not_there_is_an_error_and_no_stream(served: Served, stream: bool) -> None:
    served.gateway.events = (failed(502),)

    reply = await post(served, stream=stream)

    assert (reply.status, reply.error["code"], reply.error["param"]) == (502, "provider_error", "")
    assert reply.headers["x-should-retry"] == "false"


async def test_a_stream_waits_for_a_failure_that_comes_soon(served: Served) -> None:
    served.gateway.held = True
    served.gateway.events = (failed(504),)
    asked = asyncio.create_task(post(served, stream=True))
    await served.gateway.accepted.wait()
    served.gateway.turns[0].go()

    assert (await asked).status == 504


async def test_a_stream_begins_soon_where_the_turn_is_silent(served: Served) -> None:
    served.gateway.held = True
    served.gateway.events = (completed(),)
    async with served.session.post(
        served.url + RESPONSES,
        json={"input": "hi", "stream": True},
        headers={"Authorization": "Bearer key-of-alice"},
    ) as response:
        begun = await response.content.readuntil(b"\n\n")
        served.gateway.turns[0].go()
        body = begun + await response.read()

    assert stream_events(body)[-1]["type"] == "response.completed"


async def test_a_refused_message_is_an_error_before_the_stream(served: Served) -> None:
    served.gateway.refusal = Refusal(RefusalCode.GATEWAY_DRAINING, "draining", 5.0)

    reply = await post(served, stream=True)

    assert (reply.status, reply.error["code"], reply.headers["Retry-After"]) == (503, "gateway_draining", "5")


async def test_a_parked_message_is_a_queued_response(served: Served) -> None:
    served.gateway.parks = True

    reply = await post(
        served, headers={"X-Hermes-When-Draining": "park", "X-Hermes-Session-Id": "s1", "Idempotency-Key": "k"}
    )

    assert reply.status == 202
    assert check_response(reply.data)["status"] == "queued"


async def test_a_replayed_response_has_the_id_of_the_first(served: Served) -> None:
    served.gateway.earlier_turn = EARLIER

    reply = await post(served, headers={"Idempotency-Key": "k"})

    assert reply.data["id"] == f"resp_{EARLIER}"
    assert reply.headers["Idempotency-Replayed"] == "true"


async def test_an_item_of_an_earlier_turn_may_be_named_by_its_id(served: Served) -> None:
    served.gateway.kept[EARLIER] = (Delta(text="I look"), completed("I look", tool_calls=[CALL]))
    named = [{"type": "item_reference", "id": f"{kind}_{EARLIER}_0"} for kind in ("rs", "msg", "fc")]
    result = {"type": "function_call_output", "call_id": "c1", "output": "blue"}

    reply = await post(served, [{"role": "user", "content": "hi"}, *named, result])

    assert reply.status == 200
    _, answer, _ = map(orjson.loads, served.gateway.submission.messages)
    assert (answer["content"], answer["tool_calls"]) == ("I look", [CALL])


async def test_an_item_that_is_not_kept_is_named(served: Served) -> None:
    served.gateway.kept[OTHER] = (completed("no call"),)
    for turn_id in (EARLIER, OTHER):
        named = {"type": "item_reference", "id": f"fc_{turn_id}_0"}
        reply = await post(served, [named, {"role": "user", "content": "hi"}])

        assert (reply.status, reply.error["param"], reply.error["code"]) == (400, "input[0].id", "item_not_found")


async def test_too_many_references_are_refused(served: Served) -> None:
    reply = await post(served, [{"type": "item_reference", "id": "msg_1"}] * 129)

    assert (reply.status, reply.error["param"]) == (400, "input")


async def test_a_body_that_is_no_object_is_refused(served: Served) -> None:
    reply = await served.ask("POST", RESPONSES, b"[]", Content_Type="application/json")

    assert (reply.status, reply.error["code"]) == (400, "invalid_json")


async def test_a_client_that_leaves_abandons_its_turn(served: Served) -> None:
    served.gateway.held = True
    served.gateway.events = (completed(),)
    async with served.session.post(
        served.url + RESPONSES,
        json={"input": "hi", "stream": True},
        headers={"Authorization": "Bearer key-of-alice"},
    ) as response:
        await response.content.readany()
        response.close()
    await served.deserted()

    await served.gateway.turns[0].abandoned.wait()


async def test_the_capabilities_list_the_route(served: Served) -> None:
    capabilities = (await served.ask("GET", "/v1/capabilities")).data

    assert capabilities["features"]["responses_api"]
    assert capabilities["endpoints"]["responses"] == {"method": "POST", "path": RESPONSES}
