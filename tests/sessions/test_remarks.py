"""What the gateway tells behind a model's answer: how a session recovered, and which model answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from fakes.model_failures import failed
from fakes.sessions import Bench, events_of, text_reply

from hermes_actors.config.model import SessionsConfig
from workers.models.healing import HEALED
from workers.turns import Delta, Ended

REFUSED = failed(status=500, text="cannot parse the arguments", model="fake-1")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench(SessionsConfig())
    yield made
    await made.sessions.close()


async def test_a_session_whose_failed_turn_is_refused_again_recovers_by_itself_and_says_so_once(bench: Bench) -> None:
    bench.model.script = [REFUSED, REFUSED, text_reply("better")]

    first = await bench.talk("poison")
    second = await bench.talk("hello")
    third = await bench.talk("and now?")

    assert (first.state, second.state) == ("failed", "completed")
    assert second.text == f"better\n\n{HEALED}"
    assert HEALED not in third.text
    said = [[message["content"] for message in request] for request in bench.model.requests]
    assert said == [["poison"], ["poison", "hello"], ["hello"], ["hello", "better", "and now?"]]


async def test_what_is_told_behind_an_answer_is_part_of_its_stream_and_not_of_the_transcript(bench: Bench) -> None:
    bench.model.script = [REFUSED, REFUSED, text_reply("better")]
    await bench.talk("poison")
    *pieces, ended = await events_of(await bench.send("hello"))

    assert isinstance(ended, Ended)
    assert "".join(piece.text for piece in pieces if isinstance(piece, Delta)) == ended.text
    turn = await bench.store.turn(ended.turn_id)
    page = await bench.store.page(ended.session_id, 0, 100)

    assert turn is not None
    assert turn.ended is not None
    assert turn.ended.text == ended.text
    assert not any(HEALED.encode() in row.body for row in page)


async def test_an_answer_of_another_model_than_was_chosen_is_told_the_first_time_and_by_slash_model(
    bench: Bench,
) -> None:
    await bench.talk("/model nonsense")
    bench.model.script = [replace(text_reply("hi"), model="auto"), replace(text_reply("hi again"), model="auto")]

    first, second = await bench.talk("one"), await bench.talk("two")
    asked = await bench.talk("/model")

    assert "nonsense" in first.text
    assert "auto" in first.text
    assert second.text == "hi again"
    assert "auto" in asked.text
