"""What providers attach to answers: how it is stored, bounded, and shown."""

from __future__ import annotations

from typing import Any

import pytest

from workers.models.attached import MAX_ATTACHED_BYTES, attached_to, bounded, shown, stored
from workers.models.provider import ModelReply, ToolCall

SIGNATURE = {"google": {"thought_signature": "c2ln"}}
HUGE = "x" * (MAX_ATTACHED_BYTES + 1)


def reply(*calls: ToolCall, text: str = "", **fields: Any) -> ModelReply:
    given: dict[str, Any] = {"provider": "here", "asked": "one", "model": "one-2026-01-01"} | fields
    return ModelReply(text=text, tool_calls=calls, finish_reason="stop", usage={}, **given)


def call(**attached: Any) -> ToolCall:
    return ToolCall(call_id="a", name="look", arguments="{}", attached=attached)


def test_a_plain_answer_is_stored_as_a_plain_message() -> None:
    assert stored(reply(text="hi")) == {"role": "assistant", "content": "hi"}
    assert stored(reply()) == {"role": "assistant", "content": ""}


def test_what_is_attached_is_stored_where_it_stood_beside_who_attached_it() -> None:
    message = stored(reply(call(extra_content=SIGNATURE), attached={"reasoning_details": [1], "cache": None}))

    assert message == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "a",
                "type": "function",
                "function": {"name": "look", "arguments": "{}"},
                "extra_content": SIGNATURE,
            }
        ],
        "made_by": {"provider": "here", "model": "one"},
        "reasoning_details": [1],
        "cache": None,
    }


def test_who_made_calls_is_stored_also_where_nothing_is_attached() -> None:
    assert stored(reply(call()))["made_by"] == {"provider": "here", "model": "one"}
    assert stored(reply(call(), asked=""))["made_by"] == {"provider": "here", "model": "one-2026-01-01"}
    assert "made_by" not in stored(reply(call(), provider=""))


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "reasoning_text"])
def test_reasoning_is_stored_once_and_shown_under_one_name(name: str) -> None:
    message = stored(reply(text="hi", reasoning="why", attached={name: "why"}))

    assert message == {
        "role": "assistant",
        "content": "hi",
        name: "why",
        "made_by": {"provider": "here", "model": "one"},
    }
    assert shown(message) == {"role": "assistant", "content": "hi", "reasoning_content": "why"}


def test_reasoning_that_came_in_no_field_is_kept_for_people_and_not_sent() -> None:
    message = stored(reply(text="hi", reasoning="why"))

    assert attached_to(message) == {}
    assert shown(message) == {"role": "assistant", "content": "hi", "reasoning_content": "why"}
    assert shown(stored(reply(text="hi", reasoning="why", provider="")))["reasoning_content"] == "why"


def test_what_is_attached_to_the_function_of_a_call_is_stored_inside_it_and_not_shown() -> None:
    message = stored(reply(call(function={"strict": True, "name": "theirs"})))

    assert message["tool_calls"][0]["function"] == {"name": "look", "arguments": "{}", "strict": True}
    assert shown(message)["tool_calls"][0]["function"] == {"name": "look", "arguments": "{}"}


@pytest.mark.parametrize("name", ["role", "content", "tool_calls", "made_by", "function_call"])
def test_what_is_attached_takes_no_field_of_ours(name: str) -> None:
    message = stored(reply(text="hi", attached={name: "theirs"}))

    assert message == {"role": "assistant", "content": "hi"}


@pytest.mark.parametrize("name", ["id", "type", "function"])
def test_what_is_attached_to_a_call_takes_no_field_of_ours(name: str) -> None:
    (made,) = stored(reply(call(**{name: "theirs"})))["tool_calls"]

    assert made == {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def test_people_are_shown_calls_and_no_signatures() -> None:
    message = stored(reply(call(extra_content=SIGNATURE), attached={"reasoning_details": [1]}))

    assert shown(message) == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
    }
    assert shown({"role": "user", "content": "hi", "name": "ann"}) == {"role": "user", "content": "hi", "name": "ann"}


def test_what_fits_is_kept_as_it_is() -> None:
    answer = reply(call(extra_content=SIGNATURE), reasoning="why", attached={"reasoning": "why"})

    assert bounded(answer) == (answer, [])
    assert bounded(reply(text="hi")) == (reply(text="hi"), [])


@pytest.mark.parametrize(
    ("answer", "dropped"),
    [
        (
            reply(call(extra_content=SIGNATURE), attached={"reasoning_content": HUGE}, reasoning=HUGE),
            "reasoning_content",
        ),
        (reply(call(extra_content=SIGNATURE), reasoning=HUGE), "reasoning_content"),
        (reply(call(extra_content=SIGNATURE), attached={"details": [HUGE]}), "details"),
        (reply(call(extra_content=SIGNATURE, more=HUGE)), "more"),
    ],
)
def test_the_largest_field_is_dropped_where_all_together_are_too_large(answer: ModelReply, dropped: str) -> None:
    kept, names = bounded(answer)

    assert names == [dropped]
    assert kept == reply(call(extra_content=SIGNATURE))
