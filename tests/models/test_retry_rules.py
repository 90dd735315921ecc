from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes.model_failures import failed
from hypothesis import given
from hypothesis import strategies as st

from workers.models.cause import TREATMENTS, Again, Cause
from workers.models.provider import ModelFailure
from workers.models.retry import (
    BASE_DELAY_S,
    MAX_RETRY_AFTER_S,
    MAX_RETRY_AFTER_WITH_NEXT_S,
    RETRIES_S,
    Tries,
    gist,
    next_try,
)
from workers.models.signs import WEB_PAGE

FAILURE = failed(status=503, text="busy")


def delay(
    failure: ModelFailure,
    tries: Tries = Tries(),  # noqa: B008  # frozen
    *,
    max_retries: int = 3,
    draw: float = 1.0,
    took_s: float = 0.0,
    **how: Any,
) -> float | None:
    return next_try(failure, tries, took_s=took_s, max_retries=max_retries, draw=lambda: draw, **how)[0]


def story(failure: ModelFailure, *, took_s: float, max_retries: int = 100, **how: Any) -> tuple[int, float]:
    """How many requests are sent to a provider that always fails so, and how long they and the waits took."""
    tries, attempts, time_s = Tries(), 0, 0.0
    while True:
        attempts += 1
        time_s += took_s
        wait, tries = next_try(
            replace(failure, attempts=attempts),
            tries,
            took_s=took_s,
            max_retries=max_retries,
            draw=lambda: 1.0,
            **how,
        )
        if wait is None:
            return attempts, time_s
        time_s += wait


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529, None])
def test_what_may_pass_is_tried_again(status: int | None) -> None:
    assert delay(failed(status=status)) is not None


@pytest.mark.parametrize("status", [301, 400, 401, 402, 403, 404, 413, 415, 422, 501, 505])
def test_what_stays_as_it_is_is_not_tried_again(status: int) -> None:
    assert delay(failed(status=status)) is None


@pytest.mark.parametrize("cause", [cause for cause, how in TREATMENTS.items() if how.again is not Again.IN_TIME])
def test_a_cause_that_time_does_not_mend_is_final_whatever_the_status(cause: Cause) -> None:
    assert delay(failed(status=503, cause=cause)) is None


@pytest.mark.parametrize("kind", ["connect", "cut", "malformed"])
def test_a_broken_request_is_tried_again_only_before_text_was_delivered(kind: str) -> None:
    failure = failed(kind=kind, status=None)

    assert delay(failure) is not None
    assert delay(replace(failure, delivered=True)) is None


def test_a_provider_that_says_nothing_for_too_long_is_not_asked_again() -> None:
    assert delay(failed(kind="timeout", status=None)) is None


def test_an_empty_account_is_not_tried_again_although_it_is_a_429() -> None:
    assert delay(failed(status=429, code="insufficient_quota")) is None


def test_what_is_no_chat_completion_is_asked_for_twice_and_a_web_page_once() -> None:
    failure = failed(kind="malformed", status=None)

    assert delay(failure) is not None
    assert delay(replace(failure, attempts=2)) is None
    assert delay(replace(failure, code=WEB_PAGE)) is None


def test_retries_end_after_api_max_retries() -> None:
    assert delay(replace(FAILURE, attempts=3), max_retries=3) is not None
    assert delay(replace(FAILURE, attempts=4), max_retries=3) is None
    assert delay(FAILURE, max_retries=0) is None


def test_the_delay_doubles_and_is_jittered_from_zero_on() -> None:
    delays = [delay(replace(FAILURE, attempts=attempts), max_retries=99) for attempts in (1, 2, 3)]

    assert delays == [BASE_DELAY_S, 2 * BASE_DELAY_S, 4 * BASE_DELAY_S]
    assert delay(FAILURE, draw=0.0) == 0.0


# -- the same words ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        failed(status=500, text="failed to parse the arguments"),
        failed(status=500, text="an error occurred, request req_12ab34 at 10:15:00"),
        failed(status=None, text="the tokenizer failed"),
        failed(status=502, text="bad upstream"),
    ],
    ids=lambda failure: failure.text,
)
def test_the_same_words_twice_are_the_last(failure: ModelFailure) -> None:
    assert story(failure, took_s=0.1)[0] == 2
    _, tries = next_try(failure, Tries(), took_s=0.0, max_retries=9, draw=lambda: 1.0)
    assert delay(replace(failure, text="something else", attempts=2), tries) is not None


@pytest.mark.parametrize(
    "failure",
    [
        failed(status=429, text="rate limit"),
        failed(status=503, text="loading"),
        failed(kind="connect", status=None, text="refused"),
        failed(kind="cut", status=None, text="cut"),
    ],
    ids=lambda failure: failure.text,
)
def test_what_is_about_the_moment_is_tried_again_while_there_is_time(failure: ModelFailure) -> None:
    attempts, time_s = story(failure, took_s=0.1)

    assert attempts > 3
    assert time_s <= RETRIES_S + 0.1


def test_numbers_and_ids_do_not_make_words_new() -> None:
    assert gist("failed, id req_1 after 17 s") == gist("failed, id req_22 after 3 s")
    assert gist("no tools") != gist("no pictures")


# -- time ----------------------------------------------------------------------------------------------------------


def test_a_provider_that_takes_long_to_fail_is_asked_less_often() -> None:
    assert story(failed(status=503), took_s=4.5)[0] == 2
    assert story(failed(status=503), took_s=11.0)[0] == 1


def test_the_time_of_an_answer_that_broke_does_not_count_unless_another_provider_stands_ready() -> None:
    broken = failed(kind="cut", status=None, answered=True)

    assert story(broken, took_s=60.0, max_retries=3)[0] == 4
    assert story(broken, took_s=60.0, max_retries=3, has_next=True)[0] == 1


def test_retry_after_is_waited_for_and_spread_a_little() -> None:
    asked = failed(status=429, retry_after_s=7.0)

    assert delay(asked, draw=0.0) == 7.0
    assert delay(asked, draw=1.0) == 7.0 + BASE_DELAY_S


def test_a_retry_after_beyond_the_cap_is_not_waited_for() -> None:
    assert delay(failed(status=429, retry_after_s=MAX_RETRY_AFTER_S)) is not None
    assert delay(failed(status=429, retry_after_s=MAX_RETRY_AFTER_S + 1)) is None


def test_a_retry_after_for_which_there_is_no_time_is_obeyed_once() -> None:
    assert story(failed(status=503, retry_after_s=20.0), took_s=0.1)[0] == 2
    assert story(failed(status=503, retry_after_s=1.0), took_s=0.1)[0] > 3


def test_a_long_retry_after_is_not_waited_for_where_another_provider_stands_ready() -> None:
    assert delay(failed(status=429, retry_after_s=MAX_RETRY_AFTER_WITH_NEXT_S), has_next=True) is not None
    assert delay(failed(status=429, retry_after_s=MAX_RETRY_AFTER_WITH_NEXT_S + 1), has_next=True) is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from([408, 429, 500, 502, 503, None]),
            st.sampled_from(["status", "connect", "cut", "malformed"]),
            st.text("ab ", max_size=3),
            st.none() | st.floats(0, 100),
            st.floats(0, 20),
        ),
        min_size=1,
        max_size=30,
    ),
    st.integers(0, 50),
    st.floats(0, 1),
    st.booleans(),
)
def test_retries_end_and_never_take_longer_than_their_bound(
    failures: list[tuple[int | None, str, str, float | None, float]], max_retries: int, draw: float, has_next: bool
) -> None:
    tries, clock, waits, late = Tries(), 0.0, 0.0, 0
    for attempts, (status, kind, text, retry_after_s, took_s) in enumerate(failures, 1):
        clock += took_s
        failure = failed(
            status=status if kind == "status" else None,
            kind=kind,
            text=text,
            retry_after_s=retry_after_s,
            attempts=attempts,
        )
        wait, tries = next_try(
            failure, tries, took_s=took_s, max_retries=max_retries, draw=lambda: draw, has_next=has_next
        )
        if wait is None:
            break
        clock += wait
        waits += wait
        longest = MAX_RETRY_AFTER_WITH_NEXT_S if has_next else MAX_RETRY_AFTER_S
        assert attempts <= max_retries
        late += clock > RETRIES_S
        assert late <= 1  # a Retry-After is obeyed once
        assert waits <= RETRIES_S + longest + BASE_DELAY_S
