"""The gateway on llama.cpp's own server: what a real server does with what we send, and what people then see.

The model is an automaton (``automaton.py``); the tokenizer, the template, the grammar, the tool parser and the HTTP are
llama.cpp's. ``tap.statuses`` are the answers it gave to us.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fakes.running_gateway import RunningGateway
from fakes.tap import Tap
from real_models.automaton import AFTER_A_RESULT, ASKED_FOR, PLAIN
from real_models.conftest import on
from real_models.llama_cpp import WINDOW, LlamaCpp
from real_models.long_result_server import BEGINNING
from real_models.odd_schemas_server import FORMS

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIME = "mcp__time__get_current_time"
PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
ENDLESS = next(chain for chain in ASKED_FOR if chain.endless)
ODD_SERVER = Path(__file__).with_name("odd_schemas_server.py")
LONG_SERVER = Path(__file__).with_name("long_result_server.py")


def reply(body: dict[str, Any]) -> str:
    return str(body["choices"][0]["message"]["content"])


async def said(gateway: RunningGateway, text: Any, session: str, **fields: Any) -> tuple[int, dict[str, Any]]:
    """One message in a session, with fields of the request."""
    body = {"model": "x", "messages": [{"role": "user", "content": text}], **fields}
    status, answer, _ = await gateway.request(
        "POST", "/v1/chat/completions", body, headers={"X-Hermes-Session-Id": session}
    )
    return status, answer


async def rows(gateway: RunningGateway, session: str) -> list[dict[str, Any]]:
    """The transcript."""
    _, page, _ = await gateway.request("GET", f"/api/sessions/{session}/messages")
    return [row["message"] for row in page["data"]]


def usage_told(tap: Tap) -> int:
    """The tokens that the server counted, over all requests that passed."""
    events = [line[6:] for passed in tap.passed for line in passed.said.splitlines() if line.startswith("data: {")]
    return sum(usage["total_tokens"] for event in events if (usage := json.loads(event).get("usage")))


# -- what works -------------------------------------------------------------------------------------------------------


async def test_an_answer_and_its_tokens_are_those_of_the_server(gateway: RunningGateway, tap: Tap) -> None:
    status, body = await said(gateway, "hello", "plain")

    assert (status, reply(body), body["choices"][0]["finish_reason"]) == (200, PLAIN.text, "stop")
    assert tap.statuses == [200]
    assert body["usage"]["total_tokens"] == usage_told(tap) > 0


async def test_a_stream_begins_before_the_model_has_ended(gateway: RunningGateway, tap: Tap) -> None:
    tap.rest_may_pass = asyncio.Event()
    async with gateway.openai() as client:
        stream = await client.chat.completions.create(
            model="x", messages=[{"role": "user", "content": "an endless story"}], stream=True, max_tokens=400
        )
        first = await anext(texts_of(stream))
        tap.rest_may_pass.set()
        rest = await texts(stream)

    assert first + "".join(rest) == ENDLESS.text * (400 // len(ENDLESS.pieces))
    assert tap.statuses == [200]


async def texts_of(stream: Any) -> AsyncIterator[str]:
    """The pieces of a streamed answer, as they come."""
    async for chunk in stream:
        if chunk.choices and (text := chunk.choices[0].delta.content):
            yield text


async def texts(stream: Any) -> list[str]:
    """The pieces of a streamed answer that are still to come."""
    return [text async for text in texts_of(stream)]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_call_goes_to_a_real_tool_server_and_its_result_to_the_model(
    gateway: RunningGateway, tap: Tap, stream: bool
) -> None:
    session = f"tool-{stream}"
    async with gateway.openai() as client:
        answer: Any = await client.chat.completions.create(
            model="x",
            messages=[{"role": "user", "content": "what time is it?"}],
            stream=stream,
            extra_headers={"X-Hermes-Session-Id": session},
        )
        if stream:
            text = "".join(await texts(answer))
        else:
            text = answer.choices[0].message.content
            assert answer.usage.total_tokens == usage_told(tap)

    assert text == AFTER_A_RESULT.text
    assert tap.statuses == [200, 200]
    assert tap.last.roles[-3:] == ["user", "assistant", "tool"]
    call, result = tap.last.body["messages"][-2]["tool_calls"][0], tap.last.body["messages"][-1]
    assert call["function"]["name"] == TIME
    assert call["id"] == result["tool_call_id"]
    assert json.loads(result["content"])["timezone"] == "UTC"
    assert [message["role"] for message in await rows(gateway, session)] == ["user", "assistant", "tool", "assistant"]


async def test_an_answer_that_reaches_max_tokens_says_so(gateway: RunningGateway, tap: Tap) -> None:
    status, body = await said(gateway, "an endless story", "cut", max_tokens=7)

    assert status == 200
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 7
    assert tap.statuses == [200]


async def test_reasoning_is_shown_as_reasoning_and_not_as_the_answer(gateway: RunningGateway, tap: Tap) -> None:
    status, body = await said(gateway, "ponder", "thought")

    assert (status, reply(body)) == (200, "then words")
    assert body["choices"][0]["message"]["reasoning_content"] == "first a thought"


async def test_stop_ends_the_answer_at_the_server_too(gateway: RunningGateway, tap: Tap, llama: LlamaCpp) -> None:
    body = {"model": "x", "stream": True, "messages": [{"role": "user", "content": "an endless story"}]}
    headers = {"Authorization": "Bearer test-key-0123456789", "X-Hermes-Session-Id": "stopped"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers) as stream,
    ):
        async for piece in stream.content.iter_any():
            if ENDLESS.pieces[1].encode() in piece:
                break
        assert await gateway.say("/stop", "stopped")
        told = (await stream.read()).decode()

    assert "turn_cancelled" in told
    await tap.until(lambda: tap.last.left)  # else it would write until its window is full
    await gateway.until(lambda: idle(llama), "the server's slots to be free")
    assert await gateway.say("hello", "stopped") == PLAIN.text


async def idle(llama: LlamaCpp) -> bool:
    return await llama.busy() == 0


# -- what the server refuses ------------------------------------------------------------------------------------------


async def test_half_a_tool_call_costs_one_tool_error_and_not_the_session(gateway: RunningGateway, tap: Tap) -> None:
    status, body = await said(gateway, "what time is it?", "half", max_tokens=6)
    assert b'\\"timezone\\"' in tap.passed[0].answer, "the server did not cut the call where the test wants it"

    assert (status, reply(body)) == (200, AFTER_A_RESULT.text)
    assert tap.statuses == [200, 200]
    sent = tap.last.body["messages"][-2]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(sent) == {}
    tap.clear()
    assert await gateway.say("hello", "half") == PLAIN.text
    assert tap.statuses == [200]


async def test_an_empty_answer_is_asked_for_once_more_and_does_no_harm(gateway: RunningGateway, tap: Tap) -> None:
    status, body = await said(gateway, "silence", "empty")
    assert status == 200
    assert reply(body)
    assert tap.statuses == [200, 200]
    tap.clear()

    assert await gateway.say("hello", "empty") == PLAIN.text
    assert tap.statuses == [200]
    assert all(message.get("content") or message.get("tool_calls") for message in tap.last.body["messages"])


async def test_a_picture_for_a_model_without_eyes_becomes_a_line_that_says_so(
    gateway: RunningGateway, tap: Tap
) -> None:
    picture = [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    status, body = await said(gateway, picture, "picture")

    assert (status, reply(body)) == (200, PLAIN.text)
    assert tap.statuses == [500, 200]
    assert "what is this?" in json.dumps(tap.last.body)
    assert "picture" in json.dumps(tap.last.body["messages"][-1])
    assert PIXEL not in json.dumps(tap.last.body)

    tap.clear()  # what the server said once is known: in this session, and in others
    assert await gateway.say("and now?", "picture") == PLAIN.text
    assert (await said(gateway, picture, "another"))[0] == 200
    assert tap.statuses == [200, 200]


async def test_a_message_that_is_too_long_is_refused_with_both_numbers_and_leaves_the_session_usable(
    gateway: RunningGateway, tap: Tap
) -> None:
    assert await gateway.say("remember the number 7", "long") == PLAIN.text
    status, body = await said(gateway, "x" * (WINDOW + 1000), "long")

    assert status == 400
    assert str(WINDOW) in body["error"]["message"].replace(",", "").replace("_", "")
    tap.clear()
    assert await gateway.say("which number?", "long") == PLAIN.text
    assert set(tap.statuses) == {200}
    assert any("number 7" in json.dumps(passed.body) for passed in tap.passed)  # as it was, or to be summarised


async def test_a_conversation_that_outgrows_the_window_goes_on(gateway: RunningGateway, tap: Tap) -> None:
    for turn in range(6):
        status, body = await said(gateway, f"chapter {turn}: " + "word " * 360, "grown")
        assert (status, reply(body)) == (200, PLAIN.text)

    assert tap.last.status == 200
    assert "chapter 5" in json.dumps(tap.last.body)
    said_by_people = [message for message in await rows(gateway, "grown") if message["role"] == "user"]
    assert sum("chapter" in json.dumps(message) for message in said_by_people) >= 6  # the transcript keeps everything


async def test_a_result_that_is_too_long_is_shortened_and_its_turn_is_remembered(line: Tap, tmp_path: Path) -> None:
    line.clear()
    long = {"command": sys.executable, "args": ["-S", str(LONG_SERVER), str(3 * WINDOW)]}
    async with RunningGateway(tmp_path / "home", on(line, mcp_servers={"time": long})) as gateway:
        assert await gateway.say("what time is it?", "long-result") == AFTER_A_RESULT.text
        assert line.last.status == 200
        result = next(message for message in line.last.body["messages"] if message["role"] == "tool")
        assert BEGINNING in result["content"]
        assert len(result["content"]) < WINDOW

        await gateway.say("what did you do?", "long-result")
        assert line.last.status == 200
        assert TIME in json.dumps(line.last.body["messages"])
        calls = [message for message in await rows(gateway, "long-result") if message.get("tool_calls")]
        assert len(calls) == 1


async def test_each_form_of_a_schema_that_the_server_refuses_is_refused_by_it(llama: LlamaCpp) -> None:
    """What the next test rests on."""
    statuses = {}
    async with aiohttp.ClientSession() as http:
        for form, schema in FORMS.items():
            tool = {"type": "function", "function": {"name": form, "parameters": schema}}
            body = {"messages": [{"role": "user", "content": "hello"}], "tools": [tool]}
            async with http.post(f"{llama.base_url}/chat/completions", json=body) as answer:
                statuses[form] = answer.status

    assert statuses == dict.fromkeys(FORMS, 400)


async def test_tools_of_such_forms_are_offered_in_a_form_that_the_server_takes(line: Tap, tmp_path: Path) -> None:
    line.clear()
    odd = {"command": sys.executable, "args": ["-S", str(ODD_SERVER), *FORMS]}
    async with RunningGateway(tmp_path / "home", on(line, mcp_servers={"odd": odd})) as gateway:
        assert await gateway.say("hello", "odd") == PLAIN.text
        assert line.statuses == [200]
        assert "mcp__odd__plain" in line.last.tools
        assert {"mcp__odd__anything", "mcp__odd__no_properties"} <= line.last.tools.keys()
        for schema in line.last.tools.values():
            assert schema.get("properties") is not None
