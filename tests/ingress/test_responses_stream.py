"""The events of a response's stream, held against the specification's types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from fakes.gateway import completed, failed
from fakes.open_responses import check_response, check_stream, text_of
from hypothesis import given
from hypothesis import strategies as st

from workers.ingress.responses.events import ResponseEvents
from workers.ingress.responses.objects import finished
from workers.ingress.responses.request import parse_response
from workers.turns import Delta, Ended, GatewayDraining, Reasoning, ToolProgress, TurnEvent

TURN = "turn_3_00112233445566778899aabb"
ECHOED = parse_response({"input": "hi"}, {}).echoed
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":"the sky"}'}}
OTHER = {"id": "c2", "type": "function", "function": {"name": "listen", "arguments": "{}"}}
RUNNING = ToolProgress(call_id="t1", tool="mcp__time__now", status="running")
OVER = ToolProgress(call_id="t1", tool="mcp__time__now", status="completed")
CUT = completed("", state="interrupted", finish_reason="error")


def stream(*heard: TurnEvent) -> list[dict[str, Any]]:
    """A turn's events as a checked stream."""
    events = ResponseEvents(TURN, 1_700_000_000, ECHOED)
    made = events.begin()
    for event in heard:
        made += events.hear(event, 1_700_000_009)
    return check_stream(made)


def kinds(events: Sequence[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def items(events: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """What the last event's output says, by kind of item."""
    return [(item["type"], text_of(item)) for item in events[-1]["response"]["output"]]


def test_a_text_comes_in_the_order_of_the_specification() -> None:
    events = stream(Delta(text="it is "), Delta(text="noon"), completed("it is noon"))

    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert items(events) == [("message", "it is noon")]


def test_a_call_of_the_client_comes_with_its_arguments() -> None:
    events = stream(completed("", tool_calls=[CALL], finish_reason="tool_calls"))

    assert kinds(events)[2:] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert events[-1]["response"]["output"][0]["call_id"] == "c1"
    assert events[2]["item"]["arguments"] == ""


def test_parallel_calls_are_items_behind_the_text() -> None:
    events = stream(Delta(text="I look"), completed("I look", tool_calls=[CALL, OTHER]))

    assert items(events) == [("message", "I look"), ("function_call", '{"at":"the sky"}'), ("function_call", "{}")]


def test_reasoning_is_an_item_before_the_text() -> None:
    events = stream(Reasoning(text="hm"), Reasoning(text="m"), Delta(text="noon"), completed("noon", reasoning="hmm"))

    assert kinds(events)[2:9] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
    ]
    assert items(events) == [("reasoning", "hmm"), ("message", "noon")]


def test_tools_of_the_agent_are_no_items_and_end_the_text_before_them() -> None:
    events = stream(Delta(text="I look."), RUNNING, OVER, Delta(text="Noon."), completed("Noon."))

    assert items(events) == [("message", "I look."), ("message", "Noon.")]


def test_a_drain_is_no_event_of_a_response() -> None:
    draining = GatewayDraining(reason="restart_timeout", deadline=0.0, text="")

    assert kinds(stream(Delta(text="a"), draining, Delta(text="b"), completed("ab"))) == kinds(
        stream(Delta(text="a"), Delta(text="b"), completed("ab"))
    )


def test_a_turn_that_was_over_is_told_from_its_end() -> None:
    assert items(stream(completed("noon", reasoning="hm"))) == [("reasoning", "hm"), ("message", "noon")]


def test_a_turn_that_says_nothing_has_no_items() -> None:
    assert kinds(stream(completed(""))) == ["created", "in_progress", "completed"]


@pytest.mark.parametrize(
    ("finish_reason", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_that_was_cut_short_is_incomplete(finish_reason: str, reason: str) -> None:
    events = stream(Delta(text="it i"), completed("it i", finish_reason=finish_reason))

    response = events[-1]["response"]
    assert events[-1]["type"] == "response.incomplete"
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": reason}
    assert response["output"][0]["status"] == "incomplete"
    assert response["completed_at"] is None


def test_a_failure_in_mid_stream_keeps_the_text_and_says_why() -> None:
    events = stream(Delta(text="it i"), failed(text="the provider hung up"))

    response = events[-1]["response"]
    assert events[-1]["type"] == "response.failed"
    assert response["status"] == "failed"
    assert response["error"] == {"code": "provider_error", "message": "the provider hung up"}
    assert response["output"][0]["status"] == "incomplete"


def test_a_turn_that_a_restart_cut_is_failed() -> None:
    response = stream(Delta(text="it i"), CUT)[-1]["response"]

    assert response["status"] == "failed"
    assert response["error"]["code"] == "turn_interrupted"


def test_a_turn_that_was_stopped_is_cancelled() -> None:
    events = stream(Delta(text="it i"), completed("", state="cancelled"))

    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["status"] == "cancelled"


def test_the_first_events_have_no_output_and_the_last_has_the_usage() -> None:
    events = stream(Delta(text="a"), completed("a"))

    assert [event["response"]["output"] for event in events[:2]] == [[], []]
    assert [event["response"]["usage"] for event in events[:2]] == [None, None]
    assert events[-1]["response"]["usage"]["total_tokens"] == 5


def test_an_item_has_the_same_id_in_the_stream_and_in_the_object() -> None:
    ended = completed("noon", reasoning="hm", tool_calls=[CALL])
    whole = check_response(finished(TURN, 1_700_000_000, ECHOED, ended, completed_at=1_700_000_009))

    assert stream(Reasoning(text="hm"), Delta(text="noon"), ended)[-1]["response"] == whole


HEARD = st.one_of(
    st.text().map(lambda text: Delta(text=text)),
    st.text().map(lambda text: Reasoning(text=text)),
    st.sampled_from([RUNNING, OVER, GatewayDraining(reason="shutdown_timeout", deadline=0.0, text="")]),
)
ENDS = st.one_of(
    st.builds(
        completed,
        st.text(),
        reasoning=st.text(),
        finish_reason=st.sampled_from(["stop", "length", "content_filter", "tool_calls"]),
        tool_calls=st.lists(st.sampled_from([CALL, OTHER]), max_size=3),
        usage=st.sampled_from([{}, {"prompt_tokens": 1}]),
    ),
    st.just(failed()),
    st.sampled_from([CUT, completed("", state="cancelled")]),
)


@given(st.lists(HEARD, max_size=12), ENDS)
def test_every_turn_is_a_stream_that_the_specification_allows(heard: list[TurnEvent], ended: Ended) -> None:
    events = stream(*heard, ended)

    said = "".join(event.text for event in heard if isinstance(event, Delta))
    texts = [text for kind, text in items(events) if kind == "message"]
    if said or ended.state != "completed":
        assert "".join(texts) == said
    check_response(finished(TURN, 1, ECHOED, ended, completed_at=2))
