"""What the caller of a turn hears of it, and when."""

from __future__ import annotations

import asyncio

from fakes.gateway import completed
from fakes.virtual_time import until_idle

from workers.routing.listening_turn import ListeningTurn
from workers.turns import Delta


async def test_the_next_event_is_seen_and_stays_to_be_taken() -> None:
    turn = ListeningTurn("turn")
    seen = asyncio.ensure_future(turn.peek(60.0))
    await until_idle()
    turn.hear(Delta(text="it "))

    assert await seen == Delta(text="it ")
    turn.hear(Delta(text="is noon"))
    turn.hear(completed("it is noon"))

    assert [event async for event in turn] == [Delta(text="it "), Delta(text="is noon"), completed("it is noon")]
    assert await turn.peek(60.0) is None


async def test_a_turn_that_says_nothing_in_time_goes_on() -> None:
    turn = ListeningTurn("turn")

    assert await turn.peek(0.0) is None
    turn.hear(completed("late"))
    assert [event async for event in turn] == [completed("late")]


async def test_a_caller_who_leaves_waits_for_nothing() -> None:
    turn = ListeningTurn("turn")
    seen = asyncio.ensure_future(turn.peek(60.0))
    await until_idle()

    turn.abandon()

    assert await seen is None
