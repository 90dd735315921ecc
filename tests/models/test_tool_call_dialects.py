"""Tool calls as servers write them: whatever the dialect, the calls are those that the model made."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.models.error_chunk import Malformed
from workers.models.provider import ToolCall
from workers.models.tool_calls import MAX_ID_CHARS, ToolCalls, joined_arguments

TEXT = '{"text":"x"}'
X = {"text": "x"}


def piece(index: Any = None, call_id: Any = None, name: str | None = None, arguments: Any = None) -> dict[str, Any]:
    made: dict[str, Any] = {"function": {"name": name, "arguments": arguments}}
    return made | ({} if index is None else {"index": index}) | ({} if call_id is None else {"id": call_id})


def taken(*chunks: list[dict[str, Any]], whole: Any = None) -> list[ToolCall]:
    calls = ToolCalls(lambda _: None)
    for chunk in chunks:
        calls.take(chunk)
    if whole is not None:
        calls.take_whole(whole)
    return calls.calls()


def read(*pieces: dict[str, Any], whole: Any = None) -> list[tuple[str, Any]]:
    """Name and arguments of the calls that come in these pieces, each in a chunk of its own."""
    return [(call.name, json.loads(call.arguments)) for call in taken(*[[one] for one in pieces], whole=whole)]


ONE_CALL = {
    "plain": [piece(0, "a", "one", ""), piece(0, arguments='{"te'), piece(0, arguments='xt":"x"}')],
    "all at once": [piece(0, "a", "one", TEXT)],
    "repeats id and name in the last piece": [
        piece(0, "a", "one", ""),
        piece(0, arguments='{"text":'),
        piece(0, "a", "one", '"x"}'),
    ],
    "repeats the whole call": [piece(0, "a", "one", ""), piece(0, arguments=TEXT), piece(0, "a", "one", TEXT)],
    "repeats the whole call without its id": [piece(0, "a", "one", TEXT), piece(0, None, "one", TEXT)],
    "repeats the call with other blanks": [piece(0, "a", "one", TEXT), piece(0, "a", "one", '{ "text": "x" }')],
    "repeats the call in pieces": [
        piece(0, "a", "one", TEXT),
        piece(0, "a", "one", '{"text":'),
        piece(0, "a", None, '"x"}'),
    ],
    "pieces, then the whole before the last": [piece(0, "a", "one", '{"te'), piece(0, "a", "one", TEXT)],
    "cumulative": [
        piece(0, "a", "one", ""),
        piece(0, "a", "one", '{"te'),
        piece(0, "a", "one", '{"text":"'),
        piece(0, "a", "one", TEXT),
    ],
    "cumulative behind a placeholder": [
        piece(0, "a", "one", "{}"),
        piece(0, arguments='{"te'),
        piece(0, arguments=TEXT),
    ],
    "an empty object first": [
        piece(0, "a", "one", "{}"),
        piece(0, arguments='{"text":'),
        piece(0, arguments='"x"}'),
    ],
    "null first": [piece(0, "a", "one", "null"), piece(0, arguments=TEXT)],
    "an empty object last": [piece(0, "a", "one", TEXT), piece(0, arguments="{}")],
    "an empty object as an object first": [piece(0, "a", "one", {}), piece(0, arguments=TEXT)],
    "an object": [piece(0, "a", "one", {"text": "x"})],
    "under two indexes": [piece(0, "a", "one", TEXT), piece(1, "a", "one", TEXT)],
    "head and arguments under two indexes": [piece(0, "a", "one", ""), piece(1, arguments=TEXT)],
    "the second half under another index": [piece(0, "a", "one", '{"text":'), piece(1, arguments='"x"}')],
    "an index as a text": [piece("0", "a", "one", '{"text":'), piece("0", arguments='"x"}')],
    "an index as a float": [piece(0.0, "a", "one", '{"text":'), piece(0, arguments='"x"}')],
    "no index": [piece(None, "a", "one", '{"text":'), piece(None, "a", None, '"x"}')],
    "no index and no id": [piece(None, None, "one", '{"text":'), piece(arguments='"x"}')],
    "the name in each piece, without index and id": [
        piece(None, None, "one", '{"text":'),
        piece(None, None, "one", '"x"}'),
    ],
    "a new id for each piece": [piece(0, "a", "one", '{"text":'), piece(0, "b", "one", '"x"}')],
    "a new id for each piece without index": [piece(None, "a", "one", '{"text":'), piece(None, "b", None, '"x"}')],
    "the id after the name": [piece(0, None, "one", ""), piece(0, "a", None, TEXT)],
    "a name in pieces": [piece(0, "a", "o", ""), piece(0, None, "ne", ""), piece(0, None, None, TEXT)],
    "a name that grows": [piece(0, "a", "o", ""), piece(0, "a", "one", ""), piece(0, "a", None, TEXT)],
    "an entry without anything behind": [piece(0, "a", "one", TEXT), piece(1, "", "", "")],
    "an entry with an id alone behind": [piece(0, "a", "one", TEXT), piece(1, "b", "", None)],
    "an entry with empty arguments behind": [piece(0, "a", "one", TEXT), piece(1, None, None, "{}")],
    "no function around": [{"index": 0, "id": "a", "name": "one", "arguments": TEXT}],
    "an index that begins at 1": [piece(1, "a", "one", TEXT)],
}


@pytest.mark.parametrize("pieces", ONE_CALL.values(), ids=ONE_CALL)
def test_one_call_is_one_call_in_any_dialect(pieces: list[dict[str, Any]]) -> None:
    assert read(*pieces) == [("one", X)]


TWO_CALLS = {
    "parallel and interleaved": [
        piece(0, "a", "one", '{"n":'),
        piece(1, "b", "two", '{"n":'),
        piece(0, arguments="1}"),
        piece(1, arguments="2}"),
    ],
    "under one index": [piece(0, "a", "one", '{"n":1}'), piece(0, "b", "two", '{"n":2}')],
    "under one index without ids": [piece(0, None, "one", '{"n":1}'), piece(0, None, "two", '{"n":2}')],
    "under one index, both in pieces": [
        piece(0, "a", "one", '{"n":'),
        piece(0, arguments="1}"),
        piece(0, "b", "two", '{"n":'),
        piece(0, arguments="2}"),
    ],
    "without index": [piece(None, "a", "one", '{"n":1}'), piece(None, "b", "two", '{"n":2}')],
    "without index and id": [piece(None, None, "one", '{"n":1}'), piece(None, None, "two", '{"n":2}')],
    "with the same id": [piece(0, "a", "one", '{"n":1}'), piece(1, "a", "two", '{"n":2}')],
    "interleaved without index": [
        piece(None, "a", "one", '{"n":'),
        piece(None, "b", "two", '{"n":2}'),
        piece(None, "a", None, "1}"),
    ],
}


@pytest.mark.parametrize("pieces", TWO_CALLS.values(), ids=TWO_CALLS)
def test_two_calls_are_two_calls_in_any_dialect(pieces: list[dict[str, Any]]) -> None:
    assert read(*pieces) == [("one", {"n": 1}), ("two", {"n": 2})]


def test_calls_of_one_tool_with_other_arguments_are_different_calls() -> None:
    assert read(piece(0, "a", "one", '{"n":1}'), piece(1, "a", "one", '{"n":2}')) == [
        ("one", {"n": 1}),
        ("one", {"n": 2}),
    ]
    assert read(piece(0, None, "one", '{"n":1}'), piece(0, None, "one", '{"n":2}')) == [
        ("one", {"n": 1}),
        ("one", {"n": 2}),
    ]


def test_the_same_call_may_be_made_twice() -> None:
    assert read(piece(0, "a", "roll", "{}"), piece(1, "b", "roll", "{}")) == [("roll", {}), ("roll", {})]
    both = taken([piece(None, None, "roll", "{}"), piece(None, None, "roll", "{}")])
    assert [call.name for call in both] == ["roll", "roll"]


@pytest.mark.parametrize("chars", [1_000, 10_000, MAX_ID_CHARS])
def test_a_long_id_stays_as_it_is(chars: int) -> None:
    assert taken([piece(0, "q" * chars, "one", "{}")])[0].call_id == "q" * chars


def test_a_number_may_be_an_id() -> None:
    assert [call.call_id for call in taken([piece(0, 0, "one"), piece(1, 17, "two")])] == ["0", "17"]


def test_calls_that_share_an_id_get_different_ones() -> None:
    ids = {call.call_id for call in taken([piece(0, "a", "one"), piece(1, "a", "two"), piece(2, None, "three")])}

    assert len(ids) == 3


def test_arguments_without_a_name_are_malformed() -> None:
    with pytest.raises(Malformed, match="no name"):
        taken([piece(0, "a", None, TEXT)])


@pytest.mark.parametrize(
    "before", [[], [piece(0, "a", "one", TEXT)], [piece(0, "a", "one", '{"te')], [piece(0, None, "one", "")]]
)
def test_a_whole_message_behind_its_pieces_adds_nothing(before: list[dict[str, Any]]) -> None:
    whole = [{"id": "a", "type": "function", "function": {"name": "one", "arguments": TEXT}}]

    assert read(*before, whole=whole) == [("one", X)]


def test_a_whole_message_brings_the_calls_of_which_no_piece_came() -> None:
    whole = [piece(None, "a", "one", TEXT), piece(None, "b", "one", TEXT), piece(None, "c", "two", "{}")]

    assert read(piece(0, "a", "one", TEXT), whole=whole) == [("one", X), ("one", X), ("two", {})]


def test_what_is_attached_to_a_call_is_kept_as_it_came() -> None:
    signature = {"google": {"thought_signature": "abc"}}
    first = piece(0, "a", "one", '{"te') | {"extra_content": signature}

    call, other = taken([first], [piece(0, arguments='xt":"x"}')], [piece(1, "b", "two")])

    assert call.attached == {"extra_content": signature}
    assert other.attached == {}


def test_what_is_attached_to_the_function_of_a_call_is_kept_under_function() -> None:
    one = {"index": 0, "id": "a", "function": {"name": "one", "arguments": TEXT, "provider_specific_fields": {"s": 1}}}

    assert taken([one])[0].attached == {"function": {"provider_specific_fields": {"s": 1}}}


@pytest.mark.parametrize("cut", ['{"te', "{oops", "[1]", "5", '{"a":1}{"b":2}', '{"a":1} trailing'])
def test_arguments_that_are_no_object_stay_as_the_model_wrote_them(cut: str) -> None:
    assert joined_arguments([cut]) == cut


ARGUMENTS = st.dictionaries(
    st.text(max_size=4), st.recursive(st.integers() | st.text(max_size=6), lambda inner: st.lists(inner, max_size=3))
)


@st.composite
def cuttings(draw: st.DrawFn, text: str) -> list[str]:
    places = sorted(draw(st.sets(st.integers(0, len(text)), max_size=6)) | {0, len(text)})
    return [text[one:two] for one, two in pairwise(places)]


@pytest.mark.parametrize("pieces", [['"{\\"a\\": 1}"'], ['"{\\"a', '\\": 1}"']])
def test_arguments_that_are_encoded_twice_are_read(pieces: list[str]) -> None:
    assert joined_arguments(pieces) == '{"a": 1}'


@given(st.data(), ARGUMENTS, st.sampled_from(["plain", "cumulative", "repeated", "placeholder"]))
def test_arguments_are_the_same_however_they_are_cut_and_told(data: st.DataObject, arguments: Any, how: str) -> None:
    text = json.dumps(arguments)
    pieces = data.draw(cuttings(text))
    match how:
        case "cumulative":
            pieces = ["".join(pieces[: at + 1]) for at in range(len(pieces))]
        case "repeated":
            pieces.append(text)
        case "placeholder":
            pieces.insert(0, data.draw(st.sampled_from(["{}", "null", '""'])))

    assert json.loads(joined_arguments(pieces)) == arguments
