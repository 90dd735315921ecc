"""What a drain would come to, from the ages and usual durations of turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hermes_actors.core.drain.plan import MOST_SHOWN, Plan, judge, queued, running
from hermes_actors.core.drain.plan import shown as planned
from hermes_actors.operations.plain import to_plain
from hermes_actors.operations.results import RunningTurn
from hermes_actors.operations.workers import WorkerTurns


def shown(plan: Plan, strikes: Callable[[str], int], threshold: int) -> dict[str, Any]:
    plain: dict[str, Any] = to_plain(planned(plan, strikes, threshold))
    return plain


TURN = RunningTurn(worker=0, key="api:default:a", turn_id="turn_1", started_at=100.0, stateless=False, usual_s=10.0)
PLAN = Plan(timeout_s=60.0, at=105.0, turns=(TURN,), queued=0, missing=())


@pytest.mark.parametrize(
    ("age_s", "usual_s", "timeout_s", "outcome"),
    [
        (5.0, 10.0, 60.0, "finishes"),
        (5.0, 100.0, 60.0, "cut"),
        (10.0, 10.0, 60.0, "finishes"),
        (12.0, 10.0, 60.0, "unknown"),  # a little overdue
        (3600.0, 10.0, 60.0, "unknown"),  # stuck, as it seems
        (5.0, None, 60.0, "unknown"),
        (5.0, None, 0.0, "cut"),
        (10.0, 10.0, 0.0, "cut"),  # nothing is waited for
    ],
)
def test_a_turn_is_judged_by_its_age_and_the_usual_one(
    age_s: float, usual_s: float | None, timeout_s: float, outcome: str
) -> None:
    assert judge(age_s, usual_s, timeout_s) == outcome


def test_a_plan_counts_and_tells_who_would_be_suspended() -> None:
    turns = (
        replace(TURN, key="done", usual_s=6.0),
        replace(TURN, key="stuck", usual_s=1000.0),
        replace(TURN, key="new", usual_s=None),
        replace(TURN, key="conv", stateless=True, usual_s=None),
    )
    strikes = {"done": 2, "stuck": 2, "new": 1, "conv": 2}

    told = shown(replace(PLAN, turns=turns, queued=4, missing=(1,)), strikes.__getitem__, 3)

    assert {line["key"]: (line["outcome"], line["strikes"], line["suspends"]) for line in told["turns"]} == {
        "done": ("finishes", 2, False),
        "stuck": ("cut", 2, True),
        "new": ("unknown", 1, False),
        "conv": ("unknown", 0, False),  # it belongs to no session
    }
    assert {name: told[name] for name in ("finishes", "cut", "unknown", "queued", "missing", "timeout_s")} == {
        "finishes": 1,
        "cut": 1,
        "unknown": 2,
        "queued": 4,
        "missing": [1],
        "timeout_s": 60.0,
    }


def test_a_turn_is_as_old_as_it_is_and_never_younger_than_nothing() -> None:
    (line,) = shown(PLAN, lambda _: 0, 3)["turns"]
    assert line == {
        "worker": 0,
        "key": "api:default:a",
        "turn_id": "turn_1",
        "stateless": False,
        "usual_s": 10.0,
        "age_s": 5.0,
        "outcome": "finishes",
        "strikes": 0,
        "suspends": False,
    }

    (line,) = shown(replace(PLAN, at=99.0), lambda _: 0, 3)["turns"]
    assert line["age_s"] == 0.0


def test_all_turns_count_though_not_all_are_shown() -> None:
    told = shown(replace(PLAN, turns=(TURN,) * (MOST_SHOWN + 1)), lambda _: 0, 3)

    assert len(told["turns"]) == MOST_SHOWN
    assert told["finishes"] == MOST_SHOWN + 1


def test_what_workers_tell_is_joined_oldest_first() -> None:
    turns = [replace(TURN, worker=0, started_at=5.0), replace(TURN, worker=1, started_at=3.0)]
    responses = {turn.worker: WorkerTurns(turns=(turn,), queued=turn.worker + 1) for turn in turns}

    assert [(turn.worker, turn.started_at) for turn in running(responses)] == [(1, 3.0), (0, 5.0)]
    assert queued(responses) == 3
