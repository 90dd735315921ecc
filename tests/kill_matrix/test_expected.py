"""The matrix's own reckoning, held against cases that are plain to see."""

from __future__ import annotations

from kill_matrix.disk import TurnOnDisk
from kill_matrix.expected import Outlook, Window, outlooks, reasons

THRESHOLD = 3


def turn(state: str, created_at: float, ended_at: float | None) -> TurnOnDisk:
    return TurnOnDisk("api:default:a", f"turn_{created_at}", None, state, 0, created_at, ended_at)


def restart(begin: float, end: float, *, tangled: bool = False) -> Window:
    return Window(begin=begin, end=end, reasons=frozenset({"restart_timeout"}), restart=True, tangled=tangled)


def crash(begin: float, end: float) -> Window:
    return Window(begin=begin, end=end, reasons=frozenset({"crash"}), restart=False)


def only(outlook: Outlook) -> frozenset[Outlook]:
    return frozenset({outlook})


def test_every_cut_is_a_strike_and_the_third_suspends() -> None:
    turns = [turn("interrupted", n, n + 0.5) for n in (1, 2, 3)]
    windows = [crash(n, n + 0.9) for n in (1, 2, 3)]

    assert outlooks(turns[:1], windows, THRESHOLD) == only(Outlook(standing="resume_pending", strikes=1))
    assert outlooks(turns[:2], windows, THRESHOLD) == only(Outlook(standing="resume_pending", strikes=2))
    assert outlooks(turns, windows, THRESHOLD) == only(Outlook(standing="suspended"))


def test_a_success_clears_all() -> None:
    turns = [turn("interrupted", 1, 2), turn("failed", 3, 4), turn("completed", 5, 6)]

    assert outlooks(turns[:2], [], THRESHOLD) == only(Outlook(standing="resume_pending", strikes=1))
    assert outlooks(turns, [], THRESHOLD) == only(Outlook())


def test_who_is_idle_at_a_restart_keeps_the_mark_alone() -> None:
    cut = [turn("interrupted", 1, 2)]

    assert outlooks(cut, [restart(3, 4)], THRESHOLD) == only(Outlook(standing="resume_pending"))
    assert outlooks(cut, [crash(3, 4)], THRESHOLD) == only(Outlook(standing="resume_pending", strikes=1))


def test_who_is_cut_by_a_restart_or_waits_over_it_is_not_idle() -> None:
    cut, waiting = turn("interrupted", 1, 3.5), turn("queued", 2, None)

    assert outlooks([cut], [restart(3, 4)], THRESHOLD) == only(Outlook(standing="resume_pending", strikes=1))
    assert outlooks([turn("interrupted", 1, 2), waiting], [restart(3, 4)], THRESHOLD) == only(
        Outlook(standing="resume_pending", strikes=1)
    )


def test_where_more_happened_at_once_both_may_be() -> None:
    cut = [turn("interrupted", 1, 3.5)]

    assert outlooks(cut, [restart(3, 4, tangled=True)], THRESHOLD) == {
        Outlook(standing="resume_pending", strikes=1),
        Outlook(standing="resume_pending"),
    }


def test_a_success_that_nobody_was_told_of_may_have_cleared_nothing() -> None:
    turns = [turn("interrupted", 1, 2), turn("completed", 3, 4)]

    assert outlooks(turns, [crash(4, 5)], THRESHOLD, {"turn_1", "turn_3"}) == {
        Outlook(),
        Outlook(standing="resume_pending", strikes=1),
    }


def test_a_cut_needs_a_reason() -> None:
    assert reasons(turn("interrupted", 1, 2), [restart(3, 4)]) == frozenset()
    assert reasons(turn("interrupted", 1, 3.5), [restart(3, 4), crash(3, 5)]) == {"restart_timeout", "crash"}
