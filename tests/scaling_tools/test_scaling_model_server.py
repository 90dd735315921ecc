from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import openai
import pytest
from openai.types.chat import ChatCompletionChunk
from scaling.model_server import INSTANT, Behaviour, behaviour_of


def client(model_url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=model_url, api_key="-", max_retries=0)


async def chunks_of(model_url: str, text: str, **more: object) -> list[ChatCompletionChunk]:
    async with client(model_url) as openai_client:
        stream = await openai_client.chat.completions.create(  # type: ignore[call-overload]  # options pass through
            model="ok", messages=[{"role": "user", "content": text}], stream=True, **more
        )
        return [chunk async for chunk in stream]


async def test_the_official_client_reads_a_whole_answer(model_url: str) -> None:
    async with client(model_url) as openai_client:
        answer = await openai_client.chat.completions.create(
            model="ok", messages=[{"role": "user", "content": "[[tokens:3]]"}]
        )

    assert answer.choices[0].message.content == "token0 token1 token2"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


@pytest.mark.parametrize("directive", ["[[tokens:3]]", "[[tokens:3:1]]"])
async def test_the_official_client_reads_a_stream_token_by_token(model_url: str, directive: str) -> None:
    chunks = await chunks_of(model_url, directive)

    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "token0", " token1", " token2", None]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


async def test_usage_is_streamed_where_it_was_asked_for(model_url: str) -> None:
    *_, last = await chunks_of(model_url, "ping", stream_options={"include_usage": True})

    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == last.usage.prompt_tokens + 1


async def test_every_answer_has_an_id_of_its_own(model_url: str) -> None:
    first, second = await chunks_of(model_url, "ping"), await chunks_of(model_url, "ping")

    assert len({chunk.id for chunk in first}) == 1
    assert first[0].id != second[0].id


async def test_an_error_is_the_one_of_a_wrong_model_id(model_url: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await chunks_of(model_url, "[[http:400]]")

    assert caught.value.code == "model_not_found"


async def test_a_request_that_comes_in_pieces_is_answered(model_url: str) -> None:
    port = int(model_url.rsplit(":", 1)[1].removesuffix("/v1"))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"model":"ok","messages":[{"role":"user","content":"ping"}]}'
    request = b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    for byte in request:
        writer.write(bytes([byte]))
        await writer.drain()

    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    writer.close()
    await writer.wait_closed()


def test_the_last_user_message_alone_directs() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "[[http:500]]"},
        {"role": "assistant", "content": "[[slow:9]]"},
        {"role": "user", "content": "ping [[slow:250]] [[tokens:20:5]]"},
        {"role": "assistant", "content": None},
    ]

    assert behaviour_of(messages) == Behaviour(delay_s=0.25, tokens=20, gap_s=0.005)


@pytest.mark.parametrize("messages", [[], [{"role": "user", "content": "ping"}], [{"role": "system", "content": "[["}]])
def test_without_a_directive_the_answer_is_instant(messages: list[dict[str, Any]]) -> None:
    assert behaviour_of(messages) is INSTANT


ECHO: Any = {"type": "function", "function": {"name": "mcp__one__echo", "parameters": {"type": "object"}}}


async def test_a_tool_is_called_by_the_end_of_its_name_until_its_result_is_in(model_url: str) -> None:
    asked: list[Any] = [{"role": "user", "content": '[[tool:one__echo:{"text":"hi"}]] [[tool:other:{}]]'}]
    async with client(model_url) as openai_client:

        async def answer() -> tuple[list[tuple[str | None, str | None]], str | None]:
            stream = await openai_client.chat.completions.create(model="ok", messages=asked, stream=True, tools=[ECHO])
            choices = [chunk.choices[0] async for chunk in stream]
            calls = [call.function for choice in choices for call in choice.delta.tool_calls or () if call.function]
            return [(call.name, call.arguments) for call in calls], choices[-1].finish_reason

        called = await answer()
        asked.append({"role": "tool", "tool_call_id": "-", "content": "hi"})
        done = await answer()

    assert called == ([("mcp__one__echo", '{"text":"hi"}'), ("other", "{}")], "tool_calls")
    assert done == ([], "stop")


async def test_one_model_is_refused_where_the_other_answers_and_both_are_counted(model_url: str) -> None:
    async with client(model_url) as openai_client, aiohttp.ClientSession() as http:

        async def ask(model: str) -> None:
            await openai_client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "[[http:404:counted]]"}]
            )

        with pytest.raises(openai.NotFoundError):
            await ask("counted")
        await ask("counted-too")
        async with http.get(model_url.replace("/v1", "/stats")) as stats:
            counted = await stats.json()

    assert (counted["counted"], counted["counted-too"]) == (1, 1)


def test_a_directive_is_found_in_the_parts_of_a_message() -> None:
    parts: list[dict[str, Any]] = [
        {"type": "text", "text": "see"},
        {"type": "image_url"},
        {"type": "text", "text": "[[http:429]]"},
    ]

    assert behaviour_of([{"role": "user", "content": parts}]).status == 429
