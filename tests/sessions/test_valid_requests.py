"""Sessions whose transcript holds what a provider would refuse: each request to the model is valid all the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from fakes.sessions import Bench, text_reply, tool_reply
from fakes.valid_request import problems
from structlog.testing import capture_logs

from workers.models.attached import MAX_ATTACHED_BYTES
from workers.models.provider import ModelReply, ToolCall
from workers.runtimes.transcript import OUTCOME_UNKNOWN
from workers.sessions.reading import page

SIGNED = {"extra_content": {"google": {"thought_signature": "c2ln"}}}


def calling(
    *ids: str, arguments: str = "{}", provider: str = "fake", asked: str = "fake-1", **fields: Any
) -> ModelReply:
    calls = tuple(ToolCall(call_id=name, name="mcp__a__b", arguments=arguments, attached=SIGNED) for name in ids)
    given: dict[str, Any] = {"finish_reason": "tool_calls", "usage": {}, "model": "fake-1-dated"} | fields
    given["attached"] = given.pop("also", {})
    return ModelReply(text="", tool_calls=calls, provider=provider, asked=asked, **given)


def calls_in(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [call for message in messages for call in message.get("tool_calls", ())]


async def talk_on(bench: Bench, *texts: str) -> list[dict[str, Any]]:
    """Send these messages; the last request, all of which must be valid."""
    for text in texts:
        assert (await bench.talk(text)).state == "completed"
    assert [problems(request) for request in bench.model.requests if problems(request)] == []
    return bench.model.requests[-1]


@pytest.mark.parametrize("raw", ['{"text": "abc', "null", "[]", "3"])
async def test_broken_arguments_are_told_and_do_not_come_back(bench: Bench, raw: str) -> None:
    bench.model.script = [calling("a", arguments=raw)]

    asked = await talk_on(bench, "go", "and?")

    assert [call["function"]["arguments"] for call in calls_in(asked)] == ["{}"]
    assert [raw in row["content"] for row in asked if row["role"] == "tool"] == [True]


@pytest.mark.parametrize("nothing", ["", " \n", "\u00a0"])
async def test_an_empty_answer_is_not_sent(bench: Bench, nothing: str) -> None:
    bench.model.script = [text_reply(nothing)]

    assert [row["role"] for row in await talk_on(bench, "go", "and?")] == ["user", "user"]


async def test_the_same_id_in_each_turn_is_sent_once(bench: Bench) -> None:
    bench.model.script = [calling("functions.b:0"), text_reply("1"), calling("functions.b:0")]

    ids = [call["id"] for call in calls_in(await talk_on(bench, "go", "again", "and?"))]

    assert ids[0] == "functions.b:0"
    assert len(set(ids)) == 2


async def test_what_a_provider_attached_comes_back_in_this_turn_and_later_ones(bench: Bench) -> None:
    bench.model.script = [calling("x" * 1_000, reasoning="hm", also={"reasoning_content": "hm"})]

    await talk_on(bench, "go", "and?")

    for asked in bench.model.requests[1:]:
        assert calls_in(asked)[0]["id"] == "x" * 1_000
        assert calls_in(asked)[0]["extra_content"] == SIGNED["extra_content"]
        assert asked[1]["reasoning_content"] == "hm"


async def test_another_model_gets_none_of_it_and_the_first_gets_it_again(bench: Bench) -> None:
    bench.model.script = [calling("x" * 1_000, reasoning="hm", also={"reasoning_content": "hm"})]
    await talk_on(bench, "go")

    await bench.talk("/model other")
    other = await talk_on(bench, "who?")
    await bench.talk("/model default")
    first = await talk_on(bench, "back?")

    assert set(calls_in(other)[0]) == {"id", "type", "function"}
    assert len(calls_in(other)[0]["id"]) == 9
    assert "reasoning_content" not in other[1]
    assert calls_in(first)[0]["extra_content"] == SIGNED["extra_content"]
    assert calls_in(first)[0]["id"] == "x" * 1_000


async def test_what_is_too_large_to_be_kept_is_dropped_with_a_line_in_the_log(bench: Bench) -> None:
    bench.model.script = [calling("a", also={"reasoning_content": "x" * MAX_ATTACHED_BYTES})]

    with capture_logs() as lines:
        asked = await talk_on(bench, "go")

    assert "reasoning_content" not in asked[1]
    assert calls_in(asked)[0]["extra_content"] == SIGNED["extra_content"]
    assert [line["fields"] for line in lines if "attached" in line["event"]] == [["reasoning_content"]]


async def test_people_read_the_reasoning_and_nothing_that_is_ours_or_the_providers(bench: Bench) -> None:
    bench.model.script = [calling("a", reasoning="hm")]
    await bench.talk("go")

    rows = (await page(bench.sessions, "api:default:a", bench.shard, 0, 10))["messages"]

    assert rows[1]["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "mcp__a__b", "arguments": "{}"}}],
        "reasoning_content": "hm",
    }


async def test_rows_of_before_who_made_them_was_kept_go_as_they_are(bench: Bench) -> None:
    bench.model.script = [tool_reply("mcp__a__b")]

    asked = await talk_on(bench, "go", "and?")

    assert calls_in(asked) == [
        {"id": "call-0", "type": "function", "function": {"name": "mcp__a__b", "arguments": "{}"}}
    ]


HISTORIES: dict[str, list[dict[str, Any]]] = {
    "a result without its call": [{"role": "tool", "tool_call_id": "zz", "content": "kept"}],
    "calls without results": [
        {"role": "assistant", "content": "", "tool_calls": [{"id": "a"}, {"id": "b", "function": None}]},
        {"role": "user", "content": "kept"},
    ],
    "system messages in the middle": [{"role": "system", "content": "kept"}, {"role": "developer", "content": "x"}],
    "calls of another shape": [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "name": "x y", "arguments": {"q": "kept"}}]},
        {"role": "tool", "tool_call_id": "a", "content": ""},
    ],
    "an answer of parts": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "kept"}]}],
    "a name with blanks": [{"role": "user", "content": "kept", "name": "Ann B."}],
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
async def test_a_clients_broken_history_is_made_valid(bench: Bench, history: list[dict[str, Any]]) -> None:
    messages = [{"role": "user", "content": "hi"}, *history, {"role": "user", "content": "and?"}]
    asked = bench.message(stateless=True, messages=[orjson.dumps(message) for message in messages])

    assert (await bench.talk(asked)).state == "completed"

    assert problems(bench.model.requests[0]) == []
    assert "kept" in str(bench.model.requests[0])


async def test_a_turn_that_was_stopped_while_tools_ran_is_closed_with_one_result_for_each_call(bench: Bench) -> None:
    bench.model.script = [calling("a", "b")]
    feed = await bench.send("go")
    bench.toolboxes[0].gate.clear()
    await bench.toolboxes[0].called.wait()
    await bench.talk("/stop")
    assert feed.ended is not None
    bench.toolboxes[0].gate.set()

    asked = await talk_on(bench, "and?")

    assert [row["content"] for row in asked if row["role"] == "tool"] == [OUTCOME_UNKNOWN] * 2
