"""An answer that says nothing: asked for once more, then of the next provider, then told as what it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from fakes.model_server import WAIT_S, Answer, ModelServer, call_tools, chunk, refuse, say, stream, usage

from workers.models.chain import ModelChain, ModelLine
from workers.models.chat import ChatCompletions
from workers.models.empty import is_empty, line_of_empty
from workers.models.exchange import Timeouts
from workers.models.provider import ModelFailure, ModelReply, ModelRequest, ToolCall

LONG = Timeouts(connect=WAIT_S, first_token=WAIT_S, inter_token=WAIT_S)
HELLO = ModelRequest(messages=[b'{"role":"user","content":"Hello"}'])


def ends(finish: str = "stop", **delta: object) -> Answer:
    return stream(chunk({"role": "assistant", **delta}), chunk({}, finish), usage(3, 2))


EMPTY = {
    "nothing": ends(),
    "an empty text": ends(content=""),
    "blanks": ends(content=" \n"),
    "reasoning alone": ends(reasoning_content="hm"),
    "thinking between tags": ends(content="<think>hm</think>\n\n"),
    "tool calls without anything": ends(tool_calls=[{"index": 0, "id": "", "function": {"name": "", "arguments": ""}}]),
    "an end for tool calls": ends("tool_calls"),
}


@asynccontextmanager
async def line_of(*servers: Sequence[Answer]) -> AsyncIterator[tuple[ModelLine, list[ModelServer]]]:
    """A line of providers with these answers."""
    running = [ModelServer() for _ in servers]
    for server, answers in zip(running, servers, strict=True):
        await server.__aenter__()
        server.script(*answers)
    chain = ModelChain([provider(server, at) for at, server in enumerate(running)])
    try:
        yield chain.line(), running
    finally:
        await chain.close()
        for server in running:
            await server.__aexit__(None, None, None)


def provider(server: ModelServer, at: int) -> ChatCompletions:
    return ChatCompletions(
        name=f"provider-{at}", model="m", base_url=server.base_url, key=None, timeouts=LONG, max_retries=0
    )


async def asked(line: ModelLine) -> ModelReply:
    outcome = await line.complete(HELLO, lambda _: None)
    assert isinstance(outcome, ModelReply), outcome
    return outcome


@pytest.mark.parametrize("empty", EMPTY.values(), ids=EMPTY)
async def test_an_empty_answer_is_asked_for_once_more(empty: Answer) -> None:
    async with line_of([empty, say("Hi", prompt_tokens=3)]) as (line, servers):
        reply = await asked(line)

    assert (reply.text, servers[0].count) == ("Hi", 2)
    assert reply.usage["prompt_tokens"] == 6  # of both


async def test_what_is_empty_twice_is_asked_of_the_next_provider() -> None:
    async with line_of([ends(), ends()], [say("Hi")]) as (line, servers):
        reply = await asked(line)

        assert (reply.text, reply.fallback, line.position) == ("Hi", 1, 1)
    assert [server.count for server in servers] == [2, 1]


async def test_an_answer_that_is_empty_everywhere_is_an_answer_of_the_primary() -> None:
    async with line_of([ends()] * 2, [ends()] * 2) as (line, servers):
        reply = await asked(line)

        assert (is_empty(reply), reply.fallback, line.position) == (True, 0, 0)
    assert [server.count for server in servers] == [2, 2]


async def test_an_empty_answer_counts_more_than_the_failure_of_the_next_provider() -> None:
    async with line_of([ends()] * 2, [refuse(401)]) as (line, _):
        assert is_empty(await asked(line))
        assert line.position == 0


async def test_a_failure_at_the_second_try_is_a_failure() -> None:
    async with line_of([ends(), refuse(401)]) as (line, _):
        assert isinstance(await line.complete(HELLO, lambda _: None), ModelFailure)


@pytest.mark.parametrize("finish", ["length", "content_filter"])
async def test_what_would_end_the_same_way_again_is_not_asked_for_again(finish: str) -> None:
    async with line_of([ends(finish, reasoning_content="hm")]) as (line, servers):
        reply = await asked(line)

    assert (reply.finish_reason, servers[0].count) == (finish, 1)


async def test_a_tool_call_without_text_is_no_empty_answer() -> None:
    async with line_of([call_tools(("echo", "{}"))]) as (line, servers):
        reply = await asked(line)

    assert (len(reply.tool_calls), servers[0].count) == (1, 1)


def empty_reply(finish: str, reasoning: str = "") -> ModelReply:
    return ModelReply(text=" ", tool_calls=(), finish_reason=finish, usage={}, model="m", reasoning=reasoning)


def test_the_caller_is_told_why_there_is_no_answer_and_what_to_do() -> None:
    assert "thinking" in line_of_empty(empty_reply("length", "hm"))
    assert "max_tokens" in line_of_empty(empty_reply("length"))
    assert "content filter" in line_of_empty(empty_reply("content_filter"))
    assert "/retry" in line_of_empty(empty_reply("stop"))


def test_a_reply_with_a_call_or_a_word_is_not_empty() -> None:
    call = ToolCall(call_id="a", name="one", arguments="{}")
    some = ModelReply(text="", tool_calls=(call,), finish_reason="stop", usage={}, model="m")

    assert not is_empty(some)
    assert is_empty(empty_reply("stop", "hm"))
