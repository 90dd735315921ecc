"""What a model thinks aloud is told apart from its answer, whatever field it stands in, and however it is cut."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.models.provider import ModelReply
from workers.models.reply import ReplyBuilder


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def heard(*chunks: Any) -> tuple[ModelReply, str, str]:
    """The reply; the text and the reasoning that came out on the way."""
    builder = ReplyBuilder()
    text = "".join([builder.feed(chunk) for chunk in chunks]) + builder.finish()
    return builder.reply("asked"), text, builder.thought


@pytest.mark.parametrize(
    "fields",
    [
        lambda piece: {"reasoning_content": piece},
        lambda piece: {"reasoning": piece},
        lambda piece: {"reasoning_content": piece, "reasoning": piece},
        lambda piece: {"reasoning_details": [{"type": "reasoning.text", "text": piece, "index": 0}]},
        lambda piece: {"reasoning": piece, "reasoning_details": [{"type": "reasoning.text", "text": piece}]},
        lambda piece: {"reasoning_details": [{"type": "reasoning.summary", "summary": piece}]},
        lambda piece: {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": piece}]}]},
    ],
)
def test_reasoning_is_told_apart_from_the_answer(fields: Any) -> None:
    reply, text, thought = heard(delta(**fields("I ")), delta(**fields("think")), delta(content="Yes"), delta("stop"))

    assert (reply.text, reply.reasoning) == ("Yes", "I think")
    assert (text, thought) == ("Yes", "I think")


def test_what_came_as_a_field_of_its_own_is_attached_as_it_came() -> None:
    details = [{"type": "reasoning.text", "text": "hm", "index": 0}, {"type": "reasoning.encrypted", "data": "x"}]
    reply, _, _ = heard(delta(reasoning="h", reasoning_details=details[:1]), delta(reasoning="m"), delta(content="Yes"))

    assert reply.attached == {"reasoning": "hm", "reasoning_details": details[:1]}


def test_reasoning_of_a_whole_message_is_read_too() -> None:
    message = {"role": "assistant", "content": "Yes", "reasoning_content": "hm", "annotations": [{"a": 1}]}
    reply, text, thought = heard({"choices": [{"message": message, "finish_reason": "stop"}]})

    assert (text, thought) == ("Yes", "hm")
    assert reply.attached == {"reasoning_content": "hm", "annotations": [{"a": 1}]}


def test_an_empty_reasoning_comes_back_as_such() -> None:
    reply, _, _ = heard(delta(reasoning_content="", content="Yes"), delta("stop"))

    assert (reply.reasoning, reply.attached) == ("", {"reasoning_content": ""})


@pytest.mark.parametrize("tag", ["think", "thinking", "thought"])
def test_thinking_between_tags_at_the_beginning_is_reasoning(tag: str) -> None:
    reply, text, thought = heard(delta("stop", content=f"\n<{tag}>\nhm\n</{tag}>\n\nYes"))

    assert (reply.text, text, thought.strip()) == ("Yes", "Yes", "hm")


@pytest.mark.parametrize(
    "text",
    ["<thin", "<", "  ", "Use <think>x</think>.", "<b>bold</b>", "<think>never closed", "<think>", "[TH"],
)
def test_no_text_is_lost_that_is_no_thinking(text: str) -> None:
    reply, told, _ = heard(delta(content=text), delta("stop"))

    assert (reply.text, told, reply.reasoning) == (text, text, "")


def test_thinking_that_its_limit_cut_off_is_no_answer() -> None:
    reply, told, thought = heard(delta(content="<think>on and"), delta("length", content=" on</thi"))

    assert (reply.text, told, thought) == ("", "", "on and on</thi")


CONTENT = st.lists(st.sampled_from(["<think>", "</think>", "<", "think", ">", "/", "\n", " ", "a", "Yes"]), max_size=8)


@given(CONTENT, st.lists(st.integers(0, 60), max_size=8), st.sampled_from(["stop", "length"]))
def test_a_text_is_told_apart_the_same_way_however_it_is_cut(parts: list[str], cuts: list[int], end: str) -> None:
    text = "".join(parts)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[one:two] for one, two in pairwise(places)]

    whole, told_at_once, thought_at_once = heard(delta(content=text), delta(end))
    cut, told, thought = heard(*[delta(content=piece) for piece in pieces], delta(end))

    assert (cut.text, cut.reasoning) == (whole.text, whole.reasoning)
    assert told == told_at_once == whole.text
    assert thought == thought_at_once
