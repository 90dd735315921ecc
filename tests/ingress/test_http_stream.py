from __future__ import annotations

import asyncio

import orjson
import pytest
from fakes.gateway import FakeGateway, completed, failed
from fakes.served_ingress import BOUND_S, CHAT, HI, NOW, http_request, read_to_end, serving, sse_events

from workers.ingress.http.connection import ClientLimits
from workers.turns import Delta, Reasoning, ToolProgress, TurnEvent

STREAM = {**HI, "stream": True}
SHARED = {"object": "chat.completion.chunk", "created": int(NOW), "model": "hermes-actors"}
TOLD: tuple[TurnEvent, ...] = (
    Delta(text="it "),
    ToolProgress(call_id="c1", tool="mcp__time__now", status="running"),
    ToolProgress(call_id="c1", tool="mcp__time__now", status="completed"),
    Delta(text="is\nnoon"),
    completed("it is\nnoon"),
)


def choice(delta: dict[str, object], reason: str | None = None) -> list[dict[str, object]]:
    return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]


async def test_a_stream_has_the_shape_of_the_openai_api() -> None:
    async with serving(FakeGateway(*TOLD)) as served:
        reply = await served.chat(STREAM, X_Hermes_Session_Id="1")

    shared = {"id": f"chatcmpl-{served.gateway.submission.turn_id}", **SHARED}
    running, done = (
        {"tool": "mcp__time__now", "toolCallId": "c1", "status": status} for status in ("running", "completed")
    )
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/event-stream"
    assert reply.headers["X-Hermes-Session-Id"] == "1"
    assert sse_events(reply.body) == [
        ("", {**shared, "choices": choice({"role": "assistant", "content": "", "refusal": None})}),
        ("", {**shared, "choices": choice({"content": "it "})}),
        ("hermes.tool.progress", {**shared, "choices": choice({}), **running}),
        ("hermes.tool.progress", {**shared, "choices": choice({}), **done}),
        ("", {**shared, "choices": choice({"content": "is\nnoon"})}),
        ("", {**shared, "choices": choice({}, "stop")}),
        ("", "[DONE]"),
    ]


async def test_usage_comes_last_where_it_is_asked_for() -> None:
    async with serving(FakeGateway(*TOLD)) as served:
        reply = await served.chat({**STREAM, "stream_options": {"include_usage": True}})

    *chunks, last, done = [data for _, data in sse_events(reply.body)]
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert done == "[DONE]"


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (failed(text="no such model"), "provider_error"),
        (completed("", state="interrupted"), "turn_interrupted"),
        (completed("", state="cancelled"), "turn_cancelled"),
    ],
)
async def test_a_stream_without_an_answer_ends_with_an_error_and_no_done(ended: TurnEvent, code: str) -> None:
    async with serving(FakeGateway(Delta(text="it "), ended)) as served:
        reply = await served.chat(STREAM)

    last = sse_events(reply.body)[-1][1]
    assert last["error"]["code"] == code
    assert b"[DONE]" not in reply.body


@pytest.mark.parametrize(
    ("ended", "status", "code"),
    [
        (failed(text="no such model"), 502, "provider_error"),
        (completed("", state="interrupted"), 503, "turn_interrupted"),
        (completed("", state="cancelled"), 400, "turn_cancelled"),
    ],
)
async def test_a_turn_that_fails_before_it_says_anything_is_a_plain_error_and_no_stream(
    ended: TurnEvent, status: int, code: str
) -> None:
    async with serving(FakeGateway(ended)) as served:
        reply = await served.chat(STREAM, X_Hermes_Session_Id="1")

    assert (reply.status, orjson.loads(reply.body)["error"]["code"]) == (status, code)
    assert reply.headers["Content-Type"].startswith("application/json")
    assert reply.headers["X-Hermes-Session-Id"] == "1"


async def test_a_turn_that_was_over_when_the_stream_came_gives_its_whole_text() -> None:
    async with serving(FakeGateway(completed("all of it"))) as served:
        reply = await served.chat(STREAM)

    contents = [data["choices"][0]["delta"].get("content") for _, data in sse_events(reply.body)[:-1]]
    assert contents == ["", "all of it", None]


async def test_reasoning_is_a_field_of_its_own_in_a_stream_and_in_a_whole_answer() -> None:
    told = (Reasoning(text="hm "), Reasoning(text="hm"), Delta(text="Yes"), completed("Yes", reasoning="hm hm"))
    async with serving(FakeGateway(*told)) as served:
        stream = await served.chat(STREAM)
        whole = await served.chat(HI)

    deltas = [data["choices"][0]["delta"] for _, data in sse_events(stream.body)[1:-1]]
    assert deltas == [{"reasoning_content": "hm "}, {"reasoning_content": "hm"}, {"content": "Yes"}, {}]
    message = orjson.loads(whole.body)["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Yes", "hm hm")


async def test_a_turn_that_was_over_when_the_stream_came_gives_its_reasoning_first() -> None:
    async with serving(FakeGateway(completed("Yes", reasoning="hm"))) as served:
        reply = await served.chat(STREAM)

    deltas = [data["choices"][0]["delta"] for _, data in sse_events(reply.body)[1:-1]]
    assert deltas == [{"reasoning_content": "hm"}, {"content": "Yes"}, {}]


async def test_an_answer_without_reasoning_has_no_such_field() -> None:
    async with serving(FakeGateway(completed("Yes"))) as served:
        reply = await served.chat(HI)

    assert "reasoning_content" not in orjson.loads(reply.body)["choices"][0]["message"]


async def test_the_first_bytes_come_once_the_turn_is_accepted_and_comments_keep_the_stream_alive() -> None:
    async with serving(FakeGateway(held=True), limits=ClientLimits(keep_alive_s=0.01)) as served:
        reader, writer = await served.raw()
        writer.write(http_request("POST", CHAT, orjson.dumps(STREAM)))
        async with asyncio.timeout(BOUND_S):
            await reader.readuntil(b'"role":"assistant"')
            await reader.readuntil(b": keep-alive\n\n")
            await reader.readuntil(b": keep-alive\n\n")
            served.gateway.turns[0].go()
            await reader.readuntil(b"data: [DONE]\n\n")


async def test_an_http_1_0_client_gets_a_stream_that_ends_with_the_connection() -> None:
    async with serving(FakeGateway(*TOLD)) as served:
        reader, writer = await served.raw()
        writer.write(http_request("POST", CHAT, orjson.dumps(STREAM)).replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = await read_to_end(reader)

    assert b"chunked" not in answer
    assert answer.endswith(b"data: [DONE]\n\n")
