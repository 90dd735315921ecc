from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.tools.outage import (
    FIRST_PAUSE_S,
    KEEP_UP_S,
    LINE_SPACING_S,
    LONGEST_PAUSE_S,
    MUTE_CALLS,
    SHORT_LIVES,
    STEADY_S,
    Outage,
    after_life,
    hangs,
    lined_up,
    must_line_up,
    next_attempt_in_s,
    pause_s,
    worsened,
)
from workers.tools.owner import PATIENCE_S

chances = st.floats(0, 1, exclude_max=True)
times = st.floats(0, 1e9)
failures = st.integers(1, 10_000)
outages = st.builds(Outage, failures=st.integers(0, 10_000), not_before=times)


@given(failures, chances)
def test_a_pause_stays_between_half_of_the_first_and_the_longest(count: int, chance: float) -> None:
    assert FIRST_PAUSE_S / 2 <= pause_s(count, chance) <= LONGEST_PAUSE_S


@given(failures, chances)
def test_a_further_failure_never_shortens_the_pause(count: int, chance: float) -> None:
    assert pause_s(count, chance) <= pause_s(count + 1, chance)


@given(outages, times, chances)
def test_somebody_who_waits_always_gets_another_attempt_within_the_longest_pause(
    outage: Outage, now: float, chance: float
) -> None:
    failed = worsened(outage, now=now, chance=chance)

    due = next_attempt_in_s(failed, now=now, wanted_at=0.0, waiting=1)

    assert due is not None
    assert 0 < due <= LONGEST_PAUSE_S + 1e-6 * now


@given(outages, times)
def test_what_nobody_wants_is_left_alone(outage: Outage, now: float) -> None:
    assert next_attempt_in_s(outage, now=now + KEEP_UP_S + 1, wanted_at=now, waiting=0) is None


@given(outages, times, chances, st.booleans())
def test_a_connection_that_lived_starts_a_new_outage_when_it_is_lost(
    outage: Outage, now: float, chance: float, answered: bool
) -> None:
    assert after_life(outage, lived_s=STEADY_S, answered=answered, now=now, chance=chance).failures == 1


@given(outages, times, chances)
def test_a_connection_that_works_and_dies_young_comes_back_while_callers_wait(
    outage: Outage, now: float, chance: float
) -> None:
    lost = after_life(outage, lived_s=0.1, answered=True, now=now, chance=chance)

    assert 1 <= lost.failures <= SHORT_LIVES
    assert pause_s(lost.failures, chance) < PATIENCE_S


def test_a_server_that_ends_after_each_answer_is_not_started_at_once_for_ever() -> None:
    lost = Outage()
    for _ in range(10):
        lost = after_life(lost, lived_s=0.1, answered=True, now=0.0, chance=0.5)

    assert lost.not_before > 2.0


@given(st.integers(2, 500), times)
def test_sessions_of_one_failing_server_try_again_one_after_the_other_and_none_waits_long(
    sessions: int, now: float
) -> None:
    places, line_ends_at = [], 0.0
    for _ in range(sessions):
        outage, line_ends_at = lined_up(Outage(failures=2), line_ends_at, now=now)
        assert not must_line_up(outage, line_ends_at, now=now)
        places.append(outage.not_before - now)

    assert places[0] == 0
    assert places == sorted(places)
    assert places[-1] <= LONGEST_PAUSE_S + 1e-6 * now
    soon = [place for place in places if place < 10]
    assert len(soon) <= 10 / LINE_SPACING_S + 1


def test_the_first_attempt_after_a_loss_lines_up_only_behind_others() -> None:
    lost = after_life(Outage(), lived_s=STEADY_S, answered=True, now=0.0, chance=0.5)

    assert not must_line_up(lost, 0.0, now=1.0)
    assert must_line_up(lost, 2.0, now=1.0)
    assert must_line_up(worsened(lost, now=1.0, chance=0.5), 0.0, now=2.0)


def test_a_server_hangs_once_enough_calls_in_a_row_found_it_mute_and_no_other_waits() -> None:
    assert not hangs(MUTE_CALLS - 1, alone=True)
    assert not hangs(MUTE_CALLS, alone=False)
    assert hangs(MUTE_CALLS, alone=True)


@given(outages, times, chances)
def test_a_connection_that_comes_up_only_to_die_goes_on_failing(outage: Outage, now: float, chance: float) -> None:
    lost = after_life(outage, lived_s=0.1, answered=False, now=now, chance=chance)

    assert lost.failures == outage.failures + 1


def starts_in(seconds: float, *, wanted_until: float) -> int:
    """How often a server is started that dies at each start, while somebody asks for it all the time."""
    now, outage, starts = 0.0, Outage(), 0
    while now < seconds:
        due = next_attempt_in_s(outage, now=now, wanted_at=min(now, wanted_until), waiting=0)
        if due is None:
            break
        now += due
        starts += 1
        outage = worsened(outage, now=now, chance=0.5)
    return starts


def test_a_server_that_dies_at_each_start_is_started_rarely_but_for_ever_while_it_is_wanted() -> None:
    assert starts_in(3600, wanted_until=3600) < 100
    assert starts_in(7200, wanted_until=7200) > starts_in(3600, wanted_until=3600)


def test_a_server_that_dies_at_each_start_is_left_alone_once_nobody_wants_it() -> None:
    assert starts_in(7200, wanted_until=0) < 10
