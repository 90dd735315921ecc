"""What a turn tells: to whom, in which order, and once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fakes.sessions import BOUND_S, Bench, events_of, text_reply, tool_reply
from fakes.virtual_time import until_idle

from workers.models.provider import ModelReply, ModelRequest
from workers.routing.listening_turn import ListeningTurn
from workers.sessions.feed import TurnFeed
from workers.turn_errors import cancelled_error, unstored_end
from workers.turns import Delta, Ended, Reasoning, ToolProgress, TurnEvent

END = unstored_end("turn", "ses", "cancelled", cancelled_error())
OTHER_END = unstored_end("turn", "ses", "interrupted", cancelled_error())
TOOL = ToolProgress(call_id="c", tool="t", status="running")


async def heard(turn: ListeningTurn) -> list[TurnEvent]:
    async with asyncio.timeout(BOUND_S):
        return [event async for event in turn]


# -- the feed -----------------------------------------------------------------------------------------------------


def test_who_streams_hears_all_and_who_does_not_hears_the_end() -> None:
    feed = TurnFeed("turn", b"")
    streamed: list[TurnEvent] = []
    whole: list[TurnEvent] = []
    feed.listen(streamed.append, stream=True)
    feed.listen(whole.append, stream=False)

    feed.text("a")
    feed.tool("c", "t", "running")
    feed.end(END)

    assert streamed == [Delta(text="a"), TOOL, END]
    assert whole == [END]
    assert feed.said == "a"


def test_the_text_of_a_broken_answer_is_forgotten_where_nobody_streams() -> None:
    feed = TurnFeed("turn", b"")
    feed.listen(lambda _: None, stream=False)
    late: list[TurnEvent] = []
    feed.text("a tool first. ")

    feed.begin_answer()
    feed.text("so far")
    assert feed.take_back()
    feed.text("whole")
    feed.listen(late.append, stream=True)

    assert feed.said == "a tool first. whole"
    assert late == [Delta(text="a tool first. whole")]


@pytest.mark.parametrize("late", [False, True])
def test_text_that_somebody_streamed_is_not_taken_back(late: bool) -> None:
    feed = TurnFeed("turn", b"")
    told: list[TurnEvent] = []
    feed.begin_answer()
    if not late:
        feed.listen(told.append, stream=True)
    feed.text("so far")
    if late:
        feed.listen(told.append, stream=True)
    feed.leave(told.append)

    assert not feed.take_back()
    assert feed.said == "so far"


def test_who_streamed_only_what_came_before_an_answer_does_not_hold_it() -> None:
    feed = TurnFeed("turn", b"")
    told: list[TurnEvent] = []
    feed.listen(told.append, stream=True)
    feed.text("a tool first. ")
    feed.begin_answer()
    feed.tool("c", "t", "running")
    feed.leave(told.append)
    feed.text("so far")

    assert feed.take_back()
    assert feed.said == "a tool first. "


@pytest.mark.parametrize("stream", [False, True])
async def test_a_turn_takes_back_the_answer_that_broke_off_and_no_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    taken_back: list[bool] = []

    async def breaks_off(request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply:
        if len(request.messages) == 1:
            on_text("a tool first. ")
            return replace(tool_reply("x"), text="a tool first. ")
        on_text("so far")
        taken_back.append(request.take_back())
        on_text("whole")
        return text_reply("whole")

    monkeypatch.setattr(bench.model, "complete", breaks_off)
    feed = await bench.send()

    await events_of(feed, stream=stream)

    assert taken_back == [not stream]
    assert feed.said == ("a tool first. so farwhole" if stream else "a tool first. whole")


def test_who_comes_late_hears_the_text_so_far_or_the_end_at_once() -> None:
    feed = TurnFeed("turn", b"")
    late: list[TurnEvent] = []
    later: list[TurnEvent] = []
    feed.text("a")
    feed.text("b")
    feed.listen(late.append, stream=True)
    feed.end(END)
    feed.listen(later.append, stream=True)

    assert late == [Delta(text="ab"), END]
    assert later == [END]


def test_a_turn_ends_once_and_the_first_end_stands() -> None:
    feed = TurnFeed("turn", b"")
    told: list[TurnEvent] = []
    feed.listen(told.append, stream=True)

    feed.end(END)
    feed.end(OTHER_END)

    assert told == [END]
    assert feed.ended == END


def test_a_turn_is_abandoned_when_the_last_who_listened_leaves() -> None:
    feed = TurnFeed("turn", b"")
    abandoned: list[int] = []
    feed.on_abandoned = lambda: abandoned.append(1)
    one: list[TurnEvent] = []
    other: list[TurnEvent] = []
    feed.listen(one.append, stream=True)
    feed.listen(other.append, stream=True)

    feed.leave(one.append)
    feed.abandon()  # a caller that never listened
    assert abandoned == []
    feed.leave(other.append)
    assert abandoned == [1]

    feed.end(END)
    feed.leave(other.append)
    assert abandoned == [1]


def test_a_listener_may_leave_while_it_is_told() -> None:
    feed = TurnFeed("turn", b"")
    told: list[TurnEvent] = []

    def once(event: TurnEvent) -> None:
        told.append(event)
        feed.leave(once)

    feed.listen(once, stream=True)
    feed.listen(told.append, stream=True)
    feed.text("a")
    feed.text("b")

    assert told == [Delta(text="a"), Delta(text="a"), Delta(text="b")]


def test_reasoning_is_told_to_who_streams_and_to_who_comes_late_before_the_text() -> None:
    feed = TurnFeed("turn", b"")
    streamed: list[TurnEvent] = []
    whole: list[TurnEvent] = []
    late: list[TurnEvent] = []
    feed.listen(streamed.append, stream=True)
    feed.listen(whole.append, stream=False)

    feed.reasoning("h")
    feed.reasoning("m")
    feed.text("a")
    feed.listen(late.append, stream=True)

    assert streamed == [Reasoning(text="h"), Reasoning(text="m"), Delta(text="a")]
    assert late == [Reasoning(text="hm"), Delta(text="a")]
    assert whole == []
    assert feed.said == "a"


def test_reasoning_of_a_broken_answer_is_forgotten_and_holds_no_other_try_back() -> None:
    feed = TurnFeed("turn", b"")
    feed.listen(lambda _: None, stream=True)
    late: list[TurnEvent] = []

    feed.begin_answer()
    feed.reasoning("a first try")
    feed.text(" \n")  # blanks are no answer either
    assert feed.take_back()
    feed.reasoning("a second")
    feed.listen(late.append, stream=True)

    assert late == [Reasoning(text="a second")]


# -- the listening turn -------------------------------------------------------------------------------------------


async def test_text_that_waits_is_joined_and_keeps_its_place_between_tools() -> None:
    turn = ListeningTurn("turn")
    for event in (Delta(text="a"), Delta(text="b"), TOOL, Delta(text="c"), Delta(text="d"), END):
        turn.hear(event)

    assert await heard(turn) == [Delta(text="ab"), TOOL, Delta(text="cd"), END]


async def test_reasoning_that_waits_is_joined_apart_from_the_text() -> None:
    turn = ListeningTurn("turn")
    for event in (Reasoning(text="h"), Reasoning(text="m"), Delta(text="a"), Delta(text="b"), Reasoning(text="x"), END):
        turn.hear(event)

    assert await heard(turn) == [Reasoning(text="hm"), Delta(text="ab"), Reasoning(text="x"), END]


async def test_events_are_given_as_they_come() -> None:
    turn = ListeningTurn("turn")
    events = aiter(turn)
    waiting = asyncio.ensure_future(anext(events))
    await until_idle()
    assert not turn.heard

    turn.hear(Delta(text="a"))

    assert await waiting == Delta(text="a")
    turn.hear(END)
    assert await anext(events) == END
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_nothing_is_heard_after_the_end() -> None:
    turn = ListeningTurn("turn")
    turn.hear(END)
    turn.hear(OTHER_END)

    assert await heard(turn) == [END]
    assert await heard(turn) == []
    assert turn.ended


async def test_who_abandons_a_turn_leaves_its_owner_once_and_hears_no_more() -> None:
    turn = ListeningTurn("turn")
    left: list[int] = []
    turn.attach("turn_0", lambda: left.append(1))
    waiting = asyncio.ensure_future(heard(turn))
    await until_idle()

    turn.abandon()
    turn.abandon()
    turn.hear(Delta(text="late"))

    assert await waiting == []
    assert (turn.turn_id, left, turn.ended) == ("turn_0", [1], True)


async def test_who_abandoned_a_turn_on_its_way_leaves_its_owner_when_it_has_one() -> None:
    turn = ListeningTurn("turn")
    left: list[int] = []
    turn.abandon()
    assert left == []

    turn.attach("turn", lambda: left.append(1))

    assert left == [1]


async def test_who_has_heard_the_end_does_not_leave() -> None:
    turn = ListeningTurn("turn")
    left: list[Any] = []
    turn.attach("turn", lambda: left.append(1))
    turn.hear(END)
    assert isinstance((await heard(turn))[-1], Ended)

    turn.abandon()

    assert left == []
