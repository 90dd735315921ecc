"""The turn machine: what is done next, and what is on disk before it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from fakes.model_failures import failed
from hypothesis import given
from hypothesis import strategies as st

from workers.models.cause import Cause
from workers.models.provider import ModelFailure, ModelReply, ToolCall
from workers.runtimes.chat.machine import CallModel, CallTools, Finish, OutOfStep, ToolResults, TurnMachine
from workers.runtimes.runtime import Outcome
from workers.runtimes.transcript import KeptRows
from workers.tools.toolbox import ToolResult

USER = orjson.dumps({"role": "user", "content": "hi"})


def reply(text: str = "", *calls: str) -> ModelReply:
    tool_calls = tuple(ToolCall(call_id=call, name="mcp__files__read", arguments="{}") for call in calls)
    return ModelReply(text=text, tool_calls=tool_calls, finish_reason="stop", usage={}, model="m")


def results(*calls: str, images: tuple[str, ...] = ()) -> ToolResults:
    return ToolResults(results={call: ToolResult(text=f"result of {call}", images=images) for call in calls})


def machine(limit: int = 5) -> TurnMachine:
    return TurnMachine(max_model_calls=limit)


def loaded(rows: Sequence[bytes]) -> list[dict[str, Any]]:
    return [orjson.loads(row) for row in rows]


def test_a_turn_begins_with_a_call_of_the_model() -> None:
    action = machine().start([USER])

    assert isinstance(action, CallModel)
    assert action.messages == (USER,)


def test_a_reply_without_tool_calls_completes_the_turn_and_is_committed_with_its_end() -> None:
    turn = machine()
    turn.start([USER])

    action = turn.feed(reply("hello"))

    assert isinstance(action, Finish)
    assert action.outcome == Outcome(text="hello", reason="stop")
    assert loaded(action.commit) == [{"role": "assistant", "content": "hello"}]


def test_an_empty_reply_that_stopped_is_a_success_with_a_line_in_its_place() -> None:
    turn = machine()
    turn.start([USER])

    action = turn.feed(reply(""))

    assert isinstance(action, Finish)
    assert action.outcome.error is None
    assert action.unsaid
    assert action.outcome.text
    assert loaded(action.commit) == [{"role": "assistant", "content": ""}]


def test_tool_calls_are_committed_before_the_tools_act() -> None:
    turn = machine()
    turn.start([USER])

    action = turn.feed(reply("let me look", "a", "b"))

    assert isinstance(action, CallTools)
    assert [call["id"] for call in loaded(action.commit)[0]["tool_calls"]] == ["a", "b"]


def test_tool_results_go_back_to_the_model_in_the_order_of_the_calls() -> None:
    turn = machine()
    turn.start([USER])
    turn.feed(reply("", "a", "b"))

    action = turn.feed(results("b", "a"))

    assert isinstance(action, CallModel)
    assert [message["tool_call_id"] for message in loaded(action.messages[-2:])] == ["a", "b"]
    assert len(action.commit) == 2


def test_pictures_of_tools_follow_as_one_user_message() -> None:
    turn = machine()
    turn.start([USER])
    turn.feed(reply("", "a"))

    action = turn.feed(results("a", images=("data:image/png;base64,AA",)))

    assert isinstance(action, CallModel)
    tool, pictures = loaded(action.messages[-2:])
    assert tool["role"] == "tool"
    assert pictures["role"] == "user"
    assert pictures["content"][1]["image_url"]["url"] == "data:image/png;base64,AA"


def test_a_tool_loop_over_its_limit_fails_with_a_valid_transcript() -> None:
    turn = machine(limit=1)
    turn.start([USER])
    turn.feed(reply("", "a"))

    action = turn.feed(results("a"))

    assert isinstance(action, Finish)
    assert action.outcome.error is not None
    assert action.outcome.error.code == "max_turns"
    assert loaded(action.commit)[0]["role"] == "tool"


def test_nothing_may_be_fed_to_a_turn_that_is_over() -> None:
    turn = machine()
    turn.start([USER])
    turn.feed(reply("done"))

    with pytest.raises(OutOfStep):
        turn.feed(reply("late"))


@pytest.mark.parametrize(
    ("failure", "http_status", "code"),
    [
        (failed(status=500, text="oops"), 502, "provider_error"),
        (failed(status=401, text="oops"), 400, "provider_error"),
        (failed(status=429, text="oops"), 429, "rate_limited"),
        (failed(status=None, kind="timeout", text="oops"), 504, "provider_timeout"),
        (failed(status=None, kind="connect", text="oops"), 502, "provider_error"),
    ],
)
def test_a_failure_names_provider_model_status_and_what_to_do(
    failure: ModelFailure, http_status: int, code: str
) -> None:
    turn = machine()
    turn.start([USER])

    action = turn.feed(failure)

    assert isinstance(action, Finish)
    error = action.outcome.error
    assert error is not None
    assert (error.http_status, error.code) == (http_status, code)
    for part in ("fake", "fake-1", "oops", "What to do"):
        assert part in error.text


@pytest.mark.parametrize("cause", list(Cause))
def test_only_a_message_that_was_recognised_as_the_cause_is_its_own_fault(cause: Cause) -> None:
    turn = machine()
    turn.start([USER])

    action = turn.feed(failed(cause=cause, status=400))

    assert isinstance(action, Finish)
    assert action.outcome.own_fault is (cause is Cause.CONTENT)


@given(st.lists(st.sampled_from(["text", "tools", "failure"]), max_size=12), st.integers(1, 4))
def test_every_turn_ends_once_or_is_cut_and_leaves_no_tool_call_open(steps: list[str], limit: int) -> None:
    turn = TurnMachine(max_model_calls=limit)
    action = turn.start([USER])
    kept = KeptRows()
    kept.add(action.commit)
    calls = 1
    for number, step in enumerate(steps):
        if isinstance(action, Finish):
            break
        if isinstance(action, CallTools):
            action = turn.feed(results(*(call.call_id for call in action.calls)))
            calls += isinstance(action, CallModel)
        elif step == "tools":
            action = turn.feed(reply("", f"call-{number}", f"more-{number}"))
        elif step == "failure":
            action = turn.feed(failed())
        else:
            action = turn.feed(reply("done"))
        kept.add(action.commit)

    rows = loaded(kept.closing())  # as a cut ends it where it is not over
    asked = [call["id"] for row in rows for call in row.get("tool_calls") or ()]
    answered = [row["tool_call_id"] for row in rows if row["role"] == "tool"]
    assert asked == answered
    assert calls <= limit
    if isinstance(action, Finish):
        with pytest.raises(OutOfStep):
            turn.feed(failed())


def test_an_empty_answer_completes_the_turn_with_a_line_that_is_no_part_of_the_transcript() -> None:
    turn = machine()
    turn.start([USER])

    finish = turn.feed(replace(reply(" \n"), reasoning="hm", finish_reason="length"))

    assert isinstance(finish, Finish)
    assert (finish.outcome.error, finish.outcome.reason) == (None, "length")
    assert "max_tokens" in finish.outcome.text
    assert "max_tokens" not in str(loaded(finish.commit))
