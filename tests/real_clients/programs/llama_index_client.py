"""LlamaIndex's OpenAILike."""

from __future__ import annotations

from asked import MODEL, Asked, answering, look
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike


def say(asked: Asked) -> str:
    more = {} if asked.timeout_s is None else {"timeout": asked.timeout_s}
    model = OpenAILike(
        model=MODEL, api_base=asked.base_url, api_key=asked.key, default_headers=asked.headers, is_chat_model=True,
        is_function_calling_model=True, **more,
    )  # fmt: skip
    messages = [ChatMessage(role="user", content=asked.text)]
    if asked.stream:
        return "".join(part.delta or "" for part in model.stream_chat(messages))
    if not asked.tool:
        return model.chat(messages).message.content
    tool = FunctionTool.from_defaults(look)
    while True:
        answer = model.chat_with_tools([tool], chat_history=messages)
        calls = model.get_tool_calls_from_response(answer, error_on_no_tool_call=False)
        if not calls:
            return answer.message.content
        messages.append(answer.message)
        for call in calls:
            result = look(**call.tool_kwargs)
            messages.append(ChatMessage(role="tool", content=result, additional_kwargs={"tool_call_id": call.tool_id}))


answering(say)
