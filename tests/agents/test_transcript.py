"""What of a transcript the model is sent."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from workers.agents.transcript import (
    OUTCOME_UNKNOWN,
    answered_since_cut,
    carried,
    closing,
    split_system,
    system_message,
)
from workers.store.shard import PastTurn
from workers.turns import TurnState


def past(name: str, state: TurnState = "completed", *, own_fault: bool = False) -> PastTurn:
    return PastTurn(turn_id=name, state=state, own_fault=own_fault, rows=(name.encode(),))


def test_of_the_failed_turns_only_the_last_goes_along() -> None:
    turns = [past("f1", "failed"), past("ok"), past("f2", "failed"), past("f3", "failed")]

    assert carried(turns) == [b"ok", b"f3"]


def test_a_turn_that_failed_because_of_its_own_content_never_goes_along() -> None:
    assert carried([past("ok"), past("poison", "failed", own_fault=True)]) == [b"ok"]


def test_interrupted_and_cancelled_turns_go_along() -> None:
    assert carried([past("cut", "interrupted"), past("stopped", "cancelled")]) == [b"cut", b"stopped"]


@pytest.mark.parametrize(("ended_at", "answered"), [(2.0, "ok"), (1.0, None), (0.5, None), (None, None)])
def test_only_a_turn_that_ended_after_the_cut_answers_it(ended_at: float | None, answered: str | None) -> None:
    turns = [replace(past("ok"), ended_at=ended_at), past("again", "failed")]

    assert answered_since_cut(turns, 1.0) == answered
    assert answered_since_cut([*turns, past("cut", "interrupted")], 1.0) is None


def test_a_request_has_at_most_one_system_message() -> None:
    assert system_message(None, "") == ()
    assert [orjson.loads(row) for row in system_message("be brief", None, "no files today")] == [
        {"role": "system", "content": "be brief\n\nno files today"}
    ]


def test_system_messages_of_a_stateless_request_are_taken_out_as_texts() -> None:
    system = orjson.dumps({"role": "system", "content": [{"type": "text", "text": "a"}]})
    developer = orjson.dumps({"role": "developer", "content": "b"})
    user = orjson.dumps({"role": "user", "content": 'he said "system"'})

    assert split_system([system, user, developer]) == (["a", "b"], [user])


def test_a_cut_turn_is_closed_with_one_unknown_outcome_for_each_open_call() -> None:
    asked = orjson.dumps({"role": "assistant", "tool_calls": [{"id": "a"}, {"id": "b"}]})
    answered = orjson.dumps({"role": "tool", "tool_call_id": "a", "content": "x"})

    rows = [orjson.loads(row) for row in closing([asked, answered])]

    assert rows == [{"role": "tool", "tool_call_id": "b", "content": OUTCOME_UNKNOWN}]
