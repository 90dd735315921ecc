"""What a host counts, and what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest
from fakes.rows import assistant, calls, result
from fakes.sessions import Bench, end_of, text_reply
from fakes.virtual_time import time_passes, until
from runtimes.conftest import closed

from hermes_actors.config.model import SessionsConfig
from workers.models.provider import ModelReply, ToolCall
from workers.runtimes.runtime import Context, Host, Outcome
from workers.runtimes.transcript import Misuse
from workers.store.shard import StoreFailed

CALL = ToolCall(call_id="a", name="mcp__files__read", arguments="{}")


@dataclass
class Doing:
    """A runtime that does what a test says with its host."""

    what: Callable[[Host, Context], Awaitable[Outcome]]
    refused: list[str] = field(default_factory=list)
    background: asyncio.Task[object] | None = None

    async def run(self, host: Host, context: Context) -> Outcome:
        return await self.what(host, context)


@pytest.fixture
async def runtime() -> Doing:
    async def nothing(host: Host, context: Context) -> Outcome:
        return Outcome(text="done")

    return Doing(nothing)


@pytest.fixture
async def bench(runtime: Doing) -> AsyncIterator[Bench]:
    made = Bench(SessionsConfig(), runtime=runtime)
    yield made
    await closed(made)


def thinking(reply: ModelReply, thoughts: str, tokens: int) -> ModelReply:
    return replace(reply, reasoning=thoughts, usage={"total_tokens": tokens})


async def test_tokens_are_summed_and_thoughts_joined_over_the_requests_of_a_turn(bench: Bench, runtime: Doing) -> None:
    bench.model.script = [thinking(text_reply("a"), "first I look", 4), thinking(text_reply("b"), "now I know", 6)]

    async def twice(host: Host, context: Context) -> Outcome:
        await host.ask(context.messages)
        await host.ask(context.messages)
        return Outcome(text="done")

    runtime.what = twice
    ended = await bench.talk()

    assert (ended.text, ended.model, ended.usage) == ("done", "fake-1", {"total_tokens": 10})
    assert ended.reasoning == "first I look\n\nnow I know"


async def test_a_runtime_that_fails_still_has_its_tokens_counted(bench: Bench, runtime: Doing) -> None:
    async def fails(host: Host, context: Context) -> Outcome:
        await host.ask(context.messages)
        raise ValueError("a bug")

    runtime.what = fails
    ended = await bench.talk()

    assert (ended.state, ended.usage) == ("failed", {"total_tokens": 1})


async def test_what_a_runtime_keeps_and_never_sends_is_stored_with_the_turns_end(bench: Bench, runtime: Doing) -> None:
    async def keeps(host: Host, context: Context) -> Outcome:
        host.keep([assistant("of its own")])
        return Outcome(text="of its own")

    runtime.what = keeps
    ended = await bench.talk()

    assert bench.store.journal == [("admit running", ended.turn_id), ("finish completed", ended.turn_id)]
    assert bench.store.messages[ended.turn_id][1:] == [assistant("of its own")]


async def test_a_model_is_asked_one_thing_at_a_time(bench: Bench, runtime: Doing) -> None:
    async def at_once(host: Host, context: Context) -> Outcome:
        bench.model.gate.clear()
        first = asyncio.ensure_future(host.ask(context.messages))
        await bench.model.until_asked(1)
        with pytest.raises(Misuse):
            await host.ask(context.messages)
        bench.model.gate.set()
        await first
        return Outcome(text="done")

    runtime.what = at_once

    assert (await bench.talk()).state == "completed"


@pytest.mark.parametrize("act", ["ask", "call", "say", "keep"])
async def test_a_turn_that_is_over_has_no_host(bench: Bench, runtime: Doing, act: str) -> None:
    over = asyncio.Event()

    async def leaves(host: Host, context: Context) -> Outcome:
        host.keep([calls("a")])

        async def late() -> None:
            await over.wait()
            with pytest.raises(Misuse):
                await _act(act, host, context)
            runtime.refused.append(act)

        runtime.background = asyncio.create_task(late())
        return Outcome(text="done")

    runtime.what = leaves
    ended = await bench.talk()
    over.set()
    assert runtime.background is not None
    await runtime.background

    assert runtime.refused == [act]
    assert bench.store.journal[-1] == ("finish completed", ended.turn_id)


async def _act(act: str, host: Host, context: Context) -> None:
    match act:
        case "ask":
            await host.ask(context.messages)
        case "call":
            await host.call([CALL])
        case "say":
            await host.say("late")
        case "keep":
            host.keep([result("a")])


async def test_an_act_that_waits_for_its_commit_when_the_turn_ends_is_not_done(bench: Bench, runtime: Doing) -> None:
    bench.store.gates["append"] = asyncio.Event()

    async def leaves(host: Host, context: Context) -> Outcome:
        host.keep([calls("a")])
        runtime.background = asyncio.create_task(_act("call", host, context))
        await until(lambda: any(what == "append" for what, _ in bench.store.journal))
        return Outcome(text="done")

    runtime.what = leaves
    await bench.talk()
    bench.store.gates["append"].set()
    assert runtime.background is not None

    with pytest.raises(Misuse):
        await runtime.background
    assert bench.toolboxes[0].calls == []


async def test_an_act_waits_for_a_commit_that_another_one_began_and_gave_up(bench: Bench, runtime: Doing) -> None:
    bench.store.gates["append"] = asyncio.Event()

    async def gives_up(host: Host, context: Context) -> Outcome:
        host.keep([calls("a")])
        first = asyncio.create_task(host.say("never"))
        await until(lambda: any(what == "append" for what, _ in bench.store.journal))
        first.cancel()
        second = asyncio.create_task(host.call([CALL]))
        await time_passes(1.0)
        assert bench.toolboxes[0].calls == []
        bench.store.gates["append"].set()
        await second
        host.keep([result("a")])
        return Outcome(text="done")

    runtime.what = gives_up
    ended = await bench.talk()

    assert ended.state == "completed"
    assert bench.toolboxes[0].calls == [CALL.name]


async def test_a_failed_commit_fails_the_turn_even_where_the_runtime_goes_on(bench: Bench, runtime: Doing) -> None:
    bench.store.broken = {"append"}

    async def goes_on(host: Host, context: Context) -> Outcome:
        host.keep([calls("a")])
        for act in ("call", "say", "ask"):
            with pytest.raises(StoreFailed):
                await _act(act, host, context)
            bench.store.broken = set()
        return Outcome(text="done")

    runtime.what = goes_on
    ended = await bench.talk()

    assert ended.error is not None
    assert ended.error["code"] == "store_failed"
    assert bench.toolboxes[0].calls == []


async def test_a_cut_that_a_runtime_goes_on_through_is_a_cut_all_the_same(bench: Bench, runtime: Doing) -> None:
    async def goes_on(host: Host, context: Context) -> Outcome:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Outcome(text="went on")
        return Outcome(text="not reached")

    runtime.what = goes_on
    feed = await bench.send()
    await time_passes(1.0)
    await bench.talk("/stop")

    ended = await end_of(feed)
    assert (ended.state, ended.text) == ("cancelled", "")


async def test_a_cut_that_comes_before_the_news_of_a_failed_commit_fails_the_turn(bench: Bench, runtime: Doing) -> None:
    bench.store.gates["append"] = asyncio.Event()
    bench.store.broken = {"append"}

    async def calls_a_tool(host: Host, context: Context) -> Outcome:
        host.keep([calls("a")])
        await host.call([CALL])
        return Outcome(text="not reached")

    runtime.what = calls_a_tool
    feed = await bench.send()
    await time_passes(1.0)
    bench.store.broken = set()
    await bench.talk("/stop")

    ended = await end_of(feed)
    assert ended.error is not None
    assert ended.error["code"] == "store_failed"
    assert feed.turn_id not in bench.store.messages
