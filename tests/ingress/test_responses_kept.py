"""Responses that are kept: shown, listened to again, cancelled, deleted, gone on with; in front of a fake gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openresponses_types.types as spec
import orjson
import pytest
from fakes.gateway import FakeGateway, completed, failed
from fakes.open_responses import check_response, check_stream
from fakes.served_ingress import Reply, Served, serving, sse_events
from pydantic import TypeAdapter

from hermes_actors.wire.refusals import RefusalCode
from workers.conversations import assistant_message, canonical
from workers.ingress.http.completion import DONE
from workers.turns import Delta, Ended, KeptResponse, Refusal, TurnHistory, TurnState, TurnView

RESPONSES = "/v1/responses"
TURN = "turn_3_00112233445566778899aabb"
ID = f"resp_{TURN}"
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
USER = canonical({"role": "user", "content": "what time is it?"})


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(FakeGateway(Delta(text="it is "), Delta(text="noon"), completed("it is noon"))) as running:
        yield running


async def post(served: Served, given: Any = "hi", /, *, headers: dict[str, str] | None = None, **fields: Any) -> Reply:
    body = orjson.dumps({"model": "any", "input": given, **fields})
    return await served.ask("POST", RESPONSES, body, **{"Content_Type": "application/json", **(headers or {})})


async def keep(
    served: Served,
    state: TurnState = "completed",
    ended: Ended | None = None,
    *,
    key: str = "conv:alice:1",
    **asked: Any,
) -> None:
    """The gateway keeps a response, with what a request asked."""
    await post(served, **asked)
    kept = served.gateway.submission.response
    assert kept is not None
    served.gateway.responses[TURN] = KeptResponse(
        turn=TurnView(
            turn_id=TURN,
            key=key,
            stateless=key.startswith("conv:"),
            state=state,
            created_at=7.0,
            ended=ended,
            ended_at=None if ended is None else 9.5,
        ),
        asked=kept,
        messages=[USER],
    )


# -- what is kept -----------------------------------------------------------------------------------------------------


async def test_a_response_is_kept_unless_the_request_says_otherwise(served: Served) -> None:
    stored = check_response((await post(served, metadata={"a": "b"})).data)
    kept = served.gateway.submission.response
    not_stored = check_response((await post(served, store=False)).data)

    assert (stored["store"], not_stored["store"]) == (True, False)
    assert kept is not None
    assert kept["metadata"] == {"a": "b"}
    assert served.gateway.submission.response is None


async def test_a_gateway_that_keeps_no_responses_says_so() -> None:
    async with serving(response_days=0) as served:
        reply = await post(served)
        background = await post(served, background=True)

    assert not reply.data["store"]
    assert served.gateway.submission.response is None
    assert (background.status, background.error["param"]) == (400, "background")


@pytest.mark.parametrize(
    ("state", "ended", "status"),
    [
        ("queued", None, "queued"),
        ("running", None, "in_progress"),
        ("completed", completed("it is noon"), "completed"),
        ("completed", completed("it", finish_reason="length"), "incomplete"),
        ("failed", failed(), "failed"),
        ("cancelled", completed("", state="cancelled"), "cancelled"),
    ],
)
async def test_a_response_is_shown_as_it_is(served: Served, state: TurnState, ended: Ended | None, status: str) -> None:
    await keep(served, state, ended, metadata={"a": "b"})

    response = check_response((await served.ask("GET", f"{RESPONSES}/{ID}")).data)

    assert (response["id"], response["status"], response["metadata"]) == (ID, status, {"a": "b"})
    assert response["completed_at"] == (9 if status == "completed" else None)


async def test_a_response_is_the_same_when_it_is_asked_for_later(served: Served) -> None:
    first = (await post(served)).data
    await keep(served, "completed", completed("it is noon"))

    later = (await served.ask("GET", f"{RESPONSES}/{ID}")).data

    changing = {"id", "output", "completed_at"}
    assert {name: value for name, value in first.items() if name not in changing} == {
        name: value for name, value in later.items() if name not in changing
    }
    assert later["output"][0]["content"] == first["output"][0]["content"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "?stream=true"), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")],
)
@pytest.mark.parametrize("name", [ID, "resp_", "turn_3_0", "nothing", f"resp_{'x' * 200}"])
async def test_a_response_that_the_caller_does_not_have_is_not_found(
    served: Served, method: str, path: str, name: str
) -> None:
    reply = await served.ask(method, f"{RESPONSES}/{name}{path}")

    assert (reply.status, reply.error["code"]) == (404, "response_not_found")


async def test_a_deleted_response_is_gone(served: Served) -> None:
    await keep(served, "completed", completed())

    deleted = await served.ask("DELETE", f"{RESPONSES}/{ID}")
    again = await served.ask("GET", f"{RESPONSES}/{ID}")

    assert deleted.data == {"id": ID, "object": "response", "deleted": True}
    assert again.status == 404


# -- its events again -------------------------------------------------------------------------------------------------


def events_of(reply: Reply) -> list[dict[str, Any]]:
    assert reply.body.endswith(DONE)
    return [data for _, data in sse_events(reply.body) if data != "[DONE]"]


async def test_the_events_of_a_response_come_again(served: Served) -> None:
    await keep(served, "completed", completed("it is noon"))
    served.gateway.kept[TURN] = (Delta(text="it is noon"), completed("it is noon"))

    events = check_stream(events_of(await served.ask("GET", f"{RESPONSES}/{ID}?stream=true")))

    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "it is noon"


@pytest.mark.parametrize("after", [0, 1, 4, 1000])
async def test_a_reader_who_comes_back_gets_what_follows_and_the_end_in_any_case(served: Served, after: int) -> None:
    await keep(served, "completed", completed("it is noon"))
    served.gateway.kept[TURN] = (Delta(text="it is noon"), completed("it is noon"))

    events = events_of(await served.ask("GET", f"{RESPONSES}/{ID}?stream=true&starting_after={after}"))

    assert all(event["sequence_number"] > after for event in events)
    assert events[-1]["type"] == "response.completed"
    assert len(events) == max(8 - after, 0) or after == 1000


async def test_a_number_that_is_none_is_refused(served: Served) -> None:
    await keep(served, "completed", completed())

    reply = await served.ask("GET", f"{RESPONSES}/{ID}?stream=true&starting_after=x")

    assert (reply.status, reply.error["param"]) == (400, "starting_after")


# -- in the background ------------------------------------------------------------------------------------------------


async def test_a_response_in_the_background_is_queued_at_once_and_outlives_its_caller() -> None:
    async with serving(FakeGateway(held=True)) as served:
        reply = await post(served, background=True)

    response = check_response(reply.data)
    assert (reply.status, response["status"], response["background"]) == (200, "queued", True)
    assert served.gateway.submission.idempotency_key is not None
    assert not served.gateway.turns[0].abandoned.is_set()


async def test_a_response_in_the_background_must_be_stored(served: Served) -> None:
    reply = await post(served, background=True, store=False)

    assert (reply.status, reply.error["param"]) == (400, "background")
    assert served.gateway.submissions == []


async def test_a_response_in_the_background_is_cancelled(served: Served) -> None:
    await keep(served, "running", background=True)
    served.gateway.views[TURN] = served.gateway.responses[TURN].turn
    served.gateway.kept[TURN] = (completed("", state="cancelled"),)

    reply = await served.ask("POST", f"{RESPONSES}/{ID}/cancel")

    assert reply.status == 200
    assert served.gateway.stopped == [TURN]


async def test_a_response_that_its_caller_waits_for_is_not_cancelled(served: Served) -> None:
    await keep(served, "running")

    reply = await served.ask("POST", f"{RESPONSES}/{ID}/cancel")

    assert (reply.status, reply.error["code"]) == (400, "not_in_background")
    assert served.gateway.stopped == []


# -- its input --------------------------------------------------------------------------------------------------------

ITEM = TypeAdapter(spec.Message | spec.FunctionCall | spec.FunctionCallOutput)
ROWS = [
    b'{"role":"system","content":"be brief"}',
    b'{"role":"user","content":[{"type":"text","text":"look"},{"type":"image_url","image_url":{"url":"https://a/b"}}]}',
    orjson.dumps({"role": "assistant", "content": "wait", "tool_calls": [CALL]}),
    b'{"role":"tool","tool_call_id":"c1","content":"blue"}',
]


async def input_items(served: Served, query: str = "") -> dict[str, Any]:
    listed: dict[str, Any] = (await served.ask("GET", f"{RESPONSES}/{ID}/input_items{query}")).data
    return listed


async def test_the_items_of_the_input_are_listed(served: Served) -> None:
    await keep(served)
    served.gateway.responses[TURN].messages[:] = ROWS

    listed = await input_items(served, "?order=asc")

    assert [item["type"] for item in listed["data"]] == [
        "message", "message", "message", "function_call", "function_call_output",
    ]  # fmt: skip
    for item in listed["data"]:
        ITEM.validate_python(item)
    assert listed["data"][1]["content"][1] == {"type": "input_image", "image_url": "https://a/b", "detail": "auto"}
    assert len({item["id"] for item in listed["data"]}) == 5
    assert (listed["first_id"], listed["has_more"]) == (listed["data"][0]["id"], False)


async def test_they_are_listed_page_by_page_the_newest_first(served: Served) -> None:
    await keep(served)
    served.gateway.responses[TURN].messages[:] = ROWS
    pages = [await input_items(served, "?limit=2")]
    while pages[-1]["has_more"]:
        pages.append(await input_items(served, f"?limit=2&after={pages[-1]['last_id']}"))

    items = [item for page in pages for item in page["data"]]
    assert [len(page["data"]) for page in pages] == [2, 2, 1]
    assert items == list(reversed((await input_items(served, "?order=asc"))["data"]))


@pytest.mark.parametrize(
    ("query", "param"), [("limit=0", "limit"), ("limit=101", "limit"), ("order=up", "order"), ("after=x", "after")]
)
async def test_a_page_that_cannot_be_is_refused(served: Served, query: str, param: str) -> None:
    await keep(served)

    reply = await served.ask("GET", f"{RESPONSES}/{ID}/input_items?{query}")

    assert (reply.status, reply.error["param"]) == (400, param)


# -- going on ---------------------------------------------------------------------------------------------------------


async def test_a_request_goes_on_with_a_stateless_response_as_if_it_had_sent_it_all(served: Served) -> None:
    await keep(served, "completed", completed("it is noon"))

    reply = await post(served, "thanks", previous_response_id=ID)

    assert check_response(reply.data)["previous_response_id"] == ID
    assert served.gateway.submission.messages == [
        USER,
        assistant_message("it is noon"),
        canonical({"role": "user", "content": "thanks"}),
    ]
    assert served.gateway.submission.stateless
    await post(
        served, [{"role": "user", "content": "what time is it?"}, *reply_items("it is noon"), *reply_user("thanks")]
    )
    assert served.gateway.conversations[-1] == served.gateway.conversations[-2], "they find the same agent"


def reply_items(text: str) -> list[dict[str, Any]]:
    return [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}]


def reply_user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


async def test_results_go_on_with_the_response_that_made_the_calls(served: Served) -> None:
    await keep(served, "completed", completed("", tool_calls=[CALL]))
    result = {"type": "function_call_output", "call_id": "c1", "output": "blue"}

    reply = await post(served, [result], previous_response_id=ID)
    wrong = await post(served, [result | {"call_id": "c2"}], previous_response_id=ID)

    assert reply.status == 200
    assert [orjson.loads(row)["role"] for row in served.gateway.submission.messages] == ["user", "assistant", "tool"]
    assert (wrong.status, wrong.error["code"]) == (400, "no_such_call")


async def test_a_request_goes_on_with_the_session_of_its_last_response(served: Served) -> None:
    await keep(served, "completed", completed(), key="api:alice:mine")
    served.gateway.histories[TURN] = TurnHistory(key="api:alice:mine", is_last=True, rows=[])

    reply = await post(served, "go on", previous_response_id=ID)

    assert (served.gateway.submission.key, reply.headers["X-Hermes-Session-Id"]) == ("api:alice:mine", "mine")
    assert served.gateway.submission.messages == [canonical({"role": "user", "content": "go on"})]


async def test_a_response_that_is_not_the_last_of_its_session_begins_a_branch(served: Served) -> None:
    await keep(served, "completed", completed(), key="api:alice:mine")
    rows = [USER, b'{"role":"assistant","content":"noon"}']
    served.gateway.histories[TURN] = TurnHistory(key="api:alice:mine", is_last=False, rows=rows)

    await post(served, "go on", previous_response_id=ID)

    assert served.gateway.submission.stateless
    assert served.gateway.submission.messages == [*rows, canonical({"role": "user", "content": "go on"})]


@pytest.mark.parametrize("name", [ID, "resp_x", "x", ""])
async def test_a_response_that_is_not_kept_cannot_be_gone_on_with(served: Served, name: str) -> None:
    reply = await post(served, previous_response_id=name)

    assert (reply.status, reply.error["param"]) == (400, "previous_response_id")
    assert reply.error["code"] == "previous_response_not_found"


async def test_a_response_that_is_not_over_cannot_be_gone_on_with(served: Served) -> None:
    await keep(served, "running")

    reply = await post(served, previous_response_id=ID)

    assert (reply.status, reply.error["code"]) == (400, "response_not_over")


async def test_a_conversation_and_an_earlier_response_in_one_request_are_refused(served: Served) -> None:
    await keep(served, "completed", completed())

    reply = await post(served, previous_response_id=ID, conversation="c")

    assert (reply.status, reply.error["param"]) == (400, "previous_response_id")


async def test_an_owner_that_does_not_answer_is_an_error_that_may_pass(served: Served) -> None:
    async def down(principal: str, turn_id: str) -> KeptResponse:
        raise Refusal(RefusalCode.SHARD_UNAVAILABLE, "down", 1.0)

    served.gateway.response = down  # type: ignore[method-assign]  # for this test

    assert (await served.ask("GET", f"{RESPONSES}/{ID}")).status == 503
    assert (await post(served, previous_response_id=ID)).status == 503
