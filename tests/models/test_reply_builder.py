from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.models.error_chunk import ErrorObject, Malformed
from workers.models.provider import ModelReply, ToolCall
from workers.models.reply import MAX_REPLY_CHARS, ReplyBuilder
from workers.models.tool_calls import MAX_CALLS, MAX_ID_CHARS, MAX_NAME_CHARS


def delta(content: Any = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content, **more}, "finish_reason": finish}]}


def piece(index: int | None = None, call_id: str | None = None, name: str | None = None, arguments: Any = "") -> Any:
    made: dict[str, Any] = {"function": {"name": name, "arguments": arguments}}
    if index is not None:
        made["index"] = index
    if call_id is not None:
        made["id"] = call_id
    return delta(tool_calls=[made])


def built(*chunks: Any) -> ModelReply:
    builder = ReplyBuilder()
    for chunk in chunks:
        builder.feed(chunk)
    builder.finish()
    return builder.reply("asked")


def calls_of(*chunks: Any) -> list[tuple[str, str, str]]:
    return [(call.call_id, call.name, call.arguments) for call in built(*chunks).tool_calls]


def test_text_comes_out_piece_by_piece_and_whole_at_the_end() -> None:
    builder = ReplyBuilder()

    pieces = [
        builder.feed(chunk) for chunk in (delta(role="assistant"), delta(""), delta("Hel"), delta("lo"), delta({}))
    ]

    assert pieces[:4] == ["", "", "Hel", "lo"]
    assert builder.reply("asked").text == "Hello"


@pytest.mark.parametrize(
    ("chunk", "pieces"),
    [
        (delta("x"), 1),
        (delta(reasoning_content="hm"), 1),
        (delta([{"type": "thinking", "thinking": "hm"}]), 1),
        (piece(0, arguments="{"), 1),
        (delta(finish="stop"), 1),
        ({"choices": [], "usage": {"total_tokens": 1}}, 1),
        ({"choices": []}, 0),
        (delta(""), 0),
        (delta(None, role="assistant", tool_calls=None), 0),
        ({"choices": [{"index": 0}]}, 0),
    ],
)
def test_a_chunk_brings_a_piece_of_the_answer_or_none(chunk: Any, pieces: int) -> None:
    builder = ReplyBuilder()

    builder.feed(chunk)

    assert builder.pieces == pieces


def test_what_ended_an_answer_and_its_usage_are_pieces_once() -> None:
    builder = ReplyBuilder()

    for _ in range(3):
        builder.feed({**delta(finish="stop"), "usage": {"total_tokens": 1}})

    assert builder.pieces == 2


def test_a_reply_is_complete_once_its_finish_reason_is_in() -> None:
    builder = ReplyBuilder()
    builder.feed(delta("Hi"))
    assert not builder.complete

    builder.feed(delta(finish="length"))

    assert builder.complete
    assert builder.reply("asked").finish_reason == "length"


def test_usage_is_found_in_a_chunk_without_choices_and_in_any_other() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
    whole = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}

    assert built(delta("x", "stop"), {"choices": [], "usage": usage}).usage == whole
    assert built({**delta("x", "stop"), "usage": usage}, {"choices": [], "usage": None}).usage == whole
    assert built(delta("x", "stop")).usage == {}


@pytest.mark.parametrize("wrong", [-1, True, 1.5, "7", None, 2**63])
def test_usage_that_counts_nothing_is_left_out(wrong: Any) -> None:
    told = built({**delta("x", "stop"), "usage": {"prompt_tokens": wrong, "completion_tokens": 2}}).usage

    assert told == {"completion_tokens": 2, "total_tokens": 2}


def test_the_model_is_named_as_the_provider_names_it() -> None:
    assert built({**delta("x"), "model": "real-1"}).model == "real-1"
    assert built(delta("x")).model == "asked"


def test_parallel_calls_are_put_together_by_index() -> None:
    assert calls_of(
        piece(0, "a", "one", '{"x"'),
        piece(1, "b", "two", ""),
        piece(0, arguments=": 1}"),
        piece(1, arguments="{}"),
    ) == [("a", "one", '{"x": 1}'), ("b", "two", "{}")]


def test_calls_without_index_are_told_apart_by_id() -> None:
    assert calls_of(piece(None, "a", "one", "{"), piece(None, "b", "two", "{}"), piece(None, "a", None, "}")) == [
        ("a", "one", "{}"),
        ("b", "two", "{}"),
    ]


def test_pieces_with_neither_index_nor_id_belong_to_the_last_call() -> None:
    assert [
        call[1:] for call in calls_of(piece(name="one", arguments="{"), piece(arguments="}"), piece(name="two"))
    ] == [
        ("one", "{}"),
        ("two", "{}"),
    ]


def test_whole_calls_under_the_same_index_are_different_calls() -> None:
    assert calls_of(piece(0, "a", "one", '{"n": 1}'), piece(0, "b", "one", '{"n": 2}')) == [
        ("a", "one", '{"n": 1}'),
        ("b", "one", '{"n": 2}'),
    ]


def test_an_id_and_name_repeated_in_each_piece_make_one_call() -> None:
    assert calls_of(piece(0, "a", "one", "{"), piece(0, "a", "one", "}")) == [("a", "one", "{}")]


def test_missing_and_doubled_ids_are_made_anew_and_differ() -> None:
    ids = [call[0] for call in calls_of(piece(0, None, "one"), piece(1, "same", "two"), piece(2, "same", "three"))]

    assert ids[1] == "same"
    assert len(set(ids)) == 3
    assert all(ids)


def test_arguments_may_be_an_object_or_missing() -> None:
    calls = calls_of(piece(0, "a", "one", {"x": [1]}), piece(1, "b", "two", None))

    assert [json.loads(arguments) for _, _, arguments in calls] == [{"x": [1]}, {}]


def test_arguments_that_are_no_json_are_kept_as_the_model_wrote_them() -> None:
    assert built(piece(0, "a", "one", "{oops")).tool_calls == (ToolCall(call_id="a", name="one", arguments="{oops"),)


def test_a_refusal_is_text_and_text_may_be_a_list_of_parts() -> None:
    assert built(delta(None, refusal="I will not.")).text == "I will not."
    assert (
        built(delta([{"type": "text", "text": "a"}, {"type": "thinking"}, {"type": "text", "text": "b"}])).text == "ab"
    )


def test_a_body_that_is_not_streamed_is_one_chunk() -> None:
    message = {
        "role": "assistant",
        "content": "Hi",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "one", "arguments": "{}"}},
            {"id": "b", "type": "function", "function": {"name": "two", "arguments": "{}"}},
        ],
    }

    reply = built({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})

    assert (reply.text, [call.name for call in reply.tool_calls]) == ("Hi", ["one", "two"])


def test_other_choices_than_the_first_are_left_out() -> None:
    assert built(delta("a"), {"choices": [{"index": 1, "delta": {"content": "b"}}]}).text == "a"


def test_an_empty_answer_is_an_answer_and_no_choice_at_all_is_none() -> None:
    assert built(delta(finish="stop")).text == ""
    with pytest.raises(Malformed, match="no choice"):
        built({"choices": [], "usage": {"prompt_tokens": 1}})


def test_an_error_object_is_an_error() -> None:
    with pytest.raises(ErrorObject):
        built({"error": {"message": "overloaded"}})


def test_a_call_without_a_name_is_malformed() -> None:
    with pytest.raises(Malformed, match="no name"):
        built(piece(0, "a", None, "{}"))


@pytest.mark.parametrize("indexed", [True, False])
def test_an_answer_calls_no_more_tools_than_a_turn_can_be_asked_for(indexed: bool) -> None:
    calls = [piece(at if indexed else None, f"c{at}", "one", "{}") for at in range(MAX_CALLS + 1)]

    assert len(calls_of(*calls[:-1])) == MAX_CALLS
    with pytest.raises(Malformed, match=f"more than {MAX_CALLS} tools"):
        built(*calls)


@pytest.mark.parametrize("what", ["call_id", "name"])
def test_ids_and_names_of_calls_are_bounded(what: str) -> None:
    most = {"call_id": MAX_ID_CHARS, "name": MAX_NAME_CHARS}[what]

    def named(chars: int) -> Any:
        return piece(0, **{"call_id": "a", "name": "one", what: "x" * chars})

    assert len(calls_of(named(most))) == 1
    with pytest.raises(Malformed, match=str(most)):
        built(named(most + 1))


def test_ids_and_names_count_for_the_size_of_a_reply() -> None:
    builder = ReplyBuilder()
    builder.feed(delta("x" * (MAX_REPLY_CHARS - 4)))
    builder.feed(piece(0, "id", "n"))

    with pytest.raises(Malformed, match="longer"):
        builder.feed(piece(1, None, "two"))


def test_a_reply_does_not_grow_without_bound() -> None:
    builder = ReplyBuilder()
    builder.feed(delta("x" * MAX_REPLY_CHARS))

    with pytest.raises(Malformed, match="longer"):
        builder.feed(piece(0, "a", "one", "x"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "content", "tool_calls", "function", "index", "id", "name", "error", "usage"]
            ),
            inner,
            max_size=4,
        )
    ),
)


@given(
    JSON | st.fixed_dictionaries({"choices": st.lists(st.fixed_dictionaries({"delta": JSON}), min_size=1, max_size=2)})
)
def test_no_json_raises_anything_but_the_errors_that_are_told(chunk: Any) -> None:
    try:
        reply = built(chunk)
    except (Malformed, ErrorObject):
        return
    assert isinstance(reply.text, str)
    assert all(
        isinstance(value, str) for call in reply.tool_calls for value in (call.call_id, call.name, call.arguments)
    )
