"""A turn that is read again says what it said, under the same numbers, from its feed and from its transcript."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sessions import feed as feed_module
from workers.sessions.feed import TurnFeed
from workers.sessions.rereading import rebuilt
from workers.turn_errors import stopped_error, unstored_end
from workers.turns import Delta, Ended, NumberedEvent, Reasoning, ToolProgress, TurnEvent

QUESTION = orjson.dumps({"role": "user", "content": "hi"})
TEXTS = st.lists(st.text(alphabet="abc ", min_size=1, max_size=4), max_size=3)


@dataclass(frozen=True)
class Answer:
    """What a model answered: pieces of thoughts, pieces of text, how many tools it called."""

    thoughts: Sequence[str]
    texts: Sequence[str]
    calls: int


TOOL_ANSWERS = st.builds(Answer, TEXTS, TEXTS, st.integers(1, 3))
LAST_ANSWERS = st.builds(Answer, TEXTS, TEXTS.filter(bool), st.just(0))
TURNS = st.tuples(st.lists(TOOL_ANSWERS, max_size=3), LAST_ANSWERS).map(lambda turn: [*turn[0], turn[1]])


def end(text: str) -> Ended:
    return Ended(
        turn_id="turn_0_a",
        session_id="ses",
        state="completed",
        text=text,
        finish_reason="stop",
        usage={},
        model="m",
        error=None,
        replayed=False,
    )


class Told:
    """A turn as it happens, and the rows that its transcript keeps of it."""

    def __init__(self) -> None:
        self.feed = TurnFeed("turn_0_a", b"")
        self.rows = [QUESTION]

    def answer(self, answer: Answer, number: int) -> None:
        self.feed.begin_answer()
        for piece in answer.thoughts:
            self.feed.reasoning(piece)
        for piece in answer.texts:
            self.feed.text(piece)
        calls = [(f"call_{number}_{n}", f"tool_{n}") for n in range(answer.calls)]
        message: dict[str, Any] = {"role": "assistant", "content": "".join(answer.texts)}
        if answer.thoughts:
            message["reasoning_content"] = "".join(answer.thoughts)
        if calls:
            message["tool_calls"] = [
                {"id": call, "type": "function", "function": {"name": name, "arguments": "{}"}} for call, name in calls
            ]
        self.rows.append(orjson.dumps(message))
        for call, name in calls:
            self.feed.tool(call, name, "running")
        for call, name in calls:
            self.feed.tool(call, name, "completed")
            self.rows.append(orjson.dumps({"role": "tool", "tool_call_id": call, "content": "done"}))


def happened(turn: Sequence[Answer]) -> Told:
    told = Told()
    for number, answer in enumerate(turn):
        told.answer(answer, number)
    return told


def read(feed: TurnFeed, after: int = 0) -> list[NumberedEvent]:
    heard: list[NumberedEvent] = []
    feed.read(heard.append, feed.numbering(heard.append), after)
    return heard


def joined(events: Sequence[NumberedEvent]) -> list[NumberedEvent]:
    """Pieces of one message as one event, thoughts before text."""
    whole: list[NumberedEvent] = []
    for numbered in events:
        before = whole[-1] if whole else None
        if (
            before is not None
            and before.seq == numbered.seq
            and isinstance(numbered.event, Delta | Reasoning)
            and type(before.event) is type(numbered.event)
        ):
            text = before.event.text + numbered.event.text
            whole[-1] = NumberedEvent(seq=numbered.seq, event=type(numbered.event)(text=text))
        else:
            whole.append(numbered)
    return whole


@given(TURNS)
def test_what_is_made_from_the_transcript_is_what_was_heard_with_its_numbers(turn: list[Answer]) -> None:
    live = Told()
    heard: list[NumberedEvent] = []
    live.feed.read(heard.append, live.feed.numbering(heard.append), 0)
    for number, answer in enumerate(turn):
        live.answer(answer, number)
    ended = end("".join(turn[-1].texts))
    live.feed.end(ended)

    again = rebuilt(live.rows, ended)

    assert read(again) == joined(heard) == read(live.feed)


@given(st.lists(TOOL_ANSWERS, max_size=3), TOOL_ANSWERS, st.integers(1, 3))
def test_a_turn_that_ends_with_calls_for_its_client_is_read_as_it_was_heard(
    turn: list[Answer], last: Answer, clients: int
) -> None:
    live = happened(turn)
    live.answer(last, len(turn))
    calls = [
        {"id": f"client_{n}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        for n in range(clients)
    ]
    at = -1 - last.calls  # behind the answer are the results of the agent's own tools
    answer = orjson.loads(live.rows[at])
    live.rows[at] = orjson.dumps({**answer, "tool_calls": [*calls, *answer["tool_calls"]]})
    ended = replace(end("".join(last.texts)), tool_calls=calls)
    live.feed.end(ended)

    assert read(rebuilt(live.rows, ended)) == read(live.feed)


def test_of_a_turn_without_rows_its_text_and_calls_are_read() -> None:
    ended = replace(end("let me look"), tool_calls=[{"id": "c1"}])

    assert [numbered.event for numbered in read(rebuilt((), ended))] == [Delta(text="let me look"), ended]


@given(TURNS, st.integers(0, 20))
def test_a_reader_gets_what_comes_after_a_number_and_always_the_end(turn: list[Answer], after: int) -> None:
    told = happened(turn)
    told.feed.end(end("".join(turn[-1].texts)))
    everything = read(told.feed)

    rest = read(told.feed, after)

    assert rest == [numbered for numbered in everything[:-1] if numbered.seq > after] + everything[-1:]


@given(TURNS)
def test_messages_are_numbered_from_1_without_a_gap(turn: list[Answer]) -> None:
    told = happened(turn)
    told.feed.end(end("".join(turn[-1].texts)))

    numbers = [numbered.seq for numbered in read(told.feed)]

    silent = {  # answers that only called nothing one can hear
        1 + sum(1 + before.calls for before in turn[:n]) for n, answer in enumerate(turn) if not answer.texts
    }
    assert sorted({*numbers} | silent) == list(range(1, max(numbers) + 1))
    assert numbers == sorted(numbers)


def test_a_reader_of_a_turn_that_runs_hears_the_rest() -> None:
    told = happened([Answer([], ["one"], 1)])
    heard: list[NumberedEvent] = []
    told.feed.read(heard.append, told.feed.numbering(heard.append), 1)

    told.answer(Answer([], ["two ", "three"], 0), 1)
    told.feed.end(end("two three"))

    assert [(numbered.seq, type(numbered.event)) for numbered in heard] == [
        (2, ToolProgress),
        (3, Delta),
        (3, Delta),
        (4, Ended),
    ]


def test_a_reader_who_left_hears_no_more() -> None:
    feed = TurnFeed("turn_0_a", b"")
    heard: list[NumberedEvent] = []
    listener = feed.numbering(heard.append)
    feed.read(heard.append, listener, 0)

    feed.leave(listener)
    feed.text("x")

    assert heard == []


def test_a_call_that_begins_late_belongs_to_its_answer() -> None:
    feed = TurnFeed("turn_0_a", b"")
    heard: list[NumberedEvent] = []
    feed.read(heard.append, feed.numbering(heard.append), 0)
    feed.begin_answer()
    for call, status in (("a", "running"), ("a", "completed"), ("b", "running"), ("b", "failed")):
        feed.tool(call, "t", status)

    assert [numbered.seq for numbered in heard] == [1, 2, 1, 3]


def test_an_answer_that_was_taken_back_is_not_read() -> None:
    feed = TurnFeed("turn_0_a", b"")
    feed.begin_answer()
    feed.text("broke off")
    feed.take_back()
    feed.text("whole")

    assert read(feed) == [NumberedEvent(seq=1, event=Delta(text="whole"))]


def test_what_a_reader_heard_is_not_taken_back() -> None:
    feed = TurnFeed("turn_0_a", b"")
    feed.begin_answer()
    feed.text("so far")
    read(feed)

    assert not feed.take_back()


def test_a_feed_keeps_a_bounded_number_of_tool_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "MAX_KEPT_PROGRESS", 2)
    told = happened([Answer([], [], 3)])

    assert [type(numbered.event) for numbered in read(told.feed)] == [ToolProgress, ToolProgress]


@pytest.mark.parametrize(
    ("rows", "events"),
    [
        ([], [Delta(text="the reply")]),
        ([QUESTION, orjson.dumps({"role": "assistant", "content": "the"})], [Delta(text="the reply")]),
        (
            [
                orjson.dumps({"role": "user", "content": "for example"}),
                orjson.dumps({"role": "assistant", "content": "an example of a prompt"}),
                QUESTION,
                orjson.dumps({"role": "assistant", "content": [{"type": "text", "text": "the"}]}),
            ],
            [Delta(text="the reply")],
        ),
    ],
    ids=["a stateless turn", "what the gateway added", "a prompt with an example"],
)
def test_the_last_answer_is_what_the_caller_got(rows: list[bytes], events: list[TurnEvent]) -> None:
    numbered = read(rebuilt(rows, end("the reply")))

    assert [one.event for one in numbered[:-1]] == events
    assert [one.seq for one in numbered] == [1, 2]


def test_a_turn_that_was_cut_has_what_it_said_and_its_end() -> None:
    told = happened([Answer([], ["looking"], 1)])
    cut = unstored_end("turn_0_a", "ses", "cancelled", stopped_error("by its caller"))

    events = [numbered.event for numbered in read(rebuilt(told.rows, cut))]

    assert [type(event) for event in events] == [Delta, ToolProgress, ToolProgress, Ended]
