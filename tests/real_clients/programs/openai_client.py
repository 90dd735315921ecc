"""The official client."""

from __future__ import annotations

import json

import openai
from asked import LOOK, MODEL, Asked, answering, look


def say(asked: Asked) -> str:
    more = {} if asked.timeout_s is None else {"timeout": asked.timeout_s}
    client = openai.OpenAI(base_url=asked.base_url, api_key=asked.key, default_headers=asked.headers, **more)
    return in_responses(client, asked) if asked.responses else in_chat(client, asked)


def in_chat(client: openai.OpenAI, asked: Asked) -> str:
    messages = [{"role": "user", "content": asked.text}]
    tools = {"tools": [{"type": "function", "function": LOOK}]} if asked.tool else {}
    if asked.stream:
        stream = client.chat.completions.create(model=MODEL, messages=messages, stream=True, **tools)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    while True:
        message = client.chat.completions.create(model=MODEL, messages=messages, **tools).choices[0].message
        if not message.tool_calls:
            return message.content
        messages.append(message)
        for call in message.tool_calls:
            result = look(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def in_responses(client: openai.OpenAI, asked: Asked) -> str:
    items = [{"role": "user", "content": asked.text}]
    tools = {"tools": [{"type": "function", **LOOK}]} if asked.tool else {}
    if asked.stream:
        with client.responses.stream(model=MODEL, input=items, **tools) as stream:
            return "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    while True:
        response = client.responses.create(model=MODEL, input=items, **tools)
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            return response.output_text
        items += response.output
        for call in calls:
            result = look(**json.loads(call.arguments))
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": result})


answering(say)
