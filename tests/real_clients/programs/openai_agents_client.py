"""openai-agents; its own default is /v1/responses."""

from __future__ import annotations

import asyncio

import asked as about
from agents import Agent, ModelSettings, OpenAIProvider, RunConfig, Runner, function_tool
from asked import Asked, answering
from openai import AsyncOpenAI


@function_tool
def look(window: str) -> str:
    """Look out of a window."""
    return about.look(window)


def say(asked: Asked) -> str:
    more = {} if asked.timeout_s is None else {"timeout": asked.timeout_s}
    client = AsyncOpenAI(base_url=asked.base_url, api_key=asked.key, **more)
    config = RunConfig(
        model_provider=OpenAIProvider(openai_client=client, use_responses=asked.responses),
        model_settings=ModelSettings(extra_headers=asked.headers),
        tracing_disabled=True,
    )
    agent = Agent(name="watcher", model=about.MODEL, tools=[look] if asked.tool else [])
    return asyncio.run(run(agent, config, asked))


async def run(agent: Agent, config: RunConfig, asked: Asked) -> str:
    if not asked.stream:
        return str((await Runner.run(agent, asked.text, run_config=config)).final_output)
    result = Runner.run_streamed(agent, asked.text, run_config=config)
    text = ""
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            text += event.data.delta
    return text


answering(say)
