"""Which sessions have strikes, and which are suspended for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.core.sessions.ledger import CAUSES_KEPT, Cause, Ledger, clear, clear_idle, cut, suspended_at
from hermes_actors.wire.records import CutTurn

NONE = Ledger()
KEYS = ("api:a:1", "api:a:2", "api:b:1")
THRESHOLD = 3
STOP_S = 1024.0

keys = st.sampled_from(KEYS)
turns = st.sampled_from(["turn_1", "turn_2", "turn_3", "turn_4"])
causes: st.SearchStrategy[Cause] = st.sampled_from(get_args(Cause))
times = st.integers(0, 2**41).map(lambda ms: ms / 1000)


def cut_by(ledger: Ledger, *turn_ids: str, key: str = "s", cause: Cause = "crash", at: float = 1.0) -> Ledger:
    """One restart or crash for each of these turns, the one after the other."""
    for turn_id in turn_ids:
        ledger = cut(ledger, [CutTurn(key, turn_id)], cause, at)
    return ledger


# -- strikes ----------------------------------------------------------------------------------------------------------


def test_three_cuts_in_a_row_suspend_and_remove_but_two_do_not() -> None:
    twice = cut_by(NONE, "turn_1", "turn_2")
    thrice = cut_by(twice, "turn_3")

    assert suspended_at(twice, THRESHOLD) == (twice, ())
    assert suspended_at(thrice, THRESHOLD) == (NONE, ("s",))


def test_planned_restarts_count_like_crashes_and_each_cause_is_kept() -> None:
    ledger = cut_by(NONE, "turn_1", cause="restart_timeout")
    ledger = cut_by(ledger, "turn_2", cause="crash")
    ledger = cut_by(ledger, "turn_3", cause="shutdown_timeout", at=1_772_366_400.25)

    entry = ledger.entries["s"]

    assert (entry.count, entry.causes) == (3, ("restart_timeout", "crash", "shutdown_timeout"))
    assert (entry.last_cut, entry.last_at) == ("turn_3", 1_772_366_400.25)


def test_recovery_does_not_count_the_turn_that_a_drain_has_counted_already() -> None:
    drained = cut_by(NONE, "turn_1", cause="restart_timeout", at=1.0)

    recovered = cut_by(drained, "turn_1", cause="crash", at=2.0)

    assert recovered is drained
    assert cut_by(recovered, "turn_2").count("s") == 2


def test_a_turn_that_is_reported_twice_at_once_counts_once() -> None:
    assert cut(NONE, [CutTurn("s", "turn_1"), CutTurn("s", "turn_1")], "crash", 1.0).count("s") == 1


def test_a_success_between_restarts_begins_the_count_anew() -> None:
    ledger = cut_by(NONE, "turn_1", "turn_2")

    ledger = cut_by(clear(ledger, ["s"]), "turn_4", "turn_5")

    assert suspended_at(ledger, THRESHOLD) == (ledger, ())


def test_who_was_suspended_begins_with_no_strikes() -> None:
    ledger, _ = suspended_at(cut_by(NONE, "turn_1", "turn_2", "turn_3"), THRESHOLD)

    assert cut_by(ledger, "turn_4").count("s") == 1


def test_only_the_last_causes_are_kept_and_the_count_goes_on() -> None:
    ledger = cut_by(NONE, "turn_0", cause="restart_timeout")

    ledger = cut_by(ledger, *(f"turn_{n}" for n in range(1, CAUSES_KEPT + 1)))

    assert ledger.count("s") == CAUSES_KEPT + 1
    assert ledger.entries["s"].causes == ("crash",) * CAUSES_KEPT


def test_a_thousand_cuts_at_once_leave_ten_thousand_other_entries_the_same_objects() -> None:
    before = cut(NONE, (CutTurn(f"s{n}", "turn_1") for n in range(10_000)), "crash", 1.0)

    after = cut(before, (CutTurn(f"s{n}", "turn_2") for n in range(1000)), "crash", 2.0)

    assert {key for key, entry in after.entries.items() if entry is not before.entries[key]} == {
        f"s{n}" for n in range(1000)
    }


# -- stops and starts -------------------------------------------------------------------------------------------------


def test_a_session_that_is_idle_at_a_stop_is_dropped_and_one_that_is_cut_or_waits_is_not() -> None:
    ledger = cut(NONE, [CutTurn("idle", "turn_1"), CutTurn("queued", "turn_2"), CutTurn("cut", "turn_3")], "crash", 1.0)
    ledger = cut_by(ledger, "turn_4", key="cut")

    assert clear_idle(ledger, {"cut", "queued"}, threshold=THRESHOLD, now=5.0).entries.keys() == {"cut", "queued"}


def test_a_kill_between_a_drains_strikes_and_its_end_does_not_make_its_sessions_idle_ones() -> None:
    struck_long_ago = cut_by(NONE, "turn_1", key="idle", at=100.0)
    drained = cut_by(struck_long_ago, "turn_2", key="cut", cause="shutdown_timeout", at=200.0004)

    recovered = clear_idle(drained, frozenset(), threshold=THRESHOLD, now=201.0, cut_since=200.0004)

    assert recovered.entries.keys() == {"cut"}


@pytest.mark.parametrize(
    ("began", "kept"),
    [
        (200.0, set()),  # the clock that ran ahead was set back before the stop began
        (800.0, {"ahead"}),  # or after that: then the strike may be its own
    ],
)
def test_a_strike_from_the_future_is_an_old_one_unless_the_stop_began_there_too(began: float, kept: set[str]) -> None:
    ledger = cut_by(NONE, "turn_1", key="ahead", at=900.0)

    assert clear_idle(ledger, frozenset(), threshold=THRESHOLD, now=201.0, cut_since=began).entries.keys() == kept


def test_who_reached_the_threshold_in_holds_is_suspended_by_the_next_start_idle_or_not() -> None:
    ledger = NONE
    for number in range(THRESHOLD):
        ledger = cut_by(ledger, f"turn_{number}")

    kept = clear_idle(ledger, frozenset(), threshold=THRESHOLD, now=5.0)

    assert suspended_at(kept, THRESHOLD) == (NONE, ("s",))


@given(st.lists(st.tuples(keys, turns, causes)), st.integers(1, 5))
def test_a_start_never_clears_strikes_below_the_threshold(cuts: list[tuple[str, str, Cause]], threshold: int) -> None:
    before = NONE
    for key, turn_id, cause in cuts:
        before = cut_by(before, turn_id, key=key, cause=cause)

    after, stuck = suspended_at(before, threshold)

    assert all(before.count(key) >= threshold for key in stuck)
    assert after.entries == {key: entry for key, entry in before.entries.items() if entry.count < threshold}
    assert suspended_at(after, threshold) == (after, ())


@pytest.mark.parametrize("key", ["s", "nobody"])
def test_what_changes_nothing_returns_the_same_ledger(key: str) -> None:
    ledger = cut_by(NONE, "turn_1")

    assert clear(ledger, {"unknown"}) is ledger
    assert clear_idle(ledger, {"s", key}, threshold=THRESHOLD, now=5.0) is ledger
    assert cut(ledger, [], "crash", 1.0) is ledger
    assert suspended_at(ledger, THRESHOLD)[0] is ledger


# -- any interleaving -------------------------------------------------------------------------------------------------


class Happened(NamedTuple):
    """Something that happened to one session, or to all: ``key`` is then whoever was busy."""

    what: str
    key: str
    turn_id: str
    cause: Cause
    at: float


happenings = st.builds(
    Happened, st.sampled_from(["cut", "cut", "cut", "success", "stop", "start"]), keys, turns, causes, times
)


def played(events: Iterable[Happened], ledger: Ledger = NONE) -> Ledger:
    for what, key, turn_id, cause, at in events:
        match what:
            case "cut":
                ledger = cut(ledger, [CutTurn(key, turn_id)], cause, at)
            case "success":
                ledger = clear(ledger, [key])
            case "stop":
                ledger = clear_idle(ledger, {key}, threshold=THRESHOLD, now=at + STOP_S, cut_since=at)
            case _:
                ledger, _ = suspended_at(ledger, THRESHOLD)
    return ledger


def retold(events: Iterable[Happened]) -> dict[str, list[Happened]]:
    """The same, as a list of each session's strikes."""
    strikes: defaultdict[str, list[Happened]] = defaultdict(list)
    for event in events:
        for key, mine in strikes.items():
            if event.what == "success" and key == event.key:
                mine.clear()
            if (
                event.what == "stop"
                and key != event.key
                and 0 < len(mine) < THRESHOLD
                and not 0 <= round(mine[-1].at - event.at, 3) <= STOP_S
            ):
                mine.clear()
            if event.what == "start" and len(mine) >= THRESHOLD:
                mine.clear()
        if event.what == "cut" and [strike.turn_id for strike in strikes[event.key]][-1:] != [event.turn_id]:
            strikes[event.key].append(event)
    return {key: mine for key, mine in strikes.items() if mine}


@given(st.lists(happenings, max_size=40))
def test_any_history_agrees_with_a_list_of_strikes(events: list[Happened]) -> None:
    told = retold(events)

    ledger = played(events)

    assert {
        key: (entry.count, entry.causes, entry.last_cut, entry.last_at) for key, entry in ledger.entries.items()
    } == {
        key: (len(mine), tuple(strike.cause for strike in mine)[-CAUSES_KEPT:], mine[-1].turn_id, mine[-1].at)
        for key, mine in told.items()
    }


@given(st.lists(happenings, max_size=30), st.data())
def test_the_order_of_what_happens_to_different_sessions_does_not_matter(
    events: list[Happened], data: st.DataObject
) -> None:
    alone = [event for event in events if event.what in ("cut", "success")]
    of_each = {key: [event for event in alone if event.key == key] for key in KEYS}
    turn_of = data.draw(st.permutations([event.key for event in alone]))
    remaining = {key: iter(mine) for key, mine in of_each.items()}

    assert played(next(remaining[key]) for key in turn_of) == played(alone)


@given(st.lists(st.tuples(keys, turns)), causes, times)
def test_cuts_at_once_are_the_same_as_one_by_one(cuts: list[tuple[str, str]], cause: Cause, at: float) -> None:
    one_by_one = NONE
    for key, turn_id in cuts:
        one_by_one = cut_by(one_by_one, turn_id, key=key, cause=cause, at=at)

    assert cut(NONE, (CutTurn(*one) for one in cuts), cause, at) == one_by_one
