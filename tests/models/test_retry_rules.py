from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.models.provider import ModelFailure
from workers.models.retry import (
    BASE_DELAY_S,
    MAX_DELAY_S,
    MAX_RETRY_AFTER_S,
    MAX_RETRY_AFTER_WITH_NEXT_S,
    STALL_S,
    WEB_PAGE,
    retry_delay,
)

FAILURE = ModelFailure(
    kind="status", provider="p", model="m", status=503, text="", code=None, retry_after_s=None, attempts=1
)


def delay(failure: ModelFailure, *, max_retries: int = 3, draw: float = 1.0, **how: Any) -> float | None:
    return retry_delay(failure, max_retries=max_retries, draw=lambda: draw, **how)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529, None])
def test_transient_statuses_are_retried(status: int | None) -> None:
    assert delay(replace(FAILURE, status=status)) is not None


@pytest.mark.parametrize("status", [301, 400, 401, 402, 403, 404, 413, 415, 422, 501, 505])
def test_permanent_statuses_are_not_retried(status: int) -> None:
    assert delay(replace(FAILURE, status=status)) is None


@pytest.mark.parametrize("kind", ["connect", "timeout", "cut", "malformed"])
def test_broken_requests_are_retried_only_before_text_was_delivered(kind: str) -> None:
    failure = replace(FAILURE, kind=kind, status=None)

    assert delay(failure) is not None
    assert delay(replace(failure, delivered=True)) is None


def test_an_empty_account_is_not_retried_although_it_is_a_429() -> None:
    assert delay(replace(FAILURE, status=429, code="insufficient_quota")) is None


def test_a_web_page_in_place_of_an_answer_is_not_asked_for_twice() -> None:
    assert delay(replace(FAILURE, kind="malformed", status=None, code=WEB_PAGE)) is None


def test_retries_end_after_api_max_retries() -> None:
    assert delay(replace(FAILURE, attempts=3), max_retries=3) is not None
    assert delay(replace(FAILURE, attempts=4), max_retries=3) is None
    assert delay(FAILURE, max_retries=0) is None


def test_the_delay_doubles_up_to_its_cap() -> None:
    delays = [delay(replace(FAILURE, attempts=attempts), max_retries=99) for attempts in (1, 2, 3, 7, 99)]

    assert delays == [BASE_DELAY_S, 2 * BASE_DELAY_S, 4 * BASE_DELAY_S, MAX_DELAY_S, MAX_DELAY_S]


def test_the_delay_is_jittered_from_zero_on() -> None:
    assert delay(FAILURE, draw=0.0) == 0.0


def test_retry_after_is_waited_for_and_spread_a_little() -> None:
    asked = replace(FAILURE, status=429, retry_after_s=7.0)

    assert delay(asked, draw=0.0) == 7.0
    assert delay(asked, draw=1.0) == 7.0 + BASE_DELAY_S


def test_a_retry_after_beyond_the_cap_is_not_waited_for() -> None:
    assert delay(replace(FAILURE, retry_after_s=MAX_RETRY_AFTER_S)) is not None
    assert delay(replace(FAILURE, retry_after_s=MAX_RETRY_AFTER_S + 1)) is None


def test_a_long_retry_after_is_not_waited_for_where_another_provider_stands_ready() -> None:
    assert delay(replace(FAILURE, retry_after_s=MAX_RETRY_AFTER_WITH_NEXT_S), has_next=True) is not None
    assert delay(replace(FAILURE, retry_after_s=MAX_RETRY_AFTER_WITH_NEXT_S + 1), has_next=True) is None


@pytest.mark.parametrize(
    ("failure", "took_s"),
    [(replace(FAILURE, kind="timeout", status=None), 0.0), (replace(FAILURE, status=504), STALL_S)],
    ids=["our time-out", "a proxy's"],
)
def test_a_stall_is_tried_once_more_where_another_provider_stands_ready(failure: ModelFailure, took_s: float) -> None:
    again = replace(failure, attempts=2)

    assert delay(failure, took_s=took_s, has_next=True) is not None
    assert delay(again, took_s=took_s, has_next=True) is None
    assert delay(again, took_s=took_s) is not None
    assert delay(replace(FAILURE, attempts=2), has_next=True) is not None


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_no_delay_is_longer_than_the_cap(attempts: int, draw: float) -> None:
    waited = delay(replace(FAILURE, attempts=attempts), max_retries=10**6, draw=draw)

    assert waited is not None
    assert 0 <= waited <= MAX_DELAY_S
