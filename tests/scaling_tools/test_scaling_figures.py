from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scaling.figures import Figure, Limit, Spread, compared, percentile


def test_a_percentile_is_the_nearest_rank() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]

    assert percentile(values, 0.5) == 3.0
    assert percentile(values, 0.95) == 5.0
    assert percentile(values, 0.2) == 1.0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_a_value_that_its_share_does_not_exceed(values: list[float], share: float) -> None:
    found = percentile(values, share)

    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


@pytest.mark.parametrize("share", [0, -0.1, 1.01])
def test_a_percentile_outside_its_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile([1.0], share)


def test_a_ratio_is_taken_round_by_round_so_that_drift_cancels_out() -> None:
    slowing = Spread((100.0, 50.0, 10.0))

    ratio = Spread((50.0, 25.0, 5.0)).over(slowing)

    assert (ratio.low, ratio.median, ratio.high) == (0.5, 0.5, 0.5)


def test_rounds_without_a_neighbour_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Spread((1.0, 2.0)).over(Spread((1.0,)))


def test_a_ratio_to_nothing_is_infinite() -> None:
    assert Spread((1.0,)).over(Spread((0.0,))).median == math.inf


@pytest.mark.parametrize(
    ("limit", "value", "verdict"),
    [
        (Limit("at least", 0.5), 0.5, "meets"),
        (Limit("at least", 0.5), 0.49, "misses"),
        (Limit("at most", 2.0), 2.0, "meets"),
        (Limit("at most", 2.0), 2.01, "misses"),
        (Limit("at most", 0.0), 0.0, "meets"),
    ],
)
def test_a_limit_is_met_up_to_its_bound(limit: Limit, value: float, verdict: str) -> None:
    assert limit.verdict(value) == verdict


@given(st.sampled_from(["at least", "at most"]), st.floats(0.1, 100), st.floats(0.1, 100))
def test_a_limit_is_used_up_beyond_one_exactly_where_it_is_missed(kind: str, bound: float, value: float) -> None:
    limit = Limit("at least" if kind == "at least" else "at most", bound)

    assert (limit.use(value) > 1) == (limit.verdict(value) == "misses")


@pytest.mark.parametrize(("value", "used"), [(0.0, 0.0), (1.0, math.inf)])
def test_a_limit_of_nothing_is_unused_or_used_beyond_all_bounds(value: float, used: float) -> None:
    assert Limit("at most", 0.0).use(value) == used


def test_a_compared_figure_is_judged_by_its_ratio() -> None:
    figure = compared("turns", "/s", Spread((400.0,)), Spread((1000.0,)), target=Limit("at least", 0.35))

    assert figure.judged_value == pytest.approx(0.4)


def test_a_figure_without_a_ratio_cannot_be_judged_by_it() -> None:
    with pytest.raises(ValueError, match="needs a ratio"):
        Figure(name="turns", unit="/s", value=Spread((1.0,)), judged="ratio")
