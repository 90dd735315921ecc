"""How an answer ends, and how a provider says that it has none: in whatever words, casing and place."""

from __future__ import annotations

from typing import Any

import pytest

from workers.models import ends
from workers.models.error_chunk import BrokenOff, ErrorObject
from workers.models.failure import words_of_error
from workers.models.provider import ModelReply
from workers.models.reply import ReplyBuilder


def delta(content: Any = None, finish: Any = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content, **more}, "finish_reason": finish}]}


def built(*chunks: Any) -> ModelReply:
    builder = ReplyBuilder()
    for chunk in chunks:
        builder.feed(chunk)
    builder.finish()
    return builder.reply("asked")


@pytest.mark.parametrize(
    ("word", "end"),
    [
        ("stop", "stop"),
        ("STOP", "stop"),
        ("FinishReason.STOP", "stop"),
        ("FINISH_REASON_STOP", "stop"),
        ("eos", "stop"),
        ("eos_token", "stop"),
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("COMPLETE", "stop"),
        ("normal", "stop"),
        ({"type": "stop", "matched": 7}, "stop"),
        ("MAX_TOKENS", "length"),
        ("max_tokens", "length"),
        ("model_length", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("tool-calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("SAFETY", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("guardrail_intervened", "content_filter"),
        ("sensitive", "content_filter"),
        ("refusal", "content_filter"),
    ],
    ids=str,
)
def test_an_end_is_told_in_the_words_of_the_api(word: Any, end: str) -> None:
    assert built(delta("Hi", word)).finish_reason == end


@pytest.mark.parametrize(
    "word",
    [
        "error",
        "ERROR",
        "abort",
        "aborted",
        "cancelled",
        "network_error",
        "insufficient_system_resource",
        "malformed_function_call",
        "MALFORMED_FUNCTION_CALL",
        "FinishReason.MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "OTHER",
        "timeout",
        "engine_overloaded",
        "rate_limit_exceeded",
        "some_new_error",
        {"type": "abort", "message": "client gone"},
    ],
    ids=str,
)
@pytest.mark.parametrize("message", [False, True], ids=["streamed", "whole"])
def test_a_word_of_failure_is_never_a_success(word: Any, message: bool) -> None:
    half = {"content": "The first half"}
    whole = {"choices": [{"message": half, "finish_reason": word}]}

    with pytest.raises(BrokenOff):
        built(*([whole] if message else [delta("The first half"), delta(finish=word)]))


def test_no_word_is_an_end_and_a_failure() -> None:
    assert not [word for word in ends.FAILURES if ends.end_of(word)]


@pytest.mark.parametrize("word", ["null", "None", "", None])
def test_a_word_for_no_end_yet_ends_nothing(word: Any) -> None:
    builder = ReplyBuilder()

    builder.feed(delta("Hi", word))

    assert not builder.complete


def test_an_unknown_word_counts_as_stop_and_is_kept_for_the_log() -> None:
    builder = ReplyBuilder()
    builder.feed(delta("Hi", "Solar Flare"))

    assert builder.complete
    assert builder.reply("asked").finish_reason == "stop"
    assert builder.odd_end == "solar_flare"


@pytest.mark.parametrize(
    ("chunk", "status", "text"),
    [
        ({"error": {"message": "boom", "code": 502}}, 502, "boom"),
        ({"error": "boom"}, None, "boom"),
        ({"error": "boom", "status": 503}, 503, "boom"),
        ({"error": ["boom"]}, None, "boom"),
        ([{"error": {"message": "boom", "code": 400, "status": "INVALID_ARGUMENT"}}], 400, "boom"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "boom"}}, 503, "boom"),
        ({"object": "error", "message": "boom", "type": "BadRequestError", "param": None, "code": 400}, 400, "boom"),
        ({"object": "error", "message": "boom", "code": "40001"}, None, "boom"),
        ({"type": "error", "message": "boom", "code": 429}, 429, "boom"),
        ({"detail": "boom"}, None, "boom"),
        ({"detail": [{"loc": ["body"], "msg": "boom"}]}, None, "boom"),
        ({"type": "about:blank", "title": "Bad Gateway", "status": 502, "detail": "boom"}, 502, "boom"),
        ({"message": "boom"}, None, "boom"),
        ({"statusCode": 401, "message": "boom"}, 401, "boom"),
        ({"error_code": 336003, "error_msg": "boom"}, None, "boom"),
        ({"errors": [{"code": 7000, "message": "boom"}], "success": False}, None, "boom"),
        ({"base_resp": {"status_code": 1004, "status_msg": "boom"}, "choices": None}, None, "boom"),
        ({"error": {"error": {"message": "boom", "code": 400}}}, 400, "boom"),
        ("boom", None, "boom"),
        ({"choices": [{"index": 0, "delta": {}, "error": {"code": 502, "message": "boom"}}]}, 502, "boom"),
        (
            {"choices": [{"delta": {}, "finish_reason": "error", "error": {"code": 502, "message": "boom"}}]},
            502,
            "boom",
        ),
        ({"choices": [{"delta": {}, "finish_reason": "stop"}], "x_groq": {"error": "boom"}}, None, "boom"),
    ],
)
def test_an_error_is_recognised_in_any_form_with_its_own_status(chunk: Any, status: int | None, text: str) -> None:
    with pytest.raises(ErrorObject) as raised:
        built(delta("The first half"), chunk)

    words = words_of_error(raised.value.chunk)
    assert (words.status, text in words.text) == (status, True)


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": [], "usage": {"prompt_tokens": 1}},
        {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
        {"error": None},
        {"error": {}},
        {"type": "ping"},
        {"object": "chat.completion.chunk", "id": "c1"},
        {"status": "in_progress", "message": "still thinking"},
        {"code": 0, "message": "Success", "sid": "x"},
        {"base_resp": {"status_code": 0, "status_msg": ""}},
        [],
        None,
    ],
    ids=str,
)
def test_what_is_neither_answer_nor_error_is_read_over(chunk: Any) -> None:
    assert built(delta("Hi"), chunk, delta(finish="stop")).text == "Hi"


@pytest.mark.parametrize(
    "usage_of",
    [
        lambda usage: [{**delta("Hi", "stop"), "usage": usage}],
        lambda usage: [delta("Hi", "stop"), {"choices": [], "usage": usage}],
        lambda usage: [delta("Hi", "stop"), {"choices": [{"index": 0, "delta": {}}], "usage": usage}],
        lambda usage: [
            {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop", "usage": usage}]}
        ],
        lambda usage: [{**delta("Hi", "stop"), "x_groq": {"id": "r", "usage": usage}}],
        lambda usage: [delta("Hi", "stop"), {"x_groq": {"usage": usage}}],
        lambda usage: [
            {**delta("H"), "usage": {"prompt_tokens": 19, "completion_tokens": 1, "total_tokens": 20}},
            {**delta("i", "stop"), "usage": usage},
        ],
        lambda usage: [{**delta("Hi", "stop"), "usage": usage}, {"usage": dict.fromkeys(usage, 0)}],
    ],
    ids=[
        "last chunk",
        "own",
        "own with a choice",
        "in the choice",
        "x_groq",
        "x_groq alone",
        "each chunk",
        "zeros behind",
    ],
)
@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 19, "completion_tokens": 13, "total_tokens": 32},
        {"prompt_tokens": 19.0, "completion_tokens": 13.0, "total_tokens": 32.0},
        {"input_tokens": 19, "output_tokens": 13},
        {"prompt_tokens": 19, "completion_tokens": 13},
    ],
    ids=["plain", "floats", "other names", "no total"],
)
def test_usage_is_found_wherever_it_stands(usage_of: Any, usage: Any) -> None:
    assert built(*usage_of(usage)).usage == {"prompt_tokens": 19, "completion_tokens": 13, "total_tokens": 32}


def test_parts_of_the_usage_may_come_in_different_chunks() -> None:
    chunks = [{**delta("Hi"), "usage": {"input_tokens": 19}}, {**delta(finish="stop"), "usage": {"output_tokens": 13}}]

    assert built(*chunks).usage == {"prompt_tokens": 19, "completion_tokens": 13, "total_tokens": 32}


def test_a_last_chunk_that_says_all_once_more_does_not_double_the_answer() -> None:
    message = {"role": "assistant", "content": "Hello", "reasoning_content": "hm hm"}
    pieces = [delta("Hel", reasoning_content="hm "), delta("lo", reasoning_content="hm")]
    for last in (
        delta("Hello", "stop", reasoning_content="hm hm"),
        {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "delta": {}, "message": message, "finish_reason": "stop"}]},
    ):
        reply = built(*pieces, last)
        assert (reply.text, reply.reasoning, reply.attached) == ("Hello", "hm hm", {"reasoning_content": "hm hm"})


def test_a_whole_message_brings_the_end_that_the_pieces_lack() -> None:
    whole = {"choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}]}

    builder = ReplyBuilder()
    assert [builder.feed(chunk) for chunk in (delta("Hel"), whole)] == ["Hel", "lo"]


@pytest.mark.parametrize("texts", [["Hel", "lo"], ["Hel", "Hello"], ["Hel", "Hello", "Hello"]])
def test_messages_in_place_of_deltas_are_pieces_or_all_so_far(texts: list[str]) -> None:
    chunks = [{"choices": [{"index": 0, "message": {"content": text}}]} for text in texts]
    chunks[-1]["choices"][0]["finish_reason"] = "stop"

    assert built(*chunks).text == "Hello"


def test_short_pieces_that_happen_to_be_the_same_are_both_meant() -> None:
    assert built(delta("1"), delta("1", "length")).text == "11"


def test_the_old_function_call_is_a_tool_call_streamed_or_whole() -> None:
    function = {"name": "one", "arguments": '{"n":1}'}
    streamed = [
        delta(function_call={"name": "one", "arguments": ""}),
        delta(function_call={"arguments": '{"n":'}),
        delta(None, "function_call", function_call={"arguments": "1}"}),
    ]
    whole = [{"choices": [{"message": {"content": None, "function_call": function}, "finish_reason": "function_call"}]}]

    for chunks in (streamed, whole):
        reply = built(*chunks)
        assert [(call.name, call.arguments) for call in reply.tool_calls] == [("one", '{"n":1}')]
        assert reply.finish_reason == "tool_calls"


def test_text_may_stand_before_and_behind_tool_calls() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "one", "arguments": "{}"}}

    reply = built(delta("before "), delta(None, tool_calls=[call]), delta("behind"), delta(finish="tool_calls"))

    assert (reply.text, [made.name for made in reply.tool_calls]) == ("before behind", ["one"])


def test_the_index_of_the_only_choice_need_not_be_0() -> None:
    assert built({"choices": [{"index": 1, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}).text == "Hi"
