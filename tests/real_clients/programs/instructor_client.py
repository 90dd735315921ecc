"""instructor at its default, which asks for its model with a tool."""

from __future__ import annotations

import instructor
import openai
from asked import MODEL, Asked, answering
from pydantic import BaseModel


class Place(BaseModel):
    """What is to be filled in."""

    window: str


def say(asked: Asked) -> str:
    more = {} if asked.timeout_s is None else {"timeout": asked.timeout_s}
    client = instructor.from_openai(
        openai.OpenAI(base_url=asked.base_url, api_key=asked.key, default_headers=asked.headers, **more)
    )
    messages = [{"role": "user", "content": asked.text}]
    if not asked.output:
        answer = client.chat.completions.create(model=MODEL, response_model=None, messages=messages)
        return answer.choices[0].message.content
    place = client.chat.completions.create(model=MODEL, response_model=Place, messages=messages)
    return f"rain in the {place.window}"


answering(say)
