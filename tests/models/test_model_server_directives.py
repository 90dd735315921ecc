"""The fake itself, through the official client where that reads it, else through ours."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from itertools import chain
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest
from fakes import model_server
from fakes.model_server import ModelServer
from fakes.offers import offer_of

from workers.models.chat import ChatCompletions
from workers.models.exchange import Timeouts
from workers.models.provider import ModelFailure, ModelReply, ModelRequest

TOOLS = [{"type": "function", "function": {"name": "mcp__x__echo", "parameters": {}}}]


@pytest.fixture
async def provider(server: ModelServer) -> AsyncIterator[ChatCompletions]:
    made = ChatCompletions(
        name="custom",
        model="m",
        base_url=server.base_url,
        key=None,
        timeouts=Timeouts(connect=10, first_token=0.2, inter_token=0.2),
        max_retries=0,
    )
    yield made
    await made.close()


async def ask(provider: ChatCompletions, text: str, *more: dict[str, Any]) -> ModelReply | ModelFailure:
    messages = [orjson.dumps(message) for message in ({"role": "user", "content": text}, *more)]
    return await provider.complete(ModelRequest(messages=messages, tools=offer_of(TOOLS)), lambda _: None)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("hi", "pong"),
        ("[[ok]]", "pong"),
        ("[[say:a b]]", "a b"),
        ("x [[tokens:3]]", "w0 w1 w2"),
        ("[[slow:1]]", "pong"),
    ],
)
async def test_answers_are_chosen_by_directives(provider: ChatCompletions, text: str, answer: str) -> None:
    reply = await ask(provider, text)

    assert isinstance(reply, ModelReply)
    assert reply.text == answer


@pytest.mark.parametrize(
    ("text", "kind", "status"),
    [
        ("[[http:404]]", "status", 404),
        ("[[hang]]", "timeout", None),
        ("[[stall]]", "timeout", None),
        ("[[cut]]", "cut", None),
        ("[[drop]]", "cut", None),
        ("[[malformed]]", "malformed", None),
        ("[[error]]", "status", 500),
    ],
)
async def test_failures_are_chosen_by_directives(
    provider: ChatCompletions, text: str, kind: str, status: int | None
) -> None:
    failure = await ask(provider, text)

    assert isinstance(failure, ModelFailure)
    assert (failure.kind, failure.status) == (kind, status)


async def test_a_flaky_server_fails_each_nth_time(provider: ChatCompletions) -> None:
    outcomes = [await ask(provider, "[[flaky:3]]") for _ in range(6)]

    assert [isinstance(outcome, ModelFailure) for outcome in outcomes] == [True, False, False] * 2


async def test_tools_are_called_for_as_many_rounds_as_asked(provider: ChatCompletions) -> None:
    text = '[[tool:echo:{"n": 1}]] [[tool:echo]] [[rounds:2]]'
    calls = [{"id": f"c{n}", "type": "function", "function": {"name": "echo", "arguments": "{}"}} for n in range(4)]
    results = [{"role": "tool", "tool_call_id": f"c{n}", "content": f"r{n}"} for n in range(4)]
    rounds: list[list[dict[str, Any]]] = [
        [{"role": "assistant", "tool_calls": calls[n : n + 2]}, *results[n : n + 2]] for n in (0, 2)
    ]

    first, second, last = [await ask(provider, text, *chain(*rounds[:count])) for count in range(3)]

    assert isinstance(first, ModelReply)
    assert isinstance(second, ModelReply)
    assert isinstance(last, ModelReply)
    assert [(call.name, call.arguments) for call in first.tool_calls] == [
        ("mcp__x__echo", '{"n": 1}'),
        ("mcp__x__echo", "{}"),
    ]
    assert {call.call_id for call in first.tool_calls}.isdisjoint(call.call_id for call in second.tool_calls)
    assert last.text == "tools said: r0 | r1 | r2 | r3"


async def test_the_official_client_reads_it_streamed_and_whole(server: ModelServer) -> None:
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="x", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": "[[say:one two]]"}]
        whole = await client.chat.completions.create(model="m", messages=messages)
        streamed = await client.chat.completions.create(model="m", messages=messages, stream=True)
        text = "".join([part.choices[0].delta.content or "" async for part in streamed if part.choices])

    assert whole.choices[0].message.content == text == "one two"


async def test_it_runs_as_a_process_of_its_own() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(model_server.__file__)), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(model_server.WAIT_S):
            line = (await process.stdout.readline()).decode()
        base_url = line.split()[-1]
        async with openai.AsyncOpenAI(base_url=base_url, api_key="x", max_retries=0) as client:
            reply = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        assert reply.choices[0].message.content == "pong"
    finally:
        process.kill()
        await process.wait()
