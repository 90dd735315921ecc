"""A second runtime: a pydantic-ai agent whose model and tools are the host's.

The agent loops by itself; it gets the conversation in its own messages, and the transcript gets what it adds to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson
from pydantic_ai import Agent, capture_run_messages
from pydantic_ai.exceptions import UsageLimitExceeded
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.messages import ModelRequest as AgentRequest
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import RunContext, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool
from pydantic_ai.toolsets.external import TOOL_SCHEMA_VALIDATOR
from pydantic_ai.usage import UsageLimits

from workers.kept_json import kept_json
from workers.models.attached import stored
from workers.models.cause import TREATMENTS
from workers.models.offer import Offer
from workers.models.provider import ModelFailure, ToolCall
from workers.runtimes.chat.errors import failure_error, max_turns_error
from workers.runtimes.chat.past import past_of
from workers.runtimes.runtime import Context, Host, Outcome
from workers.runtimes.transcript import tool_message


class PydanticRuntime:
    """A :class:`workers.runtimes.runtime.Runtime`."""

    def __init__(self) -> None:
        self._agent = Agent(output_type=str)

    async def run(self, host: Host, context: Context) -> Outcome:
        passed = past_of(context.memory, resumed=context.resumed)
        past = [row for turn in passed for row in turn.rows]
        model = HostModel(host, context, len(past) + len(context.messages))
        with capture_run_messages() as said:
            try:
                result = await self._agent.run(
                    message_history=[*messages_of([*past, *context.messages])],
                    model=model,
                    toolsets=[HostTools(host, context.tools)],
                    usage_limits=UsageLimits(request_limit=context.max_turns),
                )
            except NoAnswer as error:
                own_fault = not TREATMENTS[error.failure.cause].kept
                return Outcome(reason="error", error=failure_error(error.failure), own_fault=own_fault)
            except UsageLimitExceeded:
                model.keep_new(said)
                return Outcome(reason="error", error=max_turns_error(context.max_turns))
        model.keep_new(said)
        return Outcome(text=result.output)


class NoAnswer(Exception):
    """The whole chain of models failed."""

    def __init__(self, failure: ModelFailure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class HostModel(Model[None]):
    """The model that the host asks.

    Args:
        kept: how many messages of the conversation the transcript has.
    """

    def __init__(self, host: Host, context: Context, kept: int) -> None:
        super().__init__()
        self._host = host
        self._context = context
        self._kept = kept

    @property
    def model_name(self) -> str:
        return "of-the-host"

    @property
    def system(self) -> str:
        return "hermes-actors"

    async def request(
        self, messages: list[ModelMessage], settings: ModelSettings | None, parameters: ModelRequestParameters
    ) -> ModelResponse:
        rows = self.keep_new(messages)
        given = self._context
        reply = await self._host.ask(rows, system=given.system, tools=given.tools, parameters=given.parameters)
        if isinstance(reply, ModelFailure):
            raise NoAnswer(reply)
        self._host.keep([kept_json(stored(reply))])
        self._kept += 1
        parts: list[Any] = [TextPart(reply.text)] if reply.text or not reply.tool_calls else []
        parts += [ToolCallPart(call.name, call.arguments, call.call_id) for call in reply.tool_calls]
        return ModelResponse(parts=parts, model_name=reply.model)

    def keep_new(self, messages: Sequence[ModelMessage]) -> list[bytes]:
        """Keep what the agent has added to the conversation; all of it as chat messages."""
        rows = [*rows_of(messages)]
        self._host.keep(rows[self._kept :])
        self._kept = len(rows)
        return rows


class HostTools(AbstractToolset[object]):
    """The tools that the host calls."""

    def __init__(self, host: Host, offered: Offer) -> None:
        self._host = host
        self._offered = offered

    @property
    def id(self) -> str:
        return "host"

    async def get_tools(self, ctx: RunContext[object]) -> dict[str, ToolsetTool[object]]:
        functions = (orjson.loads(tool.definition)["function"] for tool in self._offered.tools)
        return {
            function["name"]: ToolsetTool(
                toolset=self,
                tool_def=ToolDefinition(
                    name=function["name"],
                    description=function.get("description"),
                    parameters_json_schema=function["parameters"],
                ),
                max_retries=1,
                args_validator=TOOL_SCHEMA_VALIDATOR,
            )
            for function in functions
        }

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[object], tool: ToolsetTool[object]
    ) -> str:
        assert ctx.tool_call_id is not None
        call = ToolCall(call_id=ctx.tool_call_id, name=name, arguments=orjson.dumps(tool_args).decode())
        [result] = await self._host.call([call])
        return result.text


def messages_of(rows: Iterable[bytes]) -> Iterator[ModelMessage]:
    """Messages of the transcript as the agent has them."""
    names: dict[str, str] = {}
    for message in map(orjson.loads, rows):
        content = message["content"]
        match message["role"]:
            case "assistant":
                calls = message.get("tool_calls") or ()
                names |= {call["id"]: call["function"]["name"] for call in calls}
                parts: list[Any] = [TextPart(content)] if content or not calls else []
                parts += [ToolCallPart(names[call["id"]], call["function"]["arguments"], call["id"]) for call in calls]
                yield ModelResponse(parts=parts)
            case "tool":
                call_id = message["tool_call_id"]
                yield AgentRequest(parts=[ToolReturnPart(names[call_id], content, call_id)])
            case _:
                yield AgentRequest(parts=[UserPromptPart(content)])


def rows_of(messages: Iterable[ModelMessage]) -> Iterator[bytes]:
    """Messages of the agent as the transcript has them."""
    for message in messages:
        if isinstance(message, ModelResponse):
            text = "".join(part.content for part in message.parts if isinstance(part, TextPart))
            calls = [
                {"id": part.tool_call_id, "type": "function", "function": _function(part)}
                for part in message.parts
                if isinstance(part, ToolCallPart)
            ]
            said = {"role": "assistant", "content": text or (None if calls else "")}
            yield kept_json(said | ({"tool_calls": calls} if calls else {}))
            continue
        for part in message.parts:
            if isinstance(part, UserPromptPart):
                yield kept_json({"role": "user", "content": part.content})
            elif isinstance(part, ToolReturnPart):
                yield tool_message(part.tool_call_id, part.model_response_str())


def _function(part: ToolCallPart) -> dict[str, str]:
    return {"name": part.tool_name, "arguments": part.args_as_json_str()}
