"""The body of a request for a response: what becomes of its items and fields, and what is refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from fakes.gateway import completed
from fakes.open_responses import check_response
from hypothesis import given
from hypothesis import strategies as st

from workers.conversations import history_hash
from workers.ingress.http.errors import ApiError
from workers.ingress.http.request import parse_chat
from workers.ingress.responses.objects import finished
from workers.ingress.responses.request import ResponseRequest, parse_response

USER = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "look", "arguments": '{"at": "the sky"}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "blue"}
LOOK = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": True}
PICTURE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}


def answer(*texts: str) -> dict[str, Any]:
    return {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": []} for text in texts],
    }


def parsed(*items: Any, **fields: Any) -> ResponseRequest:
    return parse_response({"input": list(items) or "hi", **fields}, {})


def messages(*items: Any, **fields: Any) -> list[Any]:
    return [orjson.loads(row) for row in parsed(*items, **fields).chat.messages]


def refusal_of(*items: Any, **fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parsed(*items, **fields)
    assert caught.value.status == 400
    return caught.value


# -- input --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "item",
    [
        USER,
        {"role": "user", "content": "hi"},
        {"type": "message", "role": "user", "content": "hi", "id": "msg_1", "status": "completed"},
    ],
)
def test_a_message_is_taken_in_all_its_forms(item: Any) -> None:
    assert messages(item) == [{"role": "user", "content": "hi"}]


def test_a_text_is_a_message_of_the_user() -> None:
    assert messages() == [{"role": "user", "content": "hi"}]


def test_messages_of_the_system_and_the_developer_keep_their_place() -> None:
    given = [{"role": "system", "content": "be brief"}, USER, {"role": "developer", "content": "be kind"}]

    assert [message["role"] for message in messages(*given)] == ["system", "user", "developer"]


def test_pictures_go_to_the_model() -> None:
    (message,) = messages({"role": "user", "content": [{"type": "input_text", "text": "what?"}, PICTURE]})

    assert message["content"][1] == {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"},
    }


def test_the_items_of_an_answer_are_one_message() -> None:
    thoughts = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]}
    given = messages(
        USER, thoughts, answer("I look"), CALL, {**CALL, "call_id": "c2"}, RESULT, {**RESULT, "call_id": "c2"}
    )

    assert [message["role"] for message in given] == ["user", "assistant", "tool", "tool"]
    assert given[1]["content"] == "I look"
    assert [call["id"] for call in given[1]["tool_calls"]] == ["c1", "c2"]


def test_a_history_is_known_by_the_same_hash_as_in_chat_completions() -> None:
    chat = parse_chat(
        orjson.dumps(
            {
                "messages": [
                    {"role": "user", "content": "hi"},
                    {"role": "assistant", "content": "hello"},
                    {"role": "user", "content": "sure?"},
                ]
            }
        )
    )

    for said in ([answer("hel", "lo")], [answer("hel"), answer("lo")]):
        assert parsed(USER, *said, {"role": "user", "content": "sure?"}).chat.history == chat.history
    assert chat.history == history_hash(chat.messages[:2])


def test_a_result_may_be_made_of_parts() -> None:
    result = {**RESULT, "output": [{"type": "input_text", "text": "blue"}, PICTURE]}

    *_, message = messages(USER, CALL, result)
    assert message["tool_call_id"] == "c1"
    assert [part["type"] for part in message["content"]] == ["text", "image_url"]


def test_what_a_reference_names_is_taken_in_its_place() -> None:
    known = {"fc_1": CALL}
    request = parse_response({"input": [USER, {"type": "item_reference", "id": "fc_1"}, RESULT]}, known)

    assert orjson.loads(request.chat.messages[1])["tool_calls"][0]["id"] == "c1"


@pytest.mark.parametrize(
    ("items", "param"),
    [
        ([[]], "input[0]"),
        ([{"type": "message", "role": "boss", "content": "hi"}], "input[0].role"),
        ([{"type": "message", "role": "user"}], "input[0].content"),
        ([{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}], "input[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}], "input[0].content[0].file_id"),
        ([{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}], "input[0].content[0].image_url"),
        ([{"role": "system", "content": [PICTURE]}], "input[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "input_text"}]}], "input[0].content[0].text"),
        ([{"type": "web_search_call", "id": "ws_1"}], "input[0].type"),
        ([USER, {"type": "item_reference", "id": "msg_9"}], "input[1].id"),
        ([USER, {"id": "msg_9"}], "input[1].id"),
        ([USER, {**CALL, "name": "look at"}, RESULT], "input[1].name"),
        ([USER, {**CALL, "arguments": {}}, RESULT], "input[1].arguments"),
        ([USER, {**CALL, "call_id": ""}, RESULT], "input[1].call_id"),
        ([USER, CALL, {**RESULT, "output": 1}], "input[2].output"),
        ([USER, answer("hello")], "input"),
    ],
)
def test_an_item_that_cannot_be_taken_is_named(items: list[Any], param: str) -> None:
    assert refusal_of(*items).param == param


def test_a_result_without_its_call_is_named_where_no_session_has_it() -> None:
    request = parsed(USER, CALL, {**RESULT, "call_id": "c9"})

    with pytest.raises(ApiError) as caught:
        request.check_results()

    assert caught.value.param == "input[2].call_id"


@pytest.mark.parametrize("value", [None, [], {}, 1])
def test_an_input_is_needed(value: Any) -> None:
    with pytest.raises(ApiError) as caught:
        parse_response({"input": value}, {})

    assert caught.value.param == "input"


# -- what is new --------------------------------------------------------------------------------------------------
def test_a_session_takes_what_is_behind_the_last_answer() -> None:
    request = parsed(USER, answer("hello"), CALL, RESULT, {"role": "user", "content": "and now?"})

    assert [orjson.loads(row)["role"] for row in request.chat.new_part] == ["tool", "user"]


def test_a_named_conversation_takes_all_messages_that_it_is_sent() -> None:
    request = parsed(USER, {"role": "user", "content": "and another"}, conversation="c-7")

    assert request.conversation == "c-7"
    assert len(request.chat.new_part) == 2


def test_a_conversation_may_be_an_object_and_holds_the_calls_itself() -> None:
    request = parsed(RESULT, conversation={"id": "c-7"})

    assert request.conversation == "c-7"
    assert len(request.chat.new_part) == 1


# -- fields -------------------------------------------------------------------------------------------------------
def test_what_the_model_heeds_goes_to_it_under_its_name_in_chat_completions() -> None:
    fields = {
        "temperature": 0.5,
        "top_p": 0.9,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "max_output_tokens": 100,
        "instructions": "be brief",
        "reasoning": {"effort": "low"},
        "text": {"verbosity": "low", "format": {"type": "json_object"}},
    }

    assert parsed(**fields).chat.parameters == {
        "temperature": 0.5,
        "top_p": 0.9,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "max_tokens": 100,
        "instructions": "be brief",
        "reasoning_effort": "low",
        "verbosity": "low",
        "response_format": {"type": "json_object"},
    }


def test_a_schema_for_the_answer_is_nested_as_chat_completions_have_it() -> None:
    form = {"type": "json_schema", "name": "pair", "schema": SCHEMA, "strict": True, "description": "a pair"}

    assert parsed(text={"format": form}).chat.parameters["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "pair", "schema": SCHEMA, "strict": True, "description": "a pair"},
    }


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "name": "look"}, {"type": "function", "function": {"name": "look"}}),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "look"}]},
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "look"}}]},
            },
        ),
        ({"type": "allowed_tools", "mode": "none", "tools": [{"type": "function", "name": "look"}]}, "none"),
    ],
    ids=str,
)
def test_tools_and_their_choice_are_those_of_chat_completions(choice: Any, sent: Any) -> None:
    request = parsed(tools=[LOOK], tool_choice=choice, parallel_tool_calls=False)

    function = {"name": "look", "parameters": {"type": "object", "properties": {}}, "strict": True}
    assert request.chat.parameters == {
        "tools": [{"type": "function", "function": function}],
        "tool_choice": sent,
        "parallel_tool_calls": False,
    }
    check_response(finished("turn_1", 1, request.echoed, completed(), completed_at=2))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [LOOK, LOOK]}, "tools[1].name"),
        ({"tools": [{**LOOK, "parameters": []}]}, "tools[0].parameters"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [LOOK], "tool_choice": "perhaps"}, "tool_choice"),
        ({"tools": [LOOK], "tool_choice": {"type": "function", "name": "listen"}}, "tool_choice.name"),
        (
            {"tools": [LOOK], "tool_choice": {"type": "allowed_tools", "tools": [{"type": "function", "name": "x"}]}},
            "tool_choice.tools[0].name",
        ),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"instructions": ["a"]}, "instructions"),
        ({"model": 1}, "model"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": True}, "max_output_tokens"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(at): "" for at in range(17)}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"stream": "yes"}, "stream"),
        ({"store": 1}, "store"),
        ({"truncation": "middle"}, "truncation"),
        ({"service_tier": "gold"}, "service_tier"),
        ({"include": ["everything"]}, "include"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"max_tool_calls": 3}, "max_tool_calls"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"reasoning": {"effort": 3}}, "reasoning"),
        ({"text": []}, "text"),
        ({"text": {"verbosity": "much"}}, "text.verbosity"),
        ({"text": {"format": "json"}}, "text.format.type"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "schema": []}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "schema": {}, "name": "a b"}}}, "text.format.name"),
        ({"text": {"format": {"type": "json_schema", "schema": {}, "strict": 1}}}, "text.format.strict"),
        ({"text": {"format": {"type": "json_schema", "name": 1}}}, "text.format.name"),
        ({"tools": [LOOK], "tool_choice": {"type": "allowed_tools", "mode": "none"}}, "tool_choice.tools"),
        ({"conversation": ""}, "conversation"),
        ({"conversation": {"name": "c"}}, "conversation"),
        ({"user": 7}, "user"),
        ({"wings": 2}, "wings"),
    ],
    ids=str,
)
def test_a_field_that_cannot_be_heeded_is_named(fields: dict[str, Any], param: str) -> None:
    error = refusal_of(**fields)

    assert error.param == param
    assert ".function" not in error.message


def test_fields_that_are_null_are_as_good_as_left_out() -> None:
    names = ["tools", "tool_choice", "text", "reasoning", "metadata", "previous_response_id", "stream", "wings"]

    assert parsed(**dict.fromkeys(names)).echoed == parsed().echoed


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"instructions": "be brief", "metadata": {"a": "b"}, "safety_identifier": "u1", "prompt_cache_key": "k"},
        {"tools": [LOOK, {"type": "function", "name": "listen"}], "parallel_tool_calls": False},
        {"tools": [LOOK], "tool_choice": {"type": "allowed_tools", "tools": [{"type": "function", "name": "look"}]}},
        {"text": {"format": {"type": "json_schema", "name": "pair", "schema": SCHEMA}, "verbosity": "high"}},
        {"text": {"format": {"type": "json_object"}}},
        {"text": {"format": {"type": "json_schema"}}},
        {"text": {}},
        {"reasoning": {"effort": "minimal", "summary": "auto"}},
        {"reasoning": {"effort": "xhigh"}},
        {"temperature": 0, "top_p": 1, "presence_penalty": -1, "frequency_penalty": 2, "max_output_tokens": 1},
        {"truncation": "auto", "service_tier": "flex", "include": ["reasoning.encrypted_content"], "top_logprobs": 0},
        {"stream_options": {"include_obfuscation": False}, "store": True, "background": False},
    ],
    ids=str,
)
def test_what_was_asked_is_repeated_as_the_specification_has_it(fields: dict[str, Any]) -> None:
    echoed = parsed(**fields).echoed

    response = check_response(finished("turn_1", 1, echoed, completed(), completed_at=2))
    for name in fields.keys() & {"instructions", "metadata", "temperature", "max_output_tokens", "truncation"}:
        assert response[name] == fields[name]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = [
    *("type", "role", "content", "id", "call_id", "name", "arguments", "output", "tools", "mode", "format", "schema"),
    *("strict", "verbosity", "effort", "summary", "text", "image_url", "detail", "parameters", "description"),
]
WORDS = [
    *("message", "function", "function_call", "function_call_output", "reasoning", "item_reference", "allowed_tools"),
    *("user", "assistant", "input_text", "output_text", "input_image", "json_schema", "json_object", "auto", "none"),
    *("required", "low", "look", "https://x"),
]
NEAR = st.recursive(
    st.sampled_from(WORDS) | JSON,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=12,
)
FIELDS = [
    *("input", "tools", "tool_choice", "text", "reasoning", "metadata", "conversation", "instructions", "include"),
    *("temperature", "max_output_tokens", "parallel_tool_calls", "user", "truncation", "stream", "store", "model"),
    *("previous_response_id", "background", "service_tier", "prompt_cache_key", "safety_identifier", "top_logprobs"),
]


@given(st.dictionaries(st.sampled_from(FIELDS), NEAR, max_size=6), st.booleans())
def test_whatever_is_sent_is_refused_with_400_or_repeated_as_the_specification_has_it(
    body: dict[str, Any], plain: bool
) -> None:
    if plain:
        body |= {"input": "hi", "tools": [LOOK]}
    outcome: ApiError | ResponseRequest
    try:
        outcome = parse_response(orjson.loads(orjson.dumps(body)), {})
        outcome.check_results()
    except ApiError as error:
        outcome = error

    if isinstance(outcome, ApiError):
        assert outcome.status == 400
        assert outcome.param
    else:
        check_response(finished("turn_1", 1, outcome.echoed, completed(), completed_at=2))
