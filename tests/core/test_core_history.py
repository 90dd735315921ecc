"""What a start makes of the lives before it."""

from __future__ import annotations

from hermes_actors.core.sessions.lives import Life, begins_by_itself, strikes_kept_since, young_deaths


def test_the_strikes_of_the_last_stop_are_kept() -> None:
    lives = (Life("c", 200.0), Life("b", 100.0, 101.0, 102.0, stop_began_at=190.0, ended_at=195.0, how="stop"))

    assert strikes_kept_since(lives) == 190.0


def test_strikes_of_a_stop_are_kept_until_a_start_came_so_far_as_to_reckon_with_them() -> None:
    stopped = Life("a", 1.0, 2.0, 3.0, stop_began_at=90.0, ended_at=95.0, how="stop")
    killed_at_once = Life("b", 100.0)

    assert strikes_kept_since((Life("c", 200.0), killed_at_once, stopped)) == 90.0


def test_strikes_of_a_start_are_kept_until_one_came_so_far_as_to_reckon_with_them() -> None:
    served = Life("a", 1.0, settled_at=2.0, ready_at=3.0)
    struck_and_was_killed = Life("b", 100.0)

    assert strikes_kept_since((Life("c", 200.0), struck_and_was_killed, served)) == 100.0


def test_after_a_life_that_was_killed_while_it_served_only_the_strikes_of_this_start_are_kept() -> None:
    stopped = Life("a", 1.0, 2.0, 3.0, stop_began_at=90.0, ended_at=95.0, how="stop")
    killed = Life("b", 100.0, settled_at=101.0, ready_at=102.0)

    assert strikes_kept_since((Life("c", 200.0), killed, stopped)) == 200.0


def test_the_first_life_of_a_home_keeps_its_own_strikes_only() -> None:
    assert strikes_kept_since((Life("a", 5.0),)) == 5.0


def test_lives_that_were_killed_young_are_chained_by_the_gap_between_starts() -> None:
    lives = [Life(str(n), n * 100.0) for n in range(4, 0, -1)]

    assert young_deaths(lives) == 3


def test_a_long_life_breaks_the_chain() -> None:
    assert young_deaths((Life("c", 1000.0), Life("b", 950.0), Life("a", 100.0))) == 1


def test_a_clock_that_was_set_back_breaks_the_chain() -> None:
    assert young_deaths((Life("c", 20.0), Life("b", 10.0), Life("a", 9000.0))) == 1


def test_a_life_that_ended_in_order_breaks_the_chain() -> None:
    assert young_deaths((Life("b", 20.0), Life("a", 10.0, ended_at=15.0, how="restart"))) == 0


def test_nothing_is_begun_by_itself_after_three_young_deaths() -> None:
    assert [begins_by_itself(deaths) for deaths in range(5)] == [True, True, True, False, False]
