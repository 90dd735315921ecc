"""What a runtime adds to the transcript: valid at any moment, whatever the runtime tries to add."""

from __future__ import annotations

from contextlib import suppress

import pytest
from fakes.rows import assistant, calls, result, user, validate
from hypothesis import given
from hypothesis import strategies as st

from workers.models.provider import ToolCall
from workers.runtimes.transcript import OUTCOME_UNKNOWN, KeptRows, Misuse, closing, tool_message

IDS = ("a", "b", "c")


def call(call_id: str) -> ToolCall:
    return ToolCall(call_id=call_id, name="mcp__files__read", arguments="{}")


def test_the_next_commit_has_what_was_kept_and_the_one_after_it_has_not() -> None:
    rows = KeptRows()
    rows.add([user("hi")])

    assert rows.send() == [user("hi")]
    assert rows.send() == []
    assert rows.sent == [user("hi")]


def test_a_cut_closes_the_calls_without_a_result_in_their_order() -> None:
    rows = KeptRows()
    rows.add([calls("a", "b")])
    rows.send()
    rows.add([result("b")])

    assert rows.closing() == [result("b"), tool_message("a", OUTCOME_UNKNOWN)]


@pytest.mark.parametrize("row", [user("hi"), assistant("hi"), calls("c")])
def test_nothing_but_a_result_is_kept_while_a_call_has_none(row: bytes) -> None:
    rows = KeptRows()
    rows.add([calls("a")])

    with pytest.raises(Misuse):
        rows.add([row])

    assert rows.unsent == [calls("a")]


def test_a_result_is_kept_once_for_each_call() -> None:
    rows = KeptRows()
    rows.add([calls("a"), result("a")])

    with pytest.raises(Misuse):
        rows.add([result("a")])


def test_a_call_is_made_once_and_only_where_a_message_calls_it() -> None:
    rows = KeptRows()
    rows.add([calls("a")])
    rows.call([call("a")])

    for call_id in ("a", "b"):
        with pytest.raises(Misuse):
            rows.call([call(call_id)])


def test_a_call_that_has_its_result_is_not_made() -> None:
    rows = KeptRows()
    rows.add([calls("a"), result("a")])

    with pytest.raises(Misuse):
        rows.call([call("a")])


def test_an_id_that_comes_again_is_a_call_of_its_own() -> None:
    rows = KeptRows()
    rows.add([calls("a")])
    rows.call([call("a")])
    rows.add([result("a"), calls("a")])

    rows.call([call("a")])

    assert rows.closing()[-1] == tool_message("a", OUTCOME_UNKNOWN)


def test_a_text_that_speaks_of_tool_calls_is_a_text() -> None:
    rows = KeptRows()

    rows.add([user('what is "tool_calls"?'), user("go on")])

    assert len(rows.unsent) == 2


_SOME_IDS = st.lists(st.sampled_from(IDS), min_size=1, max_size=3)
_ROWS = st.one_of(
    st.just(user("hi")),
    st.just(assistant("hello")),
    _SOME_IDS.map(lambda ids: calls(*ids)),
    st.sampled_from(IDS).map(result),
)


@given(st.lists(st.one_of(_ROWS, st.sampled_from(["send", *IDS])), max_size=30))
def test_the_transcript_is_valid_at_any_moment_once_it_is_closed(steps: list[bytes | str]) -> None:
    rows = KeptRows()
    for step in steps:
        with suppress(Misuse):
            if isinstance(step, bytes):
                rows.add([step])
            elif step == "send":
                rows.send()
            else:
                rows.call([call(step)])
        validate([*rows.sent, *rows.closing()])
        validate([*rows.sent, *closing(rows.sent)])  # as the next owner finds and closes it
