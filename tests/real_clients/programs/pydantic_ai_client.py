"""pydantic-ai."""

from __future__ import annotations

import asyncio

from asked import MODEL, Asked, answering, look
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider


class Place(BaseModel):
    """The wanted answer."""

    window: str


def say(asked: Asked) -> str:
    kind = OpenAIResponsesModel if asked.responses else OpenAIChatModel
    settings = {"extra_headers": asked.headers} | ({} if asked.timeout_s is None else {"timeout": asked.timeout_s})
    model = kind(MODEL, provider=OpenAIProvider(base_url=asked.base_url, api_key=asked.key))
    if asked.output:
        place = Agent(model, output_type=Place, model_settings=settings).run_sync(asked.text).output
        return f"rain in the {place.window}"
    agent = Agent(model, tools=[look] if asked.tool else [], model_settings=settings)
    return asyncio.run(streamed(agent, asked.text)) if asked.stream else agent.run_sync(asked.text).output


async def streamed(agent: Agent, text: str) -> str:
    async with agent.run_stream(text) as result:
        return "".join([piece async for piece in result.stream_text(delta=True)])


answering(say)
