"""LangChain's ChatOpenAI."""

from __future__ import annotations

from asked import LOOK, MODEL, Asked, answering, look
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Place(BaseModel):
    """The wanted answer."""

    window: str


def say(asked: Asked) -> str:
    more = {} if asked.timeout_s is None else {"timeout": asked.timeout_s}
    model = ChatOpenAI(
        model=MODEL, base_url=asked.base_url, api_key=asked.key, default_headers=asked.headers,
        use_responses_api=asked.responses, **more,
    )  # fmt: skip
    if asked.output:
        place = model.with_structured_output(Place, method="function_calling").invoke(asked.text)
        return f"rain in the {place.window}"
    chat = model.bind_tools([{"type": "function", "function": LOOK}]) if asked.tool else model
    messages = [HumanMessage(asked.text)]
    if asked.stream:
        return "".join(chunk.text for chunk in chat.stream(messages))
    while True:
        answer = chat.invoke(messages)
        if not answer.tool_calls:
            return answer.text
        messages += [
            answer,
            *(ToolMessage(look(**call["args"]), tool_call_id=call["id"]) for call in answer.tool_calls),
        ]


answering(say)
