"""The official client, as people use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest
from fakes.gateway import FakeGateway, completed, failed
from fakes.served_ingress import KEYS, Served, serving
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam

from hermes_actors.wire.refusals import RefusalCode
from workers.conversations import assistant_message, history_hash
from workers.turns import Delta, Refusal, ToolProgress

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "what time is it?"}]
TOLD = (
    Delta(text="it is "),
    ToolProgress(call_id="c1", tool="mcp__time__now", status="running"),
    ToolProgress(call_id="c1", tool="mcp__time__now", status="completed"),
    Delta(text="noon"),
    completed("it is noon"),
)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(FakeGateway(*TOLD)) as running:
        yield running


@pytest.fixture
async def client(served: Served) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key=KEYS["alice"], max_retries=2) as client:
        yield client


async def test_it_gets_an_answer(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="any", messages=MESSAGES)

    assert answer.choices[0].message.content == "it is noon"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 5
    assert answer._request_id == answer.id.removeprefix("chatcmpl-")


async def test_the_synchronous_one_gets_answers_and_streams(served: Served) -> None:
    def talk() -> tuple[str | None, str]:
        with OpenAI(base_url=f"{served.url}/v1", api_key=KEYS["alice"]) as client:
            answer = client.chat.completions.create(model="any", messages=MESSAGES)
            with client.chat.completions.create(model="any", messages=MESSAGES, stream=True) as stream:
                return answer.choices[0].message.content, "".join(
                    chunk.choices[0].delta.content or "" for chunk in stream
                )

    assert await asyncio.to_thread(talk) == ("it is noon", "it is noon")


async def test_it_streams_and_takes_no_notice_of_tool_progress(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="any", messages=MESSAGES, stream=True)

    chunks = [chunk async for chunk in stream]

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "it is noon"
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_its_accumulating_stream_takes_no_notice_of_tool_progress(client: AsyncOpenAI) -> None:
    async with client.chat.completions.stream(
        model="any", messages=MESSAGES, stream_options={"include_usage": True}
    ) as stream:
        answer = await stream.get_final_completion()

    assert answer.choices[0].message.content == "it is noon"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 5


async def test_its_raw_response_has_our_headers(client: AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model="any", messages=MESSAGES, extra_headers={"X-Hermes-Session-Id": "1"}
    )

    assert raw.headers["X-Hermes-Session-Id"] == "1"
    assert raw.headers["X-Hermes-Worker"] == "3"
    assert raw.parse().choices[0].message.content == "it is noon"


async def test_a_reply_that_it_sends_back_is_recognised(client: AsyncOpenAI, served: Served) -> None:
    answer = await client.chat.completions.create(model="any", messages=MESSAGES)
    offered = history_hash([*served.gateway.submission.messages, assistant_message("it is noon")])

    echo = answer.choices[0].message
    await client.chat.completions.create(
        model="any",
        messages=[*MESSAGES, echo, {"role": "user", "content": "sure?"}],  # type: ignore[list-item]  # the client takes what it gave
    )

    assert served.gateway.conversations[-1].history == offered


async def test_it_lists_the_models(client: AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["hermes-actors", "hermes-actors-bare"]
    assert (await client.models.retrieve("hermes-actors")).object == "model"


async def test_a_wrong_key_is_an_authentication_error(served: Served) -> None:
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="wrong") as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.models.list()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (502, openai.InternalServerError),
        (504, openai.InternalServerError),
        (429, openai.RateLimitError),
    ],
)
async def test_a_failed_turn_is_raised_and_not_tried_again(
    client: AsyncOpenAI, served: Served, status: int, error: type[openai.APIStatusError]
) -> None:
    served.gateway.events = (failed(status, text="no such model"),)

    with pytest.raises(error, match="no such model") as caught:
        await client.chat.completions.create(model="any", messages=MESSAGES)

    assert caught.value.code == "provider_error"
    assert len(served.gateway.submissions) == 1


@pytest.mark.parametrize("state", ["interrupted", "cancelled"])
async def test_a_cut_turn_is_not_tried_again(client: AsyncOpenAI, served: Served, state: str) -> None:
    served.gateway.events = (completed("", state=state),)

    with pytest.raises(openai.APIStatusError):
        await client.chat.completions.create(model="any", messages=MESSAGES)

    assert len(served.gateway.submissions) == 1


async def test_a_full_mailbox_is_tried_again(client: AsyncOpenAI, served: Served) -> None:
    served.gateway.refusal = Refusal(RefusalCode.MAILBOX_FULL, "full", 0.0)

    with pytest.raises(openai.RateLimitError):
        await client.chat.completions.create(model="any", messages=MESSAGES)

    assert len(served.gateway.submissions) == 3


async def test_a_bad_request_is_raised_with_the_field_it_is_about(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="any", messages=MESSAGES, n=2)

    assert caught.value.param == "n"


async def test_a_stream_that_fails_is_raised_after_its_text(client: AsyncOpenAI, served: Served) -> None:
    served.gateway.events = (Delta(text="it "), failed(text="the provider hung up"))
    stream = await client.chat.completions.create(model="any", messages=MESSAGES, stream=True)
    text: list[str | None] = []

    async def read() -> None:
        async for chunk in stream:
            text.append(chunk.choices[0].delta.content)  # noqa: PERF401  # what came before the error counts

    with pytest.raises(openai.APIError, match="the provider hung up"):
        await read()
    assert text == ["", "it "]
