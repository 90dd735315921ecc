"""What a drain would come to: which of the turns that run would end in time.

Only their ages and how long their sessions' turns usually take are known, so this is an estimate, told as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Outcome = Literal["finishes", "cut", "unknown"]

MOST_SHOWN = 1000  # turns, the oldest; all are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTurn:
    """A turn that runs."""

    worker: int  # its slot
    key: str
    turn_id: str
    started_at: float  # seconds since the epoch
    stateless: bool
    usual_s: float | None  # median of the session's last turns; None: it has none


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a drain with this time-out would come to."""

    timeout_s: float
    at: float  # of the turns' ages: seconds since the epoch
    turns: tuple[RunningTurn, ...]  # the oldest first
    queued: int
    missing: tuple[int, ...]  # slots whose workers told nothing


def running(answers: Mapping[int, Mapping[str, Any]]) -> tuple[RunningTurn, ...]:
    """What workers, by slot, answered to what runs there (:class:`hermes_actors.wire.messages.Query`), oldest first."""
    turns = (RunningTurn(worker=slot, **turn) for slot, known in answers.items() for turn in known.get("turns", ()))
    return tuple(sorted(turns, key=lambda turn: (turn.started_at, turn.turn_id)))


def queued(answers: Mapping[int, Mapping[str, Any]]) -> int:
    """How many turns wait in those workers."""
    return sum(known.get("queued", 0) for known in answers.values())


def judge(age_s: float, usual_s: float | None, timeout_s: float) -> Outcome:
    """Whether a turn is likely to end within the time: it needs the rest of its usual one.

    One that is older than usual may end at any moment, or never.
    """
    if timeout_s <= 0:
        return "cut"
    if usual_s is None or age_s > usual_s:
        return "unknown"
    return "finishes" if usual_s - age_s <= timeout_s else "cut"


def shown(plan: Plan, strikes: Callable[[str], int], threshold: int) -> dict[str, Any]:
    """The plan as in hermes_actors.operators.messages.

    Args:
        plan: what to show.
        strikes: how many a session has.
        threshold: with how many a session is suspended.
    """
    lines = [_line(plan, turn, strikes, threshold) for turn in plan.turns]
    return {
        "timeout_s": plan.timeout_s,
        "turns": lines[:MOST_SHOWN],
        **{outcome: _count(lines, outcome) for outcome in ("finishes", "cut", "unknown")},
        "queued": plan.queued,
        "missing": list(plan.missing),
    }


def _line(plan: Plan, turn: RunningTurn, strikes: Callable[[str], int], threshold: int) -> dict[str, Any]:
    age_s = max(0.0, plan.at - turn.started_at)
    outcome = judge(age_s, turn.usual_s, plan.timeout_s)
    count = 0 if turn.stateless else strikes(turn.key)
    line = asdict(turn)
    del line["started_at"]
    return {
        **line,
        "age_s": round(age_s, 3),
        "outcome": outcome,
        "strikes": count,
        "suspends": outcome != "finishes" and not turn.stateless and count + 1 >= threshold,
    }


def _count(lines: Iterable[Mapping[str, Any]], outcome: str) -> int:
    return sum(line["outcome"] == outcome for line in lines)
