from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.ingress.http.errors import ApiError
from workers.ingress.http.request import parse_chat
from workers.json_depth import MAX_DEPTH

USER = {"role": "user", "content": "hi"}


def refusal_of(**fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse_chat(orjson.dumps({"messages": [USER], **fields}))
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "king", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["hi"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "file"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": []}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].image_url"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///x"}}]}]},
            "messages[0].content[0].image_url.url",
        ),
        ({"messages": [{"role": "user", "content": "hi", "name": 7}]}, "messages[0].name"),
        ({"messages": [USER, {"role": "assistant", "content": "hello"}]}, "messages[1].role"),
        ({"messages": [{"role": "tool", "content": "1"}, USER]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "assistant", "tool_calls": "x"}, USER]}, "messages[0].tool_calls"),
        ({"model": 7}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": [1]}, "stream_options"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"user": 7}, "user"),
        ({"user": "x" * 513}, "user"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": []}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"seed": "x"}, "seed"),
        ({"stop": [1]}, "stop"),
        ({"presence_penalty": {}}, "presence_penalty"),
        ({"frequency_penalty": "x"}, "frequency_penalty"),
        ({"reasoning_effort": 1}, "reasoning_effort"),
        ({"verbosity": 1}, "verbosity"),
        ({"response_format": "json"}, "response_format"),
        ({"logit_bias": {"1": "x"}}, "logit_bias"),
    ],
    ids=lambda value: value if isinstance(value, str) else orjson.dumps(value).decode()[:60],
)
def test_a_field_of_the_wrong_shape_is_named(fields: dict[str, Any], param: str) -> None:
    assert refusal_of(**fields).param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"functions": [{}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "audio"),
    ],
)
def test_what_agents_do_not_offer_is_refused_in_words(fields: dict[str, Any], param: str) -> None:
    error = refusal_of(**fields)

    assert (error.param, error.code) == (param, "unsupported_parameter")


@pytest.mark.parametrize("field", [{"n": 1}, {"tools": []}, {"n": None}, {"stream_options": None}, {"whatever": 1}])
def test_fields_that_ask_for_nothing_special_are_ignored(field: dict[str, Any]) -> None:
    parse_chat(orjson.dumps({"messages": [USER], **field}))


def test_sampling_parameters_pass_and_null_ones_do_not() -> None:
    given_ = {
        "temperature": 0.5, "top_p": 1, "max_tokens": 5, "max_completion_tokens": 6, "stop": ["a"], "seed": -1,
        "presence_penalty": -2, "frequency_penalty": 0.0, "reasoning_effort": "low", "verbosity": "high",
        "response_format": {"type": "json_object"}, "logit_bias": {"50256": -100},
    }  # fmt: skip

    assert parse_chat(orjson.dumps({"messages": [USER], **given_, "metadata": {}})).parameters == given_
    assert parse_chat(orjson.dumps({"messages": [USER], **dict.fromkeys(given_)})).parameters == {}


def test_whole_numbers_may_be_written_with_a_fraction() -> None:
    asked = parse_chat(orjson.dumps({"messages": [USER], "max_tokens": 5.0, "seed": 7.0, "top_p": 1.0, "n": 1.0}))

    assert orjson.dumps(asked.parameters, option=orjson.OPT_SORT_KEYS) == b'{"max_tokens":5,"seed":7,"top_p":1.0}'


@pytest.mark.parametrize(
    ("role", "content", "kept"),
    [
        ("user", [], ""),
        ("system", [], ""),
        ("assistant", [], ""),
        ("user", [{"type": "input_text", "text": "hi"}], "hi"),
        ("assistant", [{"type": "output_text", "text": "hi"}], "hi"),
        (
            "assistant",
            [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "hi"}],
            "hi",
        ),
        ("assistant", [{"type": "redacted_thinking", "data": "x"}, {"type": "reasoning", "text": "hm"}], ""),
    ],
)
def test_contents_as_some_clients_write_them_are_taken(role: str, content: list[Any], kept: Any) -> None:
    message, _ = parse_chat(orjson.dumps({"messages": [{"role": role, "content": content}, USER]})).messages

    assert orjson.loads(message)["content"] == kept


def test_an_image_passes_as_it_is() -> None:
    parts = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
    ]

    (message,) = parse_chat(orjson.dumps({"messages": [{"role": "user", "content": parts}]})).messages

    assert orjson.loads(message) == {"role": "user", "content": parts}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"nope", b'{"messages": [', b'{"a": NaN}', b'{"a": Infinity}', b'{"a": 1e999}', b'"text"', b"[]", b"null",
        b'{"user": "\\ud800"}', b'{"user": "\xff"}', b"\xef\xbb\xbf{}", b"\x00", b"[" * 100_000,
        b'{"a":' + b"[" * 1000 + b"]" * 1000 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_what_is_no_json_object_in_utf_8_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse_chat(body)

    assert caught.value.status == 400
    assert caught.value.code in ("invalid_json", "too_deep")


def nested(levels: int) -> dict[str, Any]:
    """A request that is so many levels deep, itself the first."""
    value: Any = 1
    for _ in range(levels - 1):
        value = [value]
    return {"messages": [USER], "metadata": value}


def test_depth_is_capped() -> None:
    parse_chat(orjson.dumps(nested(MAX_DEPTH)))

    with pytest.raises(ApiError, match="nested") as caught:
        parse_chat(orjson.dumps(nested(MAX_DEPTH + 1)))
    assert caught.value.code == "too_deep"


def test_brackets_in_text_are_no_depth() -> None:
    parse_chat(orjson.dumps({"messages": [{"role": "user", "content": "[{" * 1000}]}))


def test_the_same_request_has_the_same_fingerprint_however_it_is_answered() -> None:
    def fingerprint(**fields: Any) -> bytes:
        return parse_chat(orjson.dumps({"messages": [USER], **fields})).fingerprint(stateless=True)

    assert fingerprint(stream=True, model="x", whatever=1) == fingerprint()
    assert fingerprint(seed=1, logit_bias={"1": 1, "2": 2}) == fingerprint(logit_bias={"2": 2, "1": 1}, seed=1)
    assert fingerprint(seed=1) != fingerprint(seed=2)
    assert fingerprint(messages=[{"role": "user", "content": "ho"}]) != fingerprint()


def test_what_a_session_does_not_take_does_not_count_in_its_fingerprint() -> None:
    longer = parse_chat(orjson.dumps({"messages": [{"role": "system", "content": "x"}, USER]}))
    short = parse_chat(orjson.dumps({"messages": [USER]}))

    assert longer.fingerprint(stateless=False) == short.fingerprint(stateless=False)
    assert longer.fingerprint(stateless=True) != short.fingerprint(stateless=True)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
FIELDS = [
    "messages", "model", "stream", "stream_options", "user", "n", "tools", "functions", "audio", "modalities",
    "temperature", "max_tokens", "stop", "response_format", "logit_bias",
]  # fmt: skip
part = st.fixed_dictionaries({}, optional=dict.fromkeys(("text", "image_url", "refusal"), json_values) | {
    "type": st.sampled_from(["text", "image_url", "refusal", "file", 1, None])
})  # fmt: skip
a_message = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"]) | json_values},
    optional={
        "content": st.lists(part, max_size=3) | json_values,
        "name": json_values,
        "tool_calls": json_values | st.lists(st.dictionaries(st.just("id"), json_values)),
        "tool_call_id": json_values,
    },
)
requests = st.dictionaries(st.sampled_from(FIELDS), json_values) | st.fixed_dictionaries(
    {"messages": st.lists(a_message, max_size=4)}, optional=dict.fromkeys(FIELDS[1:], json_values)
)


@given(requests)
def test_any_request_is_taken_or_refused_in_words(request_: dict[str, Any]) -> None:
    try:
        body = orjson.dumps(request_)
    except TypeError:
        return  # such a text or number cannot be sent
    try:
        chat = parse_chat(body)
    except ApiError as error:
        orjson.loads(error.body())
    else:
        assert orjson.loads(chat.messages[-1])["role"] == "user"
        assert chat.fingerprint(stateless=True)


@given(st.binary())
def test_any_bytes_are_taken_or_refused_in_words(body: bytes) -> None:
    with pytest.raises(ApiError):
        parse_chat(body)
