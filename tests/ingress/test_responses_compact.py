"""``POST /v1/responses/compact``, in front of a fake gateway, and what becomes of its item in a later request."""

from __future__ import annotations

from typing import Any

import openresponses_types.types as spec
import orjson
import pytest
from fakes.gateway import FakeGateway, completed, failed
from fakes.served_ingress import Reply, Served, serving

from workers.models.summary import PIECE_BYTES, SUMMARISE
from workers.turns import KeptResponse, TurnHistory, TurnView

TURN = "turn_3_00112233445566778899aabb"
SAID: list[dict[str, Any]] = [
    {"role": "user", "content": "My name is Ada."},
    {"role": "assistant", "content": "Hello Ada."},
]


async def post(served: Served, path: str, **fields: Any) -> Reply:
    body = orjson.dumps({"model": "any", **fields})
    return await served.ask("POST", path, body, Content_Type="application/json")


def kept(key: str) -> KeptResponse:
    view = TurnView(
        turn_id=TURN,
        key=key,
        stateless=key.startswith("conv:"),
        state="completed",
        created_at=7.0,
        ended=completed("Hello Ada."),
        ended_at=8.0,
    )
    return KeptResponse(turn=view, asked={}, messages=[orjson.dumps(SAID[0])])


async def test_a_conversation_becomes_one_item_that_the_model_alone_has_written() -> None:
    async with serving(FakeGateway(completed("The person is Ada."))) as served:
        reply = await post(served, "/v1/responses/compact", input=SAID)

    compacted = reply.data
    spec.CompactResource.model_validate(compacted)
    assert [item["type"] for item in compacted["output"]] == ["compaction"]
    assert compacted["usage"]["total_tokens"] == 5
    asked = served.gateway.submission
    assert asked.key.startswith("bare:")
    assert asked.parameters == {"instructions": SUMMARISE}
    assert "Person: My name is Ada.\\nAssistant: Hello Ada." in asked.messages[0].decode()


async def test_the_item_stands_for_what_it_summarises_in_a_later_request() -> None:
    async with serving(FakeGateway(completed("The person is Ada."))) as served:
        (item,) = (await post(served, "/v1/responses/compact", input=SAID)).data["output"]
        reply = await post(served, "/v1/responses", input=[item, {"role": "user", "content": "Who am I?"}])

    assert reply.status == 200
    note, question = (orjson.loads(row) for row in served.gateway.submission.messages)
    assert note["role"] == "user"
    assert "The person is Ada." in note["content"]
    assert question["content"] == "Who am I?"


async def test_a_stored_response_is_compacted_by_its_id() -> None:
    async with serving(FakeGateway(completed("The person is Ada."))) as served:
        served.gateway.responses[TURN] = kept("conv:alice:1")
        reply = await post(served, "/v1/responses/compact", previous_response_id=f"resp_{TURN}")

    assert reply.status == 200
    assert "Assistant: Hello Ada." in served.gateway.submission.messages[0].decode()


async def test_a_long_conversation_is_summarised_piece_by_piece() -> None:
    said = [{"role": "user", "content": f"{number} " + "x" * 1500} for number in range(PIECE_BYTES * 2 // 1500)]
    async with serving(FakeGateway(completed("so far"))) as served:
        reply = await post(served, "/v1/responses/compact", input=said)

    assert reply.status == 200
    assert len(served.gateway.submissions) >= 2
    assert "Summary of what came before:\\nso far" in served.gateway.submission.messages[0].decode()
    assert reply.data["usage"]["total_tokens"] == 5 * len(served.gateway.submissions)


async def test_a_session_is_not_compacted_here() -> None:
    async with serving() as served:
        served.gateway.responses[TURN] = kept("api:alice:s")
        served.gateway.histories[TURN] = TurnHistory(key="api:alice:s", is_last=True, rows=[])
        reply = await post(served, "/v1/responses/compact", previous_response_id=f"resp_{TURN}")

    assert (reply.status, reply.error["param"]) == (400, "previous_response_id")
    assert "/compress" in reply.error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [({}, "input"), ({"input": []}, "input"), ({"input": "x", "wings": 2}, "wings")],
)
async def test_a_body_that_is_wrong_gets_the_field_it_is_about(fields: dict[str, Any], param: str) -> None:
    async with serving() as served:
        reply = await post(served, "/v1/responses/compact", **fields)

    assert (reply.status, reply.error["param"]) == (400, param)


@pytest.mark.parametrize("content", [None, 7, "%", "ÿ", "_w==", "a" * 100_000])
async def test_an_item_that_this_gateway_did_not_make_is_refused(content: Any) -> None:
    async with serving(max_body_bytes=1_000_000) as served:
        item = {"type": "compaction", "encrypted_content": content}
        reply = await post(served, "/v1/responses", input=[item])

    assert (reply.status, reply.error["param"]) == (400, "input[0].encrypted_content")


async def test_a_model_that_fails_makes_no_summary() -> None:
    async with serving(FakeGateway(failed(502))) as served:
        reply = await post(served, "/v1/responses/compact", input=SAID)

    assert (reply.status, reply.error["code"]) == (502, "provider_error")
