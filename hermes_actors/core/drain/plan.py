"""What a drain would come to: which of the turns that run would end in time.

Only their ages and how long their sessions' turns usually take are known, so this is an estimate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hermes_actors.operations.results import DrainPlanned, Outcome, PlannedTurn, RunningTurn
from hermes_actors.operations.workers import WorkerTurns

MOST_SHOWN = 1000  # turns, the oldest; all are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a drain with this time-out would come to."""

    timeout_s: float
    at: float  # of the turns' ages: seconds since the epoch
    turns: tuple[RunningTurn, ...]  # the oldest first
    queued: int
    missing: tuple[int, ...]  # slots whose workers did not respond


def running(responses: Mapping[int, WorkerTurns]) -> tuple[RunningTurn, ...]:
    """The turns that run in workers, by slot, the oldest first."""
    turns = (turn for one in responses.values() for turn in one.turns)
    return tuple(sorted(turns, key=lambda turn: (turn.started_at, turn.turn_id)))


def queued(responses: Mapping[int, WorkerTurns]) -> int:
    """How many turns wait in those workers."""
    return sum(one.queued for one in responses.values())


def judge(age_s: float, usual_s: float | None, timeout_s: float) -> Outcome:
    """Whether a turn is likely to end within the time: it needs the rest of its usual one.

    One that is older than usual may end at any moment, or never.
    """
    if timeout_s <= 0:
        return "cut"
    if usual_s is None or age_s > usual_s:
        return "unknown"
    return "finishes" if usual_s - age_s <= timeout_s else "cut"


def shown(plan: Plan, strikes: Callable[[str], int], threshold: int) -> DrainPlanned:
    """The plan as operators get it.

    Args:
        plan: what to show.
        strikes: how many a session has.
        threshold: with how many a session is suspended.
    """
    turns = tuple(_judged(plan, turn, strikes, threshold) for turn in plan.turns)
    outcomes = Counter(turn.outcome for turn in turns)
    return DrainPlanned(
        timeout_s=plan.timeout_s,
        turns=turns[:MOST_SHOWN],
        finishes=outcomes["finishes"],
        cut=outcomes["cut"],
        unknown=outcomes["unknown"],
        queued=plan.queued,
        missing=plan.missing,
    )


def _judged(plan: Plan, turn: RunningTurn, strikes: Callable[[str], int], threshold: int) -> PlannedTurn:
    age_s = max(0.0, plan.at - turn.started_at)
    outcome = judge(age_s, turn.usual_s, plan.timeout_s)
    count = 0 if turn.stateless else strikes(turn.key)
    return PlannedTurn(
        worker=turn.worker,
        key=turn.key,
        turn_id=turn.turn_id,
        stateless=turn.stateless,
        usual_s=turn.usual_s,
        age_s=round(age_s, 3),
        outcome=outcome,
        strikes=count,
        suspends=outcome != "finishes" and not turn.stateless and count + 1 >= threshold,
    )
