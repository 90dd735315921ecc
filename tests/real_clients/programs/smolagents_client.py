"""smolagents: its model, and for tools its ToolCallingAgent, whose answer is a tool too."""

from __future__ import annotations

from asked import MODEL, Asked, answering
from smolagents import ChatMessage, OpenAIModel, ToolCallingAgent, tool


@tool
def look(window: str) -> str:
    """Look out of a window.

    Args:
        window: which one.
    """
    return f"rain in the {window}"


def say(asked: Asked) -> str:
    options = {"default_headers": asked.headers} | ({} if asked.timeout_s is None else {"timeout": asked.timeout_s})
    model = OpenAIModel(model_id=MODEL, api_base=asked.base_url, api_key=asked.key, client_kwargs=options)
    if asked.tool:
        agent = ToolCallingAgent(tools=[look], model=model, verbosity_level=0)
        return str(agent.run(asked.text))
    messages = [ChatMessage(role="user", content=[{"type": "text", "text": asked.text}])]
    if asked.stream:
        return "".join(part.content or "" for part in model.generate_stream(messages))
    return model.generate(messages).content


answering(say)
