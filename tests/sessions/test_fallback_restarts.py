"""When an agent actor is restarted, and what waits for it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pykka
import pytest
from fakes.model_failures import failed
from fakes.sessions import BOUND_S, Bench, end_of, text_reply, tool_reply
from fakes.virtual_time import until_idle

from hermes_actors.config.model import SessionsConfig
from workers.models.provider import ModelFailure
from workers.sessions.agent import AgentActor

KEY = "api:default:a"


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench(SessionsConfig(), with_fallback=True)
    yield made
    await made.sessions.close()


def down(status: int = 401) -> ModelFailure:
    return failed(status=status)


def actor(bench: Bench) -> pykka.ActorRef[AgentActor]:
    return bench.sessions._resident[KEY].actor


async def test_a_success_on_the_primary_is_reported_to_nobody(bench: Bench) -> None:
    await bench.talk()

    assert bench.fell_back == []


async def test_a_success_on_a_fallback_is_reported_once_after_its_end_is_told(bench: Bench) -> None:
    bench.model.script = [down()]

    ended = await bench.talk()

    assert ended.text == "re: hi"
    assert bench.fell_back == [(ended.turn_id, "spare", "fake-2")]


async def test_a_turn_that_fails_on_the_fallback_too_is_not_reported_and_begins_at_the_primary_again(
    bench: Bench,
) -> None:
    bench.model.script, bench.fallback.script = [down()], [down(500)]
    failed = await bench.talk()
    asked = len(bench.model.requests)

    await bench.talk()

    assert failed.state == "failed"
    assert bench.fell_back == []
    assert len(bench.model.requests) == asked + 1


@pytest.mark.parametrize("operation", ["append", "finish completed"])
async def test_a_turn_that_could_not_be_stored_is_not_reported_and_begins_at_the_primary_again(
    bench: Bench, operation: str
) -> None:
    bench.model.script, bench.fallback.script = [down()], [tool_reply("x"), text_reply("done")]
    bench.store.broken = {operation}
    failed = await bench.talk()
    bench.store.broken = set()
    asked = len(bench.model.requests)

    ended = await bench.talk("two")

    assert (failed.state, ended.state) == ("failed", "completed")
    assert bench.fell_back == []
    assert len(bench.model.requests) == asked + 1


async def test_what_providers_said_in_a_turn_that_could_not_be_stored_is_not_told_of_the_next(bench: Bench) -> None:
    bench.model.script, bench.fallback.script = [down(404), down(403)], [tool_reply("x"), down(403)]
    bench.store.broken = {"append"}
    await bench.talk()
    bench.store.broken = set()

    failed = await bench.talk("two")

    assert failed.error is not None
    assert "404" not in failed.error["text"]


async def test_mail_waits_for_the_fresh_actor_which_asks_the_primary_first(bench: Bench) -> None:
    bench.model.script = [down()]
    bench.fallback.gate.clear()
    first, second = await bench.send("one"), await bench.send("two")
    before = actor(bench)
    bench.fallback.gate.set()
    await end_of(first)
    third = await bench.send("three")
    asked = len(bench.model.requests)

    bench.sessions.restart_actor(KEY)

    assert (await end_of(second)).state == "completed"
    assert (await end_of(third)).state == "completed"
    assert asked == 1, "nothing ran before the restart"
    assert len(bench.model.requests) == 3
    assert actor(bench) is not before
    assert len(bench.toolboxes) == 1, "the tools are the session's"


async def test_without_an_answer_of_the_supervisor_the_actor_goes_on(bench: Bench) -> None:
    bench.model.script = [down()]
    await bench.talk("one")
    before = actor(bench)

    assert (await bench.talk("two")).state == "completed"

    assert actor(bench) is before


async def test_a_restart_that_comes_late_or_to_a_sleeping_session_changes_nothing(bench: Bench) -> None:
    await bench.talk()
    before = actor(bench)

    bench.sessions.restart_actor(KEY)
    bench.sessions.restart_actor("api:default:nobody")

    assert actor(bench) is before


async def test_a_stop_does_not_wait_for_a_restart_that_will_not_come(bench: Bench) -> None:
    bench.model.script = [down()]
    await bench.talk("one")
    waiting = await bench.send("two")

    async with asyncio.timeout(BOUND_S):
        await bench.sessions.stop("shutdown_timeout")

    assert (await end_of(waiting)).state == "interrupted"
    assert bench.store.rows[waiting.turn_id].state == "running", "it was admitted as that: its next owner tells of it"


async def test_a_turn_keeps_the_models_it_began_with_and_the_next_has_the_new_ones(bench: Bench) -> None:
    bench.model.gate.clear()
    running = await bench.send("one")
    await bench.model.until_asked(1)
    old, other = bench.sessions.agent_config.models, Bench(bench.sessions.config)
    bench.sessions.agent_config = other.sessions.agent_config
    retired = asyncio.ensure_future(old.retire())
    bench.model.gate.set()

    await end_of(running)
    await bench.talk("two")

    async with asyncio.timeout(BOUND_S):
        await retired
    assert len(bench.model.requests) == 1
    assert len(other.model.requests) == 1


async def test_a_configuration_with_the_same_models_changes_nothing_of_where_a_session_stands(bench: Bench) -> None:
    bench.model.script = [replace(down(429), retry_after_s=600.0)]
    await bench.talk("one")
    bench.sessions.restart_actor(KEY)

    bench.sessions.agent_config = replace(bench.sessions.agent_config, max_turns=7)
    ended = await bench.talk("two")

    assert ended.model == "fake-1"
    assert len(bench.model.requests) == 1, "it said when it is back"


async def test_what_a_fallback_said_is_in_the_words_of_a_failed_turn(bench: Bench) -> None:
    bench.model.script, bench.fallback.script = [down(404)], [down(500)]

    failed = await bench.talk()

    assert failed.error is not None
    assert "404" in failed.error["text"]
    assert "500" in failed.error["text"]


async def test_the_reply_is_told_before_the_actor_is_held(bench: Bench) -> None:
    bench.model.script, bench.fallback.script = [down()], [text_reply("spare words")]
    feed = await bench.send()
    order: list[str] = []
    feed.listen(lambda _: order.append("told"), stream=False)
    bench.sessions._on_fell_back = lambda *_: order.append("reported")

    await end_of(feed)
    await until_idle()

    assert order == ["told", "reported"]
