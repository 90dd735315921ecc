"""An estimate of a drain: which of the turns that run would end in time.

Only their ages and how long their sessions' turns usually take are known, so this is an estimate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from hermes_actors.core.sessions.book import Book
from hermes_actors.operations.results import DrainPlanned, Outcome, PlannedTurn, RunningTurn
from hermes_actors.operations.workers import WorkerTurns

MOST_SHOWN = 1000  # turns, the oldest; all are counted


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


def planned(
    responses: Mapping[int, WorkerTurns], missing: tuple[int, ...], timeout_s: float, at: float, book: Book
) -> DrainPlanned:
    """What a drain would wait for and cut.

    Args:
        responses: what runs in the workers, by slot.
        missing: slots whose workers did not respond.
        timeout_s: of the drain.
        at: when that ran: seconds since the epoch.
        book: has the strikes.
    """
    turns = tuple(_planned(turn, at, timeout_s, book) for turn in running(responses))
    outcomes = Counter(turn.outcome for turn in turns)
    return DrainPlanned(
        timeout_s=timeout_s,
        turns=turns[:MOST_SHOWN],
        finishes=outcomes["finishes"],
        cut=outcomes["cut"],
        unknown=outcomes["unknown"],
        queued=queued(responses),
        missing=missing,
    )


def _planned(turn: RunningTurn, at: float, timeout_s: float, book: Book) -> PlannedTurn:
    age_s = max(0.0, at - turn.started_at)
    outcome = judge(age_s, turn.usual_s, timeout_s)
    strikes = 0 if turn.stateless else book.strikes(turn.key)
    return PlannedTurn(
        worker=turn.worker,
        key=turn.key,
        turn_id=turn.turn_id,
        stateless=turn.stateless,
        usual_s=turn.usual_s,
        age_s=round(age_s, 3),
        outcome=outcome,
        strikes=strikes,
        suspends=outcome != "finishes" and not turn.stateless and strikes + 1 >= book.threshold,
    )
