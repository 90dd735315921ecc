"""Haystack's OpenAIChatGenerator."""

from __future__ import annotations

from asked import LOOK, MODEL, Asked, answering, look
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import Tool
from haystack.utils import Secret


def say(asked: Asked) -> str:
    pieces: list[str] = []
    more = {} if asked.timeout_s is None else {"timeout": asked.timeout_s}
    generator = OpenAIChatGenerator(
        model=MODEL, api_base_url=asked.base_url, api_key=Secret.from_token(asked.key),
        generation_kwargs={"extra_headers": asked.headers},
        tools=[Tool(**LOOK, function=look)] if asked.tool else None,
        streaming_callback=(lambda chunk: pieces.append(chunk.content)) if asked.stream else None, **more,
    )  # fmt: skip
    messages = [ChatMessage.from_user(asked.text)]
    while True:
        answer = generator.run(messages=messages)["replies"][0]
        if not answer.tool_calls:
            return "".join(pieces) if asked.stream else answer.text
        messages.append(answer)
        messages += [ChatMessage.from_tool(look(**call.arguments), origin=call) for call in answer.tool_calls]


answering(say)
