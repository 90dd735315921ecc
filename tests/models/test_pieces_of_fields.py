"""What a provider attaches, put together from its pieces."""

from __future__ import annotations

from typing import Any

from workers.models.pieces import MAX_FIELD_BYTES, Fields, joined


def both(*chunks: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The fields that came in these chunks, and the names of those that are too large."""
    fields = Fields()
    for chunk in chunks:
        for name, value in chunk.items():
            fields.add(name, value)
    return fields.fields()


def fields(*chunks: dict[str, Any]) -> dict[str, Any]:
    return both(*chunks)[0]


def test_texts_are_joined_and_null_says_nothing() -> None:
    assert fields({"reasoning_content": "a"}, {"reasoning_content": None}, {"reasoning_content": "a"}) == {
        "reasoning_content": "aa"
    }


def test_a_text_that_is_repeated_whole_behind_its_pieces_counts_once() -> None:
    assert fields({"signature": "ab"}, {"signature": "cd"}, {"signature": "abcd"}) == {"signature": "abcd"}


def test_an_empty_text_came_too() -> None:
    assert fields({"reasoning_content": ""}) == {"reasoning_content": ""}


def test_details_of_one_index_and_type_are_pieces_of_one() -> None:
    chunks = (
        {"reasoning_details": [{"type": "reasoning.text", "text": "I ", "index": 0, "format": "f"}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "think", "index": 0, "format": "f"}]},
        {"reasoning_details": [{"type": "reasoning.text", "signature": "s1", "index": 0}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "e", "index": 0, "id": "rs_1"}]},
    )

    assert fields(*chunks)["reasoning_details"] == [
        {"type": "reasoning.text", "text": "I think", "index": 0, "format": "f", "signature": "s1"},
        {"type": "reasoning.encrypted", "data": "e", "index": 0, "id": "rs_1"},
    ]


def test_details_without_index_that_follow_one_another_are_pieces_of_one() -> None:
    chunks = [{"d": [{"type": "reasoning.summary", "summary": text}]} for text in ("a", "b")]

    assert fields(*chunks, {"d": [{"type": "other", "x": 1}]}) == {
        "d": [{"type": "reasoning.summary", "summary": "ab"}, {"type": "other", "x": 1}]
    }


def test_of_objects_each_field_is_kept_and_of_all_else_the_last_counts() -> None:
    assert joined([{"a": {"x": 1}}, {"a": {"y": 2}, "b": 3}, {"b": 4}]) == {"a": {"x": 1, "y": 2}, "b": 4}
    assert joined([1, 2]) == 2


def test_what_is_repeated_in_each_chunk_does_not_add_up() -> None:
    value = {"note": "x" * 1000}

    assert fields(*[{"provider": value}] * 2000) == {"provider": value}


def test_a_field_that_is_too_large_is_dropped_whole_and_named() -> None:
    assert both({"b": "x" * (MAX_FIELD_BYTES + 1), "c": 1}) == ({"c": 1}, ["b"])
    assert both(*[{"b": "x" * 1000}] * 1000) == ({}, ["b"])
    assert both({"b": "x" * MAX_FIELD_BYTES})[1] == []


def test_what_is_nested_too_deeply_to_be_written_again_is_dropped() -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]

    assert both({"deep": deep, "a": 1}) == ({"a": 1}, ["deep"])
