"""Open Responses as people use it: the official client and openai-agents at its default, against a real gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import agents
import openai
import pytest
import pytest_asyncio
from agents.models.openai_provider import OpenAIProvider
from e2e.conftest import DEMO
from fakes.open_responses import EVENTS, check_response, check_stream
from fakes.running_gateway import KEY, RunningGateway
from openai.types.responses import ToolParam

LOOK: ToolParam = {
    "type": "function",
    "name": "look",
    "description": "Looks out of a window.",
    "parameters": {"type": "object", "properties": {"window": {"type": "string"}}, "required": ["window"]},
    "strict": False,
}
ASKED = 'call look {"window": "east"}'
SAID = "The tool look said: it rains"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    """For all tests here: each has a session of its own."""
    async with RunningGateway(tmp_path_factory.mktemp("demo") / "home", DEMO) as gateway:
        yield gateway


@pytest_asyncio.fixture(loop_scope="module")
async def client(demo: RunningGateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with demo.openai() as client:
        yield client


@agents.function_tool
def look(window: str) -> str:
    """Look out of a window."""
    return f"it rains at the {window} one"


def config(demo: RunningGateway) -> agents.RunConfig:
    """The provider as people make it: its default is this API."""
    provider = OpenAIProvider(base_url=f"{demo.url}/v1", api_key=KEY)
    return agents.RunConfig(model_provider=provider, tracing_disabled=True)


async def test_the_official_client_gets_a_response(client: openai.AsyncOpenAI) -> None:
    response = await client.responses.create(model="x", input="hello", instructions="be brief", metadata={"a": "b"})

    assert response.output_text == "You said: hello"
    check_response(response.model_dump(mode="json", exclude_unset=True))


async def test_it_gets_a_stream_and_puts_it_together(client: openai.AsyncOpenAI) -> None:
    async with client.responses.stream(model="x", input="say 5 words") as stream:
        kinds = [event.type async for event in stream]
        response = await stream.get_final_response()

    assert set(kinds) <= EVENTS.keys()
    assert len(response.output_text.split()) == 5


async def test_its_raw_stream_is_one_that_the_specification_allows(client: openai.AsyncOpenAI) -> None:
    stream = await client.responses.create(model="x", input=ASKED, tools=[LOOK], stream=True)

    check_stream([event.model_dump(mode="json", exclude_unset=True) async for event in stream])


@pytest.mark.parametrize("stream", [False, True])
async def test_it_runs_its_tool_and_sends_the_whole_conversation(client: openai.AsyncOpenAI, stream: bool) -> None:
    given: list[Any] = [{"role": "user", "content": ASKED}]
    if stream:
        async with client.responses.stream(model="x", input=given, tools=[LOOK]) as streamed:
            asked: Any = await streamed.get_final_response()
    else:
        asked = await client.responses.create(model="x", input=given, tools=[LOOK])
    (call,) = asked.output
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "it rains"}

    answer = await client.responses.create(model="x", input=[*given, call, result], tools=[LOOK])

    assert (call.name, call.arguments) == ("look", '{"window": "east"}')
    assert answer.output_text == SAID


async def test_a_call_may_be_named_by_its_id_as_the_ai_sdk_does(client: openai.AsyncOpenAI) -> None:
    given: list[Any] = [{"role": "user", "content": ASKED}]
    (call,) = (await client.responses.create(model="x", input=given, tools=[LOOK])).output
    assert call.type == "function_call"
    more: list[Any] = [
        {"type": "item_reference", "id": call.id},
        {"type": "function_call_output", "call_id": call.call_id, "output": "it rains"},
    ]

    assert (await client.responses.create(model="x", input=given + more, tools=[LOOK])).output_text == SAID


async def test_a_conversation_keeps_the_call_that_a_result_is_for(
    client: openai.AsyncOpenAI, demo: RunningGateway
) -> None:
    asked = await client.responses.create(model="x", input=ASKED, tools=[LOOK], conversation="weather")
    (call,) = asked.output
    assert call.type == "function_call"
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "it rains"}

    answer = await client.responses.create(
        model="x", input=[result], tools=[LOOK], conversation="weather", instructions="be brief"
    )

    assert answer.output_text == SAID
    _, page, _ = await demo.request("GET", "/api/sessions/weather/messages")
    assert [row["message"]["role"] for row in page["data"]] == ["user", "assistant", "tool", "assistant"]


async def test_a_tool_of_the_agent_is_no_call_of_the_client(client: openai.AsyncOpenAI) -> None:
    response = await client.responses.create(model="x", input='call get_current_time {"timezone": "UTC"}', tools=[LOOK])

    assert [item.type for item in response.output] == ["message"]
    assert "UTC" in response.output_text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_turn_is_raised(client: openai.AsyncOpenAI, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError, match="demo"):
        await client.responses.create(model="x", input="fail 404", stream=stream)


async def test_openai_agents_run_their_tools_at_their_default(demo: RunningGateway) -> None:
    agent = agents.Agent(name="a", instructions="be brief", tools=[look])

    result = await agents.Runner.run(agent, ASKED, run_config=config(demo))

    assert result.final_output == "The tool look said: it rains at the east one"


async def test_openai_agents_stream_and_go_on(demo: RunningGateway) -> None:
    agent = agents.Agent(name="a", tools=[look])
    first = agents.Runner.run_streamed(agent, ASKED, run_config=config(demo))
    async for _ in first.stream_events():
        pass

    given: list[Any] = [*first.to_input_list(), {"role": "user", "content": "hello"}]
    second = await agents.Runner.run(agent, given, run_config=config(demo))

    assert first.final_output == "The tool look said: it rains at the east one"
    assert second.final_output == "You said: hello"


async def test_it_finds_a_response_again_goes_on_with_it_branches_and_deletes_it(client: openai.AsyncOpenAI) -> None:
    first = await client.responses.create(model="x", input="hello", metadata={"a": "b"})
    second = await client.responses.create(model="x", input="say 2 words", previous_response_id=first.id)
    branch = await client.responses.create(model="x", input="say 3 words", previous_response_id=first.id)

    found = await client.responses.retrieve(first.id)
    items = [item async for item in client.responses.input_items.list(second.id, order="asc")]
    await client.responses.delete(first.id)

    assert (found.output_text, found.metadata) == ("You said: hello", {"a": "b"})
    check_response(found.model_dump(mode="json", exclude_unset=True))
    assert (second.output_text, branch.output_text) == ("word1 word2", "word1 word2 word3")
    assert [item.type for item in items] == ["message", "message", "message"]
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError):
        await client.responses.create(model="x", input="hello", previous_response_id=first.id)
    assert (await client.responses.retrieve(second.id)).output_text == "word1 word2"


async def test_a_response_in_a_session_is_gone_on_with_there(client: openai.AsyncOpenAI, demo: RunningGateway) -> None:
    first = await client.responses.create(model="x", input="one", conversation="chain")
    second = await client.responses.create(model="x", input="two", previous_response_id=first.id)
    branch = await client.responses.create(model="x", input="three", previous_response_id=first.id)

    assert (second.output_text, branch.output_text) == ("You said: two", "You said: three")
    _, page, _ = await demo.request("GET", "/api/sessions/chain/messages")
    assert [row["message"]["content"] for row in page["data"] if row["message"]["role"] == "user"] == ["one", "two"]


async def test_a_response_in_the_background_ends_by_itself_or_is_cancelled(client: openai.AsyncOpenAI) -> None:
    queued = await client.responses.create(model="x", input="say 2 words", background=True)
    long = await client.responses.create(model="x", input="sleep 30", background=True)
    cancelled = await client.responses.cancel(long.id)
    stream = await client.responses.retrieve(queued.id, stream=True)
    events = check_stream([event.model_dump(mode="json", exclude_unset=True) async for event in stream])

    assert queued.status == "queued"
    assert cancelled.status == "cancelled"
    assert events[-1]["response"]["status"] == "completed"
    assert (await client.responses.retrieve(queued.id)).output_text == "word1 word2"


async def test_it_talks_over_one_connection(client: openai.AsyncOpenAI) -> None:
    said = []
    async with client.responses.connect() as connection:
        for text in ("hello", "say 2 words"):
            await connection.response.create(model="x", input=text, store=False)
            async for event in connection:
                if event.type == "response.completed":
                    said.append(event.response.output_text)
                    break

    assert said == ["You said: hello", "word1 word2"]
