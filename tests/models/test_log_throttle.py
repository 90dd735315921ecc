"""What goes on happening is told at once, then now and then."""

from __future__ import annotations

from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from workers.models.log_throttle import MOST, PAUSE_S, LogThrottle


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_it_is_told_at_once_and_again_after_a_pause_with_how_often_it_happened() -> None:
    clock = Clock()
    throttle = LogThrottle(clock)

    assert [throttle.happened("a") for _ in range(3)] == [1, 0, 0]
    assert throttle.happened("b") == 1, "it is something else"
    clock.now += PAUSE_S
    assert throttle.happened("a") == 3


@given(st.lists(st.floats(0, PAUSE_S), max_size=50))
def test_nothing_is_told_twice_in_a_pause_and_nothing_forgotten(pauses: list[float]) -> None:
    clock = Clock()
    throttle = LogThrottle(clock)
    told: list[tuple[float, int]] = []
    for at in accumulate(pauses, initial=clock.now):
        clock.now = at
        if times := throttle.happened("a"):
            told.append((at, times))
    clock.now += 2 * PAUSE_S

    assert sum(times for _, times in told) + throttle.happened("a") == len(pauses) + 2
    assert all(later - earlier >= PAUSE_S for (earlier, _), (later, _) in pairwise(told))


def test_what_is_told_apart_is_bounded() -> None:
    throttle = LogThrottle(Clock())

    for number in range(MOST + 5):
        assert throttle.happened(number) == 1

    assert len(throttle._told) <= MOST
