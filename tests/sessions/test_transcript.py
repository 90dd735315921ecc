"""What of a transcript the model is sent."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from workers.runtimes.chat.past import carried
from workers.runtimes.transcript import OUTCOME_UNKNOWN, answered_since_cut, closing
from workers.turns import PastTurn, TurnState


def past(name: str, state: TurnState = "completed", *, own_fault: bool = False) -> PastTurn:
    return PastTurn(turn_id=name, state=state, own_fault=own_fault, rows=(name.encode(),))


def names(past: list[PastTurn]) -> list[str]:
    return [turn.turn_id for turn in carried(past)]


def test_failed_turns_are_carried_like_others_and_are_known_as_such() -> None:
    turns = [past("f1", "failed"), past("ok"), past("f2", "failed"), past("f3", "failed")]

    assert names(turns) == ["f1", "ok", "f2", "f3"]
    assert [turn.failed for turn in carried(turns)] == [True, False, True, True]


def test_a_message_that_was_recognised_as_the_cause_of_its_failure_is_not_carried() -> None:
    assert names([past("ok"), past("poison", "failed", own_fault=True)]) == ["ok"]


def test_a_failed_turn_with_a_tool_call_is_carried_whatever_it_failed_of() -> None:
    call = orjson.dumps({"role": "assistant", "tool_calls": [{"id": "a"}]})
    result = orjson.dumps({"role": "tool", "tool_call_id": "a", "content": "much"})
    acted = replace(past("acted", "failed", own_fault=True), rows=(b"{}", call, result))

    assert names([acted]) == ["acted"]


def test_interrupted_and_cancelled_turns_are_carried() -> None:
    assert names([past("cut", "interrupted"), past("stopped", "cancelled")]) == ["cut", "stopped"]


@pytest.mark.parametrize(("ended_at", "answered"), [(2.0, "ok"), (1.0, None), (0.5, None), (None, None)])
def test_only_a_turn_that_ended_after_the_cut_answers_it(ended_at: float | None, answered: str | None) -> None:
    turns = [replace(past("ok"), ended_at=ended_at), past("again", "failed")]

    assert answered_since_cut(turns, 1.0) == answered
    assert answered_since_cut([*turns, past("cut", "interrupted")], 1.0) is None


def test_a_cut_turn_is_closed_with_one_unknown_outcome_for_each_open_call() -> None:
    asked = orjson.dumps({"role": "assistant", "tool_calls": [{"id": "a"}, {"id": "b"}]})
    answered = orjson.dumps({"role": "tool", "tool_call_id": "a", "content": "x"})

    rows = [orjson.loads(row) for row in closing([asked, answered])]

    assert rows == [{"role": "tool", "tool_call_id": "b", "content": OUTCOME_UNKNOWN}]
