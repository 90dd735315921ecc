"""When a dead worker is replaced, and when it is given up."""

from __future__ import annotations

from fakes.core_desk import Desk
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.core.pool.policy import (
    BACKOFF_MOST_S,
    SLOW_FIRST_S,
    SLOW_MOST_S,
    is_given_up,
    restart_delay_s,
    slow_delay_s,
)

LIMITS = Desk(max_restarts=3).limits
jitters = st.floats(0, 1, exclude_max=True)


def test_the_fourth_death_inside_the_period_gives_the_slot_up() -> None:
    assert not is_given_up([0, 1, 2], now=2, limits=LIMITS)
    assert is_given_up([0, 1, 2, 3], now=3, limits=LIMITS)


def test_deaths_before_the_period_do_not_count() -> None:
    assert not is_given_up([0, 1, 2, 62], now=62, limits=LIMITS)


def test_no_restart_is_allowed_where_none_is_configured() -> None:
    assert is_given_up([5], now=5, limits=Desk(max_restarts=0).limits)


@given(jitters)
def test_the_first_restart_is_at_once(jitter: float) -> None:
    assert restart_delay_s(1, jitter) == 0.0


@given(st.integers(2, 10_000), jitters)
def test_later_restarts_wait_ever_longer_up_to_a_bound(failures: int, jitter: float) -> None:
    delay_s = restart_delay_s(failures, jitter)

    assert 0 < delay_s <= BACKOFF_MOST_S
    assert delay_s <= restart_delay_s(failures + 1, jitter)


@given(st.integers(0, 10_000), jitters)
def test_a_slot_that_was_given_up_is_tried_for_ever_but_slowly(tries: int, jitter: float) -> None:
    assert SLOW_FIRST_S / 2 <= slow_delay_s(tries, jitter) <= SLOW_MOST_S


def test_jitter_spreads_restarts_over_half_of_the_delay() -> None:
    assert (restart_delay_s(4, 0.0), restart_delay_s(4, 0.5)) == (1.0, 1.5)
