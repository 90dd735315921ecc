from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from fakes.offers import offer_of
from hypothesis import given
from hypothesis import strategies as st

from workers.models.cause import Cause
from workers.models.demo import MAX_RESULT_CHARS, MAX_SLEEP_S, DemoModel, asked_calls
from workers.models.provider import ModelFailure, ModelReply, ModelRequest
from workers.runtimes.chat.machine import pictures_message

TOOLS = ("mcp__time__get_current_time", "mcp__time__convert_time", "mcp__git__status", "mcp__files__status")


def user(text: Any) -> bytes:
    return orjson.dumps({"role": "user", "content": text})


def tool_message(call_id: str, text: str) -> bytes:
    return orjson.dumps({"role": "tool", "tool_call_id": call_id, "content": text})


def assistant(reply: ModelReply) -> bytes:
    calls = [
        {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in reply.tool_calls
    ]
    return orjson.dumps({"role": "assistant", "content": None, "tool_calls": calls})


def request(*messages: bytes, tools: tuple[str, ...] = TOOLS) -> ModelRequest:
    definitions = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in tools]
    return ModelRequest(messages=messages, tools=offer_of(definitions))


async def ask(*messages: bytes, tools: tuple[str, ...] = TOOLS) -> tuple[ModelReply, list[str]]:
    pieces: list[str] = []
    reply = await DemoModel().complete(request(*messages, tools=tools), pieces.append)
    assert isinstance(reply, ModelReply), reply
    assert "".join(pieces) == reply.text
    return reply, pieces


async def text_of(*messages: bytes) -> str:
    return (await ask(*messages))[0].text


async def calls_of(text: str) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in (await ask(user(text)))[0].tool_calls]


async def test_it_echoes_the_last_user_message_word_by_word() -> None:
    reply, pieces = await ask(user("first"), user("Hello there,  world "))

    assert reply.text == "You said: Hello there,  world "
    assert pieces == ["You", " said:", " Hello", " there,", "  world", " "]
    assert (reply.finish_reason, reply.tool_calls, reply.model) == ("stop", (), "demo")


async def test_usage_counts_words() -> None:
    reply, _ = await ask(user("one two"), user("three"))

    assert reply.usage == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}


async def test_images_are_mentioned() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}

    assert await text_of(user([{"type": "text", "text": "look"}, image])) == "You said: look (and 1 image)"
    assert await text_of(user([image, image])) == "You said:  (and 2 images)"


async def test_a_tool_is_called_by_its_name_or_the_tail_of_it() -> None:
    expected = [("mcp__time__get_current_time", '{"timezone": "UTC"}')]

    assert await calls_of('please call get_current_time {"timezone": "UTC"} now') == expected
    assert await calls_of('call mcp__time__get_current_time {"timezone": "UTC"}') == expected
    assert await calls_of("call git__status") == [("mcp__git__status", "{}")]


async def test_several_calls_are_parallel_and_have_ids_of_their_own() -> None:
    text = 'call get_current_time {"a": {"b": "}"}} and call convert_time {}\ncall git__status\n'
    reply, _ = await ask(user(text))

    assert [call.name for call in reply.tool_calls] == [*TOOLS[:3]]
    assert reply.tool_calls[0].arguments == '{"a": {"b": "}"}}'
    assert len({call.call_id for call in reply.tool_calls}) == 3
    assert (reply.text, reply.finish_reason) == ("", "tool_calls")


async def test_calls_of_later_turns_have_other_ids() -> None:
    first, _ = await ask(user("call git__status"))
    second, _ = await ask(
        user("call git__status"),
        assistant(first),
        tool_message(first.tool_calls[0].call_id, "ok"),
        user("call git__status"),
    )

    assert first.tool_calls[0].call_id != second.tool_calls[0].call_id


async def test_broken_arguments_reach_the_tool_as_they_are() -> None:
    assert await calls_of('call git__status {"path": \nbye') == [("mcp__git__status", '{"path": ')]


async def test_the_words_in_a_sentence_call_nothing() -> None:
    assert await calls_of("I will call mother tomorrow") == []


async def test_a_tool_that_is_not_there_is_answered_with_those_that_are() -> None:
    assert await text_of(user("call fly {}")) == f"There is no tool fly. Tools on offer: {', '.join(TOOLS)}."
    assert (await ask(user("call fly {}"), tools=()))[0].text == "There is no tool fly. Tools on offer: none."


async def test_a_tail_that_fits_two_tools_is_answered_with_both() -> None:
    assert (await text_of(user("call status {}"))).startswith(
        "status may be any of: mcp__git__status, mcp__files__status."
    )


async def test_tool_results_are_told_one_by_one() -> None:
    asked = user("call git__status\ncall get_current_time {}")
    reply, _ = await ask(asked)
    results = [tool_message(call.call_id, f"result {n}") for n, call in enumerate(reply.tool_calls)]

    said = await text_of(asked, assistant(reply), *results)

    assert said == "The tool mcp__git__status said: result 0\nThe tool mcp__time__get_current_time said: result 1"


async def test_a_long_result_is_bounded() -> None:
    asked = user("call git__status")
    reply, _ = await ask(asked)

    said = await text_of(asked, assistant(reply), tool_message(reply.tool_calls[0].call_id, "x" * 10_000))

    assert said.count("x") == MAX_RESULT_CHARS


async def test_pictures_that_a_tool_returned_are_mentioned_with_its_result() -> None:
    asked = user("call git__status")
    reply, _ = await ask(asked)
    result = tool_message(reply.tool_calls[0].call_id, "see")
    pictures = pictures_message([("mcp__git__status", "data:image/png;base64,AA")])

    assert (
        await text_of(asked, assistant(reply), result, pictures) == "The tool mcp__git__status said: see (and 1 image)"
    )


async def test_a_message_after_a_cut_turn_is_answered_instead_of_its_closed_calls() -> None:
    asked = user("call git__status")
    reply, _ = await ask(asked)
    closed = tool_message(reply.tool_calls[0].call_id, "outcome unknown")

    assert await text_of(asked, assistant(reply), closed, user("still there?")) == "You said: still there?"


@pytest.mark.parametrize(
    ("text", "seconds"), [("sleep 3", 3.0), ("please sleep 0.5 now", 0.5), ("sleep 9999", MAX_SLEEP_S)]
)
async def test_it_sleeps_before_it_answers(text: str, seconds: float) -> None:
    happened: list[object] = []

    async def sleep(waited: float) -> None:
        happened.append(waited)

    await DemoModel(sleep=sleep).complete(request(user(text)), happened.append)

    assert happened[:2] == [seconds, "You"]


async def test_it_fails_with_the_status_it_is_told() -> None:
    failure = await DemoModel(model="m").complete(request(user("please fail 429")), lambda _: None)

    assert isinstance(failure, ModelFailure)
    assert (failure.kind, failure.status, failure.provider, failure.model) == ("status", 429, "demo", "m")


@pytest.mark.parametrize(
    ("text", "failing"),
    [
        ("fail 503", ["one", "two", "qwen3:8b"]),
        ("fail 503 on one", ["one"]),
        ("please Fail 503 on qwen3:8b.", ["qwen3:8b"]),
        ("fail 503 on one and fail 404 on two, thanks", ["one", "two"]),
        ("fail 503 on One", []),
    ],
)
async def test_it_fails_on_every_model_or_on_the_one_that_is_named(text: str, failing: list[str]) -> None:
    failed = []
    for model in ("one", "two", "qwen3:8b"):
        outcome = await DemoModel(model=model).complete(request(user(text)), lambda _: None)
        if isinstance(outcome, ModelFailure):
            failed.append(model)
        else:
            assert (outcome.text, outcome.model, outcome.provider) == (f"You said: {text}", model, "demo")

    assert failed == failing


async def test_a_400_of_its_own_is_about_the_request_and_not_about_the_model() -> None:
    failure = await DemoModel().complete(request(user("fail 400")), lambda _: None)

    assert isinstance(failure, ModelFailure)
    assert failure.cause is Cause.REQUEST


async def test_it_says_as_many_words_as_it_is_told() -> None:
    assert await text_of(user("say 3 words")) == "word1 word2 word3"
    assert await text_of(user("say 1 word")) == "word1"


@given(st.text(max_size=40), st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3))
def test_arguments_survive_any_text_around_them(around: str, arguments: dict[str, Any]) -> None:
    written = json.dumps(arguments)
    before = around.lower().replace("call", "")

    (call,) = asked_calls(f"{before} call tool {written}{before}")

    assert (call.tool, call.arguments) == ("tool", written)
