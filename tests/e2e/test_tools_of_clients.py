"""Clients that run their own tools, as people use them: the official one and two frameworks, against a real gateway."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import agents
import openai
import pydantic_ai
import pytest
import pytest_asyncio
from agents.models.openai_chatcompletions import OpenAIChatCompletionsModel
from e2e.conftest import DEMO, Counting
from e2e.test_deaths import kill_worker, worker_of
from fakes.running_gateway import RunningGateway
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

LOOK: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks out of a window.",
        "parameters": {"type": "object", "properties": {"window": {"type": "string"}}, "required": ["window"]},
    },
}
ASKED = 'call look {"window": "east"}'


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    """For all tests here: each has a session of its own, and kills nothing that is not started again."""
    async with RunningGateway(tmp_path_factory.mktemp("demo") / "home", DEMO) as gateway:
        yield gateway


@pytest.fixture
def session(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def asking(text: str = ASKED) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def answering(call_id: str, text: str = "it rains") -> list[ChatCompletionMessageParam]:
    return [{"role": "tool", "tool_call_id": call_id, "content": text}]


async def call_of(gateway: RunningGateway, session: str, text: str = ASKED) -> str:
    """The id of the call that a message in the session brings."""
    async with gateway.openai() as client:
        answer = await client.chat.completions.create(
            model="x", messages=asking(text), tools=[LOOK], extra_headers={"X-Hermes-Session-Id": session}
        )
    assert answer.choices[0].finish_reason == "tool_calls"
    return next(call.id for call in answer.choices[0].message.tool_calls or ())


async def goes_on(gateway: RunningGateway, session: str, call_id: str) -> str | None:
    """What the session says to the result."""
    async with gateway.openai() as client:
        answer = await client.chat.completions.create(
            model="x", messages=answering(call_id), tools=[LOOK], extra_headers={"X-Hermes-Session-Id": session}
        )
    return answer.choices[0].message.content


async def test_the_official_client_runs_its_tool_in_a_session(demo: RunningGateway, session: str) -> None:
    call_id = await call_of(demo, session)

    assert await goes_on(demo, session, call_id) == "The tool look said: it rains"
    assert await goes_on(demo, session, call_id) == "The tool look said: it rains"  # sent twice, answered once
    _, page, _ = await demo.request("GET", f"/api/sessions/{session}/messages")
    assert [row["message"]["role"] for row in page["data"]] == ["user", "assistant", "tool", "assistant"]


async def test_it_runs_its_tools_without_a_session_and_in_streams(demo: RunningGateway) -> None:
    messages = asking(f"{ASKED}\ncall look {{}}\n")
    async with demo.openai() as client:
        async with client.chat.completions.stream(model="x", messages=messages, tools=[LOOK]) as stream:
            asked = (await stream.get_final_completion()).choices[0].message
        calls = asked.tool_calls or []
        assert [call.function.arguments for call in calls] == ['{"window": "east"}', "{}"]
        messages.append(asked.model_dump(exclude_none=True))  # type: ignore[arg-type]  # the client takes what it gave
        for call, text in zip(calls, ("it rains", "which window?"), strict=True):
            messages += answering(call.id, text)
        answer = await client.chat.completions.create(model="x", messages=messages, tools=[LOOK])

    assert answer.choices[0].message.content == "The tool look said: it rains\nThe tool look said: which window?"


async def test_a_client_that_brings_many_tools_is_answered_in_words_where_it_asks_for_none(
    demo: RunningGateway,
) -> None:
    """Open WebUI sends 36 with each message, and its requests for a title and for tags."""
    many: Any = [{**LOOK, "function": {**LOOK["function"], "name": f"look_{number}"}} for number in range(36)]
    async with demo.openai() as client:
        stream = await client.chat.completions.create(model="x", messages=asking("hello"), tools=many, stream=True)
        chunks = [chunk.choices[0] async for chunk in stream]

    assert "".join(chunk.delta.content or "" for chunk in chunks) == "You said: hello"
    assert chunks[-1].finish_reason == "stop"


async def test_the_agents_own_tool_runs_in_the_same_answer(demo: RunningGateway, session: str) -> None:
    call_id = await call_of(demo, session, f'{ASKED}\ncall get_current_time {{"timezone": "UTC"}}')

    said = await goes_on(demo, session, call_id)

    assert said is not None
    assert "The tool look said: it rains" in said
    assert "The tool mcp__time__get_current_time said:" in said


async def test_a_follow_up_without_a_session_finds_its_agent_and_what_that_did(
    tmp_path: Path, counting: Counting
) -> None:
    config = {"model": {"provider": "demo"}, "mcp_servers": {"counting": counting.config}}
    messages = asking(f'{ASKED}\ncall echo {{"text": "mine"}}')
    async with RunningGateway(tmp_path / "home", config) as gateway, gateway.openai() as client:
        answer = await client.chat.completions.create(model="x", messages=messages, tools=[LOOK])
        asked = answer.choices[0].message
        messages.append(asked.model_dump(exclude_none=True))  # type: ignore[arg-type]  # the client takes what it gave
        messages += answering(next(call.id for call in asked.tool_calls or ()))
        said = (await client.chat.completions.create(model="x", messages=messages, tools=[LOOK])).choices[0].message
        messages += [{"role": "assistant", "content": said.content}, *asking('call echo {"text": "again"}')]
        await client.chat.completions.create(model="x", messages=messages, tools=[LOOK])

    assert said.content is not None
    assert "The tool look said: it rains" in said.content
    assert "The tool mcp__counting__echo said:" in said.content
    assert len(counting.calls) == 2
    assert len(counting.pids) == 1


@pytest.mark.parametrize("how", ["worker", "restart", "everything"])
async def test_a_call_that_a_client_holds_survives_whatever_happens_to_the_gateway(
    demo: RunningGateway, session: str, how: str
) -> None:
    call_id = await call_of(demo, session)

    match how:
        case "worker":
            await kill_worker(demo, (await worker_of(demo, session))["slot"])
        case "restart":
            code, _, _ = await demo.ctl("restart", "--timeout", "5")
            assert code == 0
        case "everything":
            for process in demo.processes():
                os.kill(process.pid, signal.SIGKILL)
            await demo.ended()
            await demo.start()

    assert await goes_on(demo, session, call_id) == "The tool look said: it rains"
    _, listed = await demo.ctl_json("sessions", "list")
    (line,) = (line for line in listed["sessions"] if line["key"].endswith(session))
    assert (line["strikes"], line["resume_pending"], line["suspended"]) == (0, False, False)


async def test_a_wrong_tool_or_result_is_a_bad_request_that_names_it(demo: RunningGateway, session: str) -> None:
    await call_of(demo, session)
    async with demo.openai() as client:
        with pytest.raises(openai.BadRequestError) as unknown:
            await client.chat.completions.create(
                model="x", messages=answering("call_7"), extra_headers={"X-Hermes-Session-Id": session}
            )
        with pytest.raises(openai.BadRequestError) as lonely:
            await client.chat.completions.create(model="x", messages=answering("call_7"))
        own: Any = {"type": "function", "function": {"name": "mcp__time__get_current_time"}}
        with pytest.raises(openai.BadRequestError) as taken:
            await client.chat.completions.create(model="x", messages=asking(), tools=[own])

    assert (unknown.value.code, unknown.value.param) == ("no_such_call", "messages")
    assert (lonely.value.code, lonely.value.param) == ("no_such_call", "messages[0].tool_call_id")
    assert (taken.value.code, taken.value.param) == ("tool_name_taken", "tools")


# -- frameworks at their defaults -----------------------------------------------------------------------------------
class City(BaseModel):
    name: str
    people: int


async def test_pydantic_ai_gets_its_output_type(demo: RunningGateway) -> None:
    async with demo.openai() as client:
        model = OpenAIChatModel("x", provider=OpenAIProvider(openai_client=client))
        agent = pydantic_ai.Agent(model, output_type=City)

        answer = await agent.run('call final_result {"name": "Oslo", "people": 700000}')

    assert answer.output == City(name="Oslo", people=700_000)


async def test_pydantic_ai_runs_its_tools(demo: RunningGateway) -> None:
    async with demo.openai() as client:
        agent = pydantic_ai.Agent(OpenAIChatModel("x", provider=OpenAIProvider(openai_client=client)))
        agent.tool_plain(look)

        answer = await agent.run(ASKED)

    assert answer.output == "The tool look said: rain in the east"


async def test_openai_agents_runs_its_tools(demo: RunningGateway) -> None:
    agents.set_tracing_disabled(disabled=True)
    async with demo.openai() as client:
        agent = agents.Agent(
            name="watcher",
            model=OpenAIChatCompletionsModel(model="x", openai_client=client),
            tools=[agents.function_tool(look)],
        )
        answer = await agents.Runner.run(agent, ASKED)

    assert answer.final_output == "The tool look said: rain in the east"


async def look(window: str) -> str:
    """Looks out of a window."""
    await asyncio.sleep(0)
    return f"rain in the {window}"
