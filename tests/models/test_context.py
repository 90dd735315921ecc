"""How large a request is, and how it is made to fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from fakes.offers import offer_of
from hypothesis import given
from hypothesis import strategies as st

from workers.models.context import (
    SHORTENED_BYTES,
    advice_on_length,
    common_cap,
    fitted,
    is_result,
    room_bytes,
    row_size,
    size_of,
    window_in,
    with_room_for_answer,
)
from workers.models.gauge import LEAST_COUNTED_BYTES, Gauge
from workers.models.provider import ModelRequest
from workers.turns import PastTurn


def row(role: str, content: Any, **fields: Any) -> bytes:
    return orjson.dumps({"role": role, "content": content, **fields})


def result(chars: int, call_id: str = "a") -> bytes:
    return row("tool", "x" * chars, tool_call_id=call_id)


def passage(name: str, *rows: bytes) -> PastTurn:
    return PastTurn(turn_id=name, state="completed", rows=rows)


def request(*messages: bytes, past: tuple[PastTurn, ...] = ()) -> ModelRequest:
    return ModelRequest(past=past, messages=messages)


# -- the gauge --------------------------------------------------------------------------------------------------------
def test_a_model_is_estimated_by_its_own_last_count() -> None:
    gauge = Gauge(window=8192).counted(10_000, 2500)

    assert (gauge.tokens(4000), gauge.bytes(1000), gauge.window) == (1000, 4000, 8192)


@pytest.mark.parametrize(("size", "tokens"), [(LEAST_COUNTED_BYTES - 1, 500), (5000, 0)])
def test_a_count_that_says_little_changes_nothing(size: int, tokens: int) -> None:
    assert Gauge().counted(size, tokens) == Gauge()


def test_a_count_out_of_all_proportion_is_bounded() -> None:
    assert Gauge().counted(10_000, 1).tokens_per_byte == 0.05
    assert Gauge().counted(10_000, 10**9).tokens_per_byte == 1.5


@pytest.mark.parametrize(
    ("tokens", "window", "ratio"),
    [
        (5000, 4096, 0.5),  # it counted
        (4097, 4096, 0.8192),  # it stopped counting at its window, so the request is taken for twice as large
        (None, 4096, 0.8192),
        (None, None, 0.3),
        (None, 2000, 0.3),  # as was thought
    ],
)
def test_a_refusal_without_a_count_teaches_that_the_model_counts_more(
    tokens: int | None, window: int | None, ratio: float
) -> None:
    assert Gauge().refused(10_000, tokens, window).tokens_per_byte == ratio


def test_a_picture_counts_as_a_picture_and_not_by_its_bytes() -> None:
    url = "data:image/png;base64," + "A" * 1_000_000
    picture = row("user", [{"type": "image_url", "image_url": {"url": url}}])

    assert 4000 < row_size(picture) < 8000
    assert row_size(row("user", "data: no picture")) == len(row("user", "data: no picture"))


@pytest.mark.parametrize(
    ("parameters", "tokens"),
    [({}, 800), ({"max_tokens": 500}, 500), ({"max_completion_tokens": 400}, 600), ({"max_tokens": 999_999}, 500)],
)
def test_a_long_answer_that_the_caller_asks_for_leaves_less_room_but_half_at_least(
    parameters: dict[str, Any], tokens: int
) -> None:
    gauge = Gauge(window=1000, tokens_per_byte=0.5)

    assert room_bytes(gauge, 0.8, parameters) == tokens * 2
    assert room_bytes(Gauge(), 0.8, parameters) is None


@pytest.mark.parametrize(
    ("tools", "said", "past", "advice"),
    [
        (40_000, 100, 0, "the tools alone have about 12019 tokens, and the model takes 8192: choose which to offer"),
        (100, 40_000, 0, "this message alone has about 12008 tokens, and the model takes 8192: make it shorter"),
        (100, 100, 40_000, ""),
    ],
)
def test_where_no_shorter_conversation_helps_the_advice_says_what_does(
    tools: int, said: int, past: int, advice: str
) -> None:
    definition = {"type": "function", "function": {"name": "a", "description": "x" * tools}}
    refused = ModelRequest(
        past=[passage("a", row("user", "x" * past))], messages=[row("user", "x" * said)], tools=offer_of([definition])
    )

    told = advice_on_length(refused, Gauge(window=8192))

    assert told.startswith(advice)
    assert bool(told) == bool(advice)
    assert advice_on_length(refused, Gauge()) == ""


# -- the bound for an answer ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_an_answer_is_bounded_by_what_the_window_holds_beside_the_request(name: str) -> None:
    asked = ModelRequest(messages=[row("user", "x" * 3000)], parameters={name: 9000, "temperature": 1})

    bounded = with_room_for_answer(asked, Gauge(window=8192)).parameters

    assert 0.75 * 8192 < bounded[name] < 8192 - 900
    assert bounded["temperature"] == 1


@pytest.mark.parametrize(("window", "asked"), [(None, 9000), (8192, 100), (8192, "many"), (8192, True)])
def test_a_bound_that_fits_or_says_nothing_stays_as_it_is(window: int | None, asked: Any) -> None:
    request = ModelRequest(messages=[row("user", "hi")], parameters={"max_tokens": asked})

    assert with_room_for_answer(request, Gauge(window=window)) is request


def test_an_answer_may_have_some_tokens_however_large_the_request_is() -> None:
    asked = ModelRequest(messages=[row("user", "x" * 100_000)], parameters={"max_tokens": 9000})

    assert with_room_for_answer(asked, Gauge(window=8192)).parameters["max_tokens"] == 512


# -- fitting ----------------------------------------------------------------------------------------------------------
def test_a_request_that_fits_stays_as_it_is() -> None:
    small = request(row("user", "hi"), past=(passage("t1", row("user", "before")),))

    assert fitted(small, size_of(small)) is small


def test_the_largest_results_are_shortened_to_one_length_and_say_so() -> None:
    large = request(row("user", "read both"), result(50_000, "a"), result(20_000, "b"), result(300, "c"))

    shorter = fitted(large, 12_000)

    a, b, c = (orjson.loads(message) for message in shorter.messages[1:])
    assert size_of(shorter) <= 12_000
    assert "characters were left out here" in a["content"]
    assert "characters were left out here" in b["content"]
    assert c["content"] == "x" * 300
    assert (a["tool_call_id"], b["tool_call_id"]) == ("a", "b")
    assert abs(len(a["content"]) - len(b["content"])) < 100


def test_where_shortening_is_not_enough_the_oldest_turns_are_left_out_and_a_summary_last() -> None:
    summary = PastTurn(turn_id="", state="completed", rows=(row("user", "s" * 500),))
    past = (summary, *(passage(f"t{n}", row("user", "y" * 1000)) for n in range(5)))

    shorter = fitted(request(row("user", "now"), past=past), 2800)

    assert [kept.turn_id for kept in shorter.past] == ["", "t3", "t4"]


def test_a_past_message_that_is_too_large_by_itself_is_shortened_and_drives_no_other_turn_out() -> None:
    past = (passage("small", row("user", "remember 7")), passage("huge", row("user", "y" * 90_000)))

    shorter = fitted(request(row("user", "now"), past=past), 6000)

    assert [kept.turn_id for kept in shorter.past] == ["small", "huge"]
    assert b"remember 7" in shorter.past[0].rows[0]
    assert b"characters were left out here" in shorter.past[1].rows[0]
    assert size_of(shorter) <= 6000


def test_a_result_is_left_out_with_the_turn_that_has_its_call() -> None:
    asked = passage("old", row("user", "x" * 2000), row("assistant", "", tool_calls=[{"id": "a"}]))
    answered = passage("new", result(10), row("assistant", "so it is"))
    whole = request(row("user", "hi"), past=(asked, answered))

    assert fitted(whole, 300).past == [replace(answered, rows=answered.rows[1:])]


def test_turns_are_not_left_out_where_that_is_not_wanted() -> None:
    past = tuple(passage(f"t{n}", row("user", "y" * 500)) for n in range(5))

    assert fitted(request(row("user", "now"), past=past), 100, leave_out_turns=False).past == list(past)


@given(sizes=st.lists(st.integers(1, 100_000), max_size=12), excess=st.integers(1, 200_000))
def test_a_common_cap_is_as_high_as_it_may_be(sizes: list[int], excess: int) -> None:
    cap = common_cap(sizes, excess)

    if not sizes:
        assert cap is None
        return
    assert cap is not None
    saved = sum(size - cap for size in sizes if size > cap)
    less = sum(size - cap - 1 for size in sizes if size > cap + 1)
    assert cap == SHORTENED_BYTES or (saved >= excess > less)


_TEXT = st.text(alphabet=st.characters(codec="utf-8"), max_size=3000)
_ROWS = st.lists(
    st.one_of(
        st.builds(lambda text: row("user", text), _TEXT),
        st.builds(lambda text: row("assistant", text), _TEXT),
        st.builds(lambda text, times: row("tool", text * times, tool_call_id="c"), _TEXT, st.integers(1, 20)),
    ),
    max_size=8,
)


@given(past=st.lists(_ROWS, max_size=5), own=_ROWS, room=st.integers(0, 200_000))
def test_whatever_is_fitted_keeps_what_people_say_now_and_gets_no_larger(
    past: list[list[bytes]], own: list[bytes], room: int
) -> None:
    before = request(*own, past=tuple(passage(f"t{n}", *rows) for n, rows in enumerate(past)))

    after = fitted(before, room)

    assert size_of(after) <= size_of(before)
    assert [one for one in after.messages if not is_result(one)] == [one for one in own if not is_result(one)]
    assert len(after.messages) == len(own)
    kept = [one.turn_id for one in after.past]
    assert kept == [one.turn_id for one in before.past][len(before.past) - len(kept) :]
    least = sum(len(one) if not is_result(one) else min(len(one), 3 * SHORTENED_BYTES) for one in own)
    assert size_of(after) <= max(room, least) + 64 or kept == [] or size_of(after) <= room


# -- what providers state ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "entry",
    [
        {"id": "m", "meta": {"n_ctx": 4096, "n_ctx_train": 131072}},
        {"id": "m", "max_model_len": 4096},
        {"id": "m", "context_length": 4096},
        {"id": "m", "context_window": 4096},
        {"id": "m", "max_context_length": 131072, "loaded_context_length": 4096},
    ],
)
def test_a_window_is_read_wherever_a_provider_states_it(entry: dict[str, Any]) -> None:
    others = [{"id": "other", "max_model_len": 1024}, "junk", {"id": 7}]

    assert window_in({"object": "list", "data": [*others, entry]}, "m") == 4096
    assert window_in([entry], "m") == 4096


@pytest.mark.parametrize(
    "listing",
    [
        None,
        [],
        {"data": None},
        {"data": [{"id": "m"}]},
        {"data": [{"id": "m", "max_model_len": "4096"}]},
        {"data": [{"id": "m", "max_model_len": True}]},
        {"data": [{"id": "m", "context_length": 0}]},
        {"data": [{"id": "a", "context_length": 4096}, {"id": "b", "context_length": 8192}]},
    ],
)
def test_no_window_is_guessed(listing: Any) -> None:
    assert window_in(listing, "m") is None


def test_a_server_of_one_model_answers_under_any_name() -> None:
    assert window_in({"data": [{"id": "loaded.gguf", "meta": {"n_ctx": 2048}}]}, "anything") == 2048
