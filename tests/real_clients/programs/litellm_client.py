"""LiteLLM as a client."""

from __future__ import annotations

import json

import litellm
from asked import LOOK, MODEL, Asked, answering, look


def say(asked: Asked) -> str:
    messages = [{"role": "user", "content": asked.text}]
    more = {} if asked.timeout_s is None else {"timeout": asked.timeout_s}
    if asked.tool:
        more["tools"] = [{"type": "function", "function": LOOK}]

    def complete(**how: bool):  # two types, as the client's own
        return litellm.completion(
            model=f"openai/{MODEL}", api_base=asked.base_url, api_key=asked.key, messages=messages,
            extra_headers=asked.headers, **more, **how,
        )  # fmt: skip

    if asked.stream:
        return "".join(chunk.choices[0].delta.content or "" for chunk in complete(stream=True))
    while True:
        message = complete().choices[0].message
        if not message.tool_calls:
            return message.content
        messages.append(message)
        for call in message.tool_calls:
            result = look(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


answering(say)
