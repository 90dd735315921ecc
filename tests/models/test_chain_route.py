"""Who is asked next: the whole table, and what holds for every sequence of outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from fakes.model_failures import failed
from hypothesis import given
from hypothesis import strategies as st

from workers.models.cause import TREATMENTS, Cause
from workers.models.failure import names
from workers.models.provider import ModelFailure
from workers.models.route import (
    MAX_COOLDOWN_S,
    PRIMARY,
    after_failure,
    cooldown_s,
    decisive,
    first_asked,
)

FAILURE = failed(status=500)
OPEN = (True, True, True)


@pytest.mark.parametrize("cause", [cause for cause in Cause if TREATMENTS[cause].next_provider])
def test_what_another_provider_may_do_better_goes_on_with_the_next_one(cause: Cause) -> None:
    failure = failed(cause=cause)

    assert [after_failure(failure, at, OPEN) for at in range(3)] == [1, 2, None]
    assert after_failure(replace(failure, delivered=True), 0, OPEN) is None


def test_a_message_that_was_refused_for_its_content_goes_to_no_other_provider() -> None:
    assert after_failure(failed(status=400, cause=Cause.CONTENT), 0, OPEN) is None


@pytest.mark.parametrize(
    ("causes", "told"),
    [
        ([Cause.KEY, Cause.MODEL], Cause.MODEL),
        ([Cause.DOWN, Cause.KEY], Cause.DOWN),
        ([Cause.RATE, Cause.DOWN, Cause.MODEL], Cause.DOWN),
        ([Cause.CONTEXT, Cause.TIMEOUT], Cause.TIMEOUT),
        ([Cause.PICTURE, Cause.CONTENT], Cause.CONTENT),
        ([Cause.RATE], Cause.RATE),
    ],
)
def test_a_chain_is_told_as_what_may_pass_where_one_of_its_failures_may(causes: list[Cause], told: Cause) -> None:
    *earlier, last = (failed(cause=cause) for cause in causes)

    assert decisive(replace(last, earlier=tuple(earlier))).cause is told


@pytest.mark.parametrize(
    ("text", "model", "named"),
    [
        ("The model `gpt-5` does not exist", "gpt-5", True),
        ("no such model: gpt-5.", "gpt-5", True),
        ("gpt-5: unknown", "gpt-5", True),
        ("org/name:free is not a valid model ID", "org/name:free", True),
        ("try gpt-5-mini, gpt-5.1 or x/gpt-5, not my-gpt-5 or gpt-5:free", "gpt-5", False),
        ("this conversation has no content", "con", False),
        ("a.c", "a.c", True),
        ("abc", "a.c", False),
    ],
)
def test_a_text_names_a_model_as_a_whole(text: str, model: str, named: bool) -> None:
    assert names(text, model) is named


def test_a_closed_provider_is_passed_over() -> None:
    assert after_failure(FAILURE, 0, (True, False, True)) == 2
    assert after_failure(FAILURE, 0, (True, False, False)) is None


@pytest.mark.parametrize(
    ("position", "is_available", "first"),
    [
        (0, (True, True, True), 0),
        (0, (False, True, True), 1),
        (0, (False, False, True), 2),
        (1, (True, True, True), 1),
        (1, (True, False, True), 2),
        (2, (False, True, False), 1),
        (1, (True, False, False), 0),
        (0, (False, False, False), 0),
        (2, (False, False, False), 0),
        (0, (False,), 0),
    ],
)
def test_a_request_begins_at_the_first_open_provider_and_at_the_primary_if_there_is_none(
    position: int, is_available: Sequence[bool], first: int
) -> None:
    assert first_asked(position, is_available) == first


@pytest.mark.parametrize(
    ("failure", "seconds"),
    [
        (failed(status=429, retry_after_s=60.0), 60.0),
        (failed(status=503, retry_after_s=1.0), 1.0),
        (failed(status=429, retry_after_s=10 * MAX_COOLDOWN_S), MAX_COOLDOWN_S),
        (failed(status=429), 0.0),
        (failed(status=404, retry_after_s=60.0), 0.0),
        (failed(status=429, retry_after_s=60.0, code="insufficient_quota"), 0.0),
    ],
)
def test_a_provider_is_closed_for_as_long_as_it_says_but_not_for_ever(failure: ModelFailure, seconds: float) -> None:
    assert cooldown_s(failure) == seconds


FAILURES = st.builds(failed, cause=st.sampled_from(Cause), delivered=st.booleans())
DOORS = st.lists(st.booleans(), min_size=1, max_size=5)


@given(DOORS, st.data())
def test_a_request_only_moves_forward_to_open_providers(doors: list[bool], data: st.DataObject) -> None:
    position = first_asked(data.draw(st.integers(0, len(doors) - 1)), doors)
    assert doors[position] or (position == PRIMARY and not any(doors))

    asked = [position]
    while True:
        now = data.draw(st.lists(st.booleans(), min_size=len(doors), max_size=len(doors)))
        failure = data.draw(FAILURES)
        following = after_failure(failure, asked[-1], now)
        if following is None:
            break
        assert now[following]
        assert not failure.delivered
        assert failure.cause is not Cause.CONTENT
        asked.append(following)

    assert asked == sorted(set(asked))
    assert len(asked) <= len(doors)
