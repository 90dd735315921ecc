"""Who is asked next: the whole table, and what holds for every sequence of outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.models.failure import names
from workers.models.provider import ModelFailure
from workers.models.route import (
    MAX_CLOSED_S,
    PRIMARY,
    after_failure,
    closed_for_s,
    first_asked,
    is_about_model,
    is_about_request,
)

FAILURE = ModelFailure(
    kind="status", provider="p", model="gpt-5", status=500, text="", code=None, retry_after_s=None, attempts=1
)
OPEN = (True, True, True)


def failed(**how: Any) -> ModelFailure:
    return replace(FAILURE, **how)


@pytest.mark.parametrize(
    "failure",
    [
        *(failed(kind=kind, status=None) for kind in ("connect", "timeout", "malformed", "cut", "status")),
        *(failed(status=status) for status in (301, 401, 402, 403, 404, 405, 408, 409, 410, 425, 429, 451)),
        *(failed(status=status) for status in (500, 502, 503, 504, 524, 529)),
        failed(status=400, code="model_not_found"),
        failed(status=422, code="model_not_found"),
        failed(status=400, names_model=True),
        failed(status=429, code="insufficient_quota"),
    ],
    ids=lambda failure: f"{failure.kind}-{failure.status}-{failure.code or failure.names_model}",
)
def test_what_another_provider_may_do_better_goes_on_with_the_next_one(failure: ModelFailure) -> None:
    assert [after_failure(failure, at, OPEN) for at in range(3)] == [1, 2, None]
    assert after_failure(replace(failure, delivered=True), 0, OPEN) is None


@pytest.mark.parametrize(
    "failure",
    [
        *(failed(status=status, text="no") for status in (400, 413, 422)),
        failed(status=413, text="too large for gpt-5", code="model_not_found", names_model=True),
    ],
    ids=lambda failure: f"{failure.status}-{failure.text}",
)
def test_what_is_about_the_request_fails_the_turn(failure: ModelFailure) -> None:
    assert after_failure(failure, 0, OPEN) is None
    assert is_about_request(failure)


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


def test_the_model_is_to_blame_for_a_400_or_a_422_alone() -> None:
    assert not is_about_model(failed(status=404, code="model_not_found", names_model=True))
    assert is_about_model(failed(status=422, names_model=True))
    assert not is_about_model(failed(status=400))


def test_a_closed_provider_is_passed_over() -> None:
    assert after_failure(FAILURE, 0, (True, False, True)) == 2
    assert after_failure(FAILURE, 0, (True, False, False)) is None


@pytest.mark.parametrize(
    ("position", "is_open", "first"),
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
    position: int, is_open: Sequence[bool], first: int
) -> None:
    assert first_asked(position, is_open) == first


@pytest.mark.parametrize(
    ("failure", "seconds"),
    [
        (failed(status=429, retry_after_s=60.0), 60.0),
        (failed(status=503, retry_after_s=1.0), 1.0),
        (failed(status=429, retry_after_s=10 * MAX_CLOSED_S), MAX_CLOSED_S),
        (failed(status=429), 0.0),
        (failed(status=404, retry_after_s=60.0), 0.0),
        (failed(status=429, retry_after_s=60.0, code="insufficient_quota"), 0.0),
    ],
)
def test_a_provider_is_closed_for_as_long_as_it_says_but_not_for_ever(failure: ModelFailure, seconds: float) -> None:
    assert closed_for_s(failure) == seconds


FAILURES = st.builds(
    failed,
    kind=st.sampled_from(["status", "status", "connect", "timeout", "malformed", "cut"]),
    status=st.none() | st.integers(300, 599),
    code=st.sampled_from([None, "model_not_found", "insufficient_quota"]),
    names_model=st.booleans(),
    delivered=st.booleans(),
)
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
        assert not is_about_request(failure)
        asked.append(following)

    assert asked == sorted(set(asked))
    assert len(asked) <= len(doors)
