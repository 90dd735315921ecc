"""The estimate of a drain, from the ages and usual durations of turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from fakes.core_desk import Desk

from hermes_actors.core.drain.plan import MOST_SHOWN, judge, planned, queued, running
from hermes_actors.core.sessions.book import Book
from hermes_actors.core.sessions.ledger import Entry, Ledger
from hermes_actors.operations.plain import to_plain
from hermes_actors.operations.results import RunningTurn
from hermes_actors.operations.workers import WorkerTurns

TURN = RunningTurn(worker=0, key="api:default:a", turn_id="turn_1", started_at=100.0, stateless=False, usual_s=10.0)
NO_STRIKES: Mapping[str, int] = {}


def shown(
    *turns: RunningTurn, at: float = 105.0, queued: int = 0, strikes: Mapping[str, int] = NO_STRIKES
) -> dict[str, Any]:
    """The plan of a drain of 60 s; worker 1 does not respond, and three strikes suspend a session."""
    desk = Desk()
    entries = {
        key: Entry(count=count, causes=("crash",), last_cut="turn_old", last_at=0.0) for key, count in strikes.items()
    }
    book = Book(desk.records, replace(desk.state, ledger=Ledger(entries)), desk.now)
    plain: dict[str, Any] = to_plain(planned({0: WorkerTurns(turns=turns, queued=queued)}, (1,), 60.0, at, book))
    return plain


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

    told = shown(*turns, queued=4, strikes=strikes)

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
    (line,) = shown(TURN)["turns"]
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

    (line,) = shown(TURN, at=99.0)["turns"]
    assert line["age_s"] == 0.0


def test_all_turns_count_though_not_all_are_shown() -> None:
    told = shown(*(TURN,) * (MOST_SHOWN + 1))

    assert len(told["turns"]) == MOST_SHOWN
    assert told["finishes"] == MOST_SHOWN + 1


def test_what_workers_tell_is_joined_oldest_first() -> None:
    turns = [replace(TURN, worker=0, started_at=5.0), replace(TURN, worker=1, started_at=3.0)]
    responses = {turn.worker: WorkerTurns(turns=(turn,), queued=turn.worker + 1) for turn in turns}

    assert [(turn.worker, turn.started_at) for turn in running(responses)] == [(1, 3.0), (0, 5.0)]
    assert queued(responses) == 3
