"""Figures: percentiles, spreads over rounds, ratios of paired rounds, limits and their verdicts. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the least value that ``share`` (0-1] of all values do not exceed.

    Raises:
        ValueError: no values, or a share outside (0, 1].
    """
    if not values or not 0 < share <= 1:
        raise ValueError(f"no percentile {share} of {len(values)} values")
    return sorted(values)[math.ceil(share * len(values)) - 1]


@dataclass(frozen=True, slots=True)
class Spread:
    """One number measured in several rounds."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure that is told and judged."""
        return median(self.rounds)

    @property
    def low(self) -> float:
        """The least of the rounds."""
        return min(self.rounds)

    @property
    def high(self) -> float:
        """The greatest of the rounds."""
        return max(self.rounds)

    def paired(self, other: Spread, combine: Callable[[float, float], float]) -> Spread:
        """Combine round by round: neighbours in time share the machine's mood, so drift cancels out.

        Raises:
            ValueError: not as many rounds.
        """
        return Spread(tuple(combine(a, b) for a, b in zip(self.rounds, other.rounds, strict=True)))

    def over(self, other: Spread) -> Spread:
        """The ratio of each round to its neighbour; infinite where the neighbour measured nothing."""
        return self.paired(other, lambda a, b: a / b if b else math.inf)

    def minus(self, other: Spread) -> Spread:
        """The difference of each round to its neighbour."""
        return self.paired(other, lambda a, b: a - b)


@dataclass(frozen=True, slots=True)
class Limit:
    """What a figure has to keep."""

    kind: Literal["at least", "at most"]
    bound: float

    def verdict(self, value: float) -> str:
        """``meets`` or ``misses``."""
        kept = value >= self.bound if self.kind == "at least" else value <= self.bound
        return "meets" if kept else "misses"

    def use(self, value: float) -> float:
        """How much of the limit is used up: above 1 it is missed, whichever kind it is."""
        spent, allowed = (self.bound, value) if self.kind == "at least" else (value, self.bound)
        if not spent:
            return 0.0
        return spent / allowed if allowed else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row of the results."""

    name: str
    unit: str
    value: Spread
    baseline: Spread | None = None  # the same of what it is compared with
    against: str = "floor"  # what the baseline is of
    ratio: Spread | None = None  # value over baseline, round by round
    judged: Literal["value", "ratio"] = "value"  # which of the two the limits are about
    target: Limit | None = None  # to be kept now
    budget: Limit | None = None  # to be kept in the end
    measurement: str = ""  # that gave it; who runs the measurement fills it in

    def __post_init__(self) -> None:
        if self.judged == "ratio" and self.ratio is None:
            raise ValueError(f"{self.name}: a limit on the ratio needs a ratio")

    @property
    def judged_value(self) -> float:
        """The number that the limits are about."""
        return (self.ratio if self.judged == "ratio" and self.ratio is not None else self.value).median


def compared(
    name: str,
    unit: str,
    value: Spread,
    baseline: Spread,
    *,
    against: str = "floor",
    target: Limit | None = None,
    budget: Limit | None = None,
) -> Figure:
    """A figure that is told, and judged, as a ratio to its baseline."""
    return Figure(
        name=name,
        unit=unit,
        value=value,
        baseline=baseline,
        against=against,
        ratio=value.over(baseline),
        judged="ratio",
        target=target,
        budget=budget,
    )
