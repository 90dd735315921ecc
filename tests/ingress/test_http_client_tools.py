"""Tools of a client in a request of chat completions, and their calls in the answer."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from fakes.gateway import FakeGateway, completed
from fakes.served_ingress import Served, serving, sse_events

from workers.ingress.http.errors import ApiError
from workers.ingress.http.request import ChatRequest, parse_chat
from workers.turns import Delta

USER = {"role": "user", "content": "hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":"the sky"}'}}
ASKED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "blue"}


def tool(name: str = "look", **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **function}}


def parsed(*messages: dict[str, Any], **fields: Any) -> ChatRequest:
    return parse_chat(orjson.dumps({"messages": messages or [USER], **fields}))


def refusal_of(**fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parsed(**fields)
    assert caught.value.status == 400
    return caught.value


# -- the request --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "choice",
    [
        None,
        "auto",
        "none",
        "required",
        {"type": "function", "function": {"name": "look"}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool()]}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tool(), tool("listen")]}},
    ],
    ids=str,
)
def test_tools_travel_with_the_turn_as_they_came(choice: Any) -> None:
    tools = [tool(description="Looks.", parameters={"type": "object", "properties": {}}, strict=True), tool("listen")]
    asked = {"tools": tools, "parallel_tool_calls": False} | ({} if choice is None else {"tool_choice": choice})

    assert parsed(**asked).parameters == asked


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_a_choice_among_no_tools_is_none(choice: str | None) -> None:
    assert parsed(tools=[], tool_choice=choice, parallel_tool_calls=True).parameters == {}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": {}}, "tools"),
        ({"tools": ["look"]}, "tools[0]"),
        ({"tools": [{}]}, "tools[0].type"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [tool("")]}, "tools[0].function.name"),
        ({"tools": [tool("a b")]}, "tools[0].function.name"),
        ({"tools": [tool("a" * 65)]}, "tools[0].function.name"),
        ({"tools": [tool(), tool()]}, "tools[1].function.name"),
        ({"tools": [tool(description=7)]}, "tools[0].function.description"),
        ({"tools": [tool(strict="yes")]}, "tools[0].function.strict"),
        ({"tools": [tool(parameters=[])]}, "tools[0].function.parameters"),
        ({"tools": [tool(parameters={"type": "array"})]}, "tools[0].function.parameters.type"),
        ({"tools": [tool(parameters={"properties": []})]}, "tools[0].function.parameters.properties"),
        ({"tools": [tool(parameters={"properties": {"a": 7}})]}, "tools[0].function.parameters.properties.a"),
        ({"tools": [tool(parameters={"required": "a"})]}, "tools[0].function.parameters.required"),
        ({"tools": [tool(f"t{n}") for n in range(513)]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "look"}}}, "tool_choice"),
        ({"tools": [tool()], "tool_choice": "always"}, "tool_choice"),
        ({"tools": [tool()], "tool_choice": {"type": "custom"}}, "tool_choice"),
        ({"tools": [tool()], "tool_choice": tool("listen")}, "tool_choice.function.name"),
        (
            {"tools": [tool()], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "any"}}},
            "tool_choice.allowed_tools.mode",
        ),
        (
            {"tools": [tool()], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}},
            "tool_choice.allowed_tools.tools",
        ),
        (
            {
                "tools": [tool()],
                "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool("x")]}},
            },
            "tool_choice.allowed_tools.tools[0].function.name",
        ),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ],
    ids=lambda value: value if isinstance(value, str) else orjson.dumps(value).decode()[:60],
)
def test_what_is_wrong_with_a_tool_is_named(fields: dict[str, Any], param: str) -> None:
    assert refusal_of(**fields).param == param


# -- what is new ----------------------------------------------------------------------------------------------------
NOTE = {"role": "system", "content": "be brief"}
MORE = {"role": "user", "content": "and now?"}


@pytest.mark.parametrize(
    ("messages", "new", "history"),
    [
        ([USER], [USER], 0),
        ([NOTE, USER], [USER], 1),
        ([USER, MORE], [MORE], 1),
        ([USER, ASKED, RESULT], [RESULT], 2),
        ([RESULT], [RESULT], 0),
        ([USER, ASKED, RESULT, MORE], [RESULT, MORE], 2),
        ([USER, ASKED, RESULT, MORE, NOTE], [RESULT, MORE, NOTE], 2),
        ([USER, ASKED, MORE], [MORE], 2),
        ([USER, NOTE], [USER, NOTE], 0),
        ([USER, ASKED, RESULT, NOTE], [RESULT, NOTE], 2),
    ],
)
def test_what_is_new_is_results_of_tools_the_last_message_of_the_user_and_what_the_system_says_behind_it(
    messages: list[dict[str, Any]], new: list[dict[str, Any]], history: int
) -> None:
    chat = parsed(*messages)

    assert [orjson.loads(row)["role"] for row in chat.new_part] == [message["role"] for message in new]
    assert [orjson.loads(row)["content"] for row in chat.new_part] == [message["content"] for message in new]
    assert chat.history_end == history


# -- the answer -----------------------------------------------------------------------------------------------------
CALLS = completed("", finish_reason="tool_calls", tool_calls=[CALL, {**CALL, "id": "c2"}])
ASKING: dict[str, Any] = {"messages": [USER], "tools": [tool()]}


async def answered(*events: Any, **fields: Any) -> tuple[Served, bytes]:
    async with serving(FakeGateway(*events)) as served:
        reply = await served.chat({**ASKING, **fields})
        assert reply.status == 200
        return served, reply.body


async def test_the_calls_for_the_client_are_in_the_message() -> None:
    served, body = await answered(CALLS)

    (choice,) = orjson.loads(body)["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == CALLS.tool_calls
    assert served.gateway.submission.parameters == {"tools": [tool()]}


async def test_a_text_before_the_calls_stays() -> None:
    _, body = await answered(completed("let me look", tool_calls=[CALL]))

    assert orjson.loads(body)["choices"][0]["message"]["content"] == "let me look"


async def test_a_stream_has_the_calls_whole_before_its_end() -> None:
    _, body = await answered(Delta(text="let me look"), completed("let me look", tool_calls=[CALL]), stream=True)

    *_, calls, end, done = (data for _, data in sse_events(body))
    assert calls["choices"][0]["delta"] == {"tool_calls": [{"index": 0, **CALL}]}
    assert calls["choices"][0]["finish_reason"] is None
    assert end["choices"][0]["finish_reason"] == "tool_calls"
    assert done == "[DONE]"


async def test_results_reach_the_session_without_the_history_that_the_client_sends_along() -> None:
    async with serving(FakeGateway(completed("blue it is"))) as served:
        await served.chat({"messages": [USER, ASKED, RESULT], "tools": [tool()]}, X_Hermes_Session_Id="a")

        assert [orjson.loads(row) for row in served.gateway.submission.messages] == [RESULT]
