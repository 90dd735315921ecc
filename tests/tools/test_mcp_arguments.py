from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fakes.mcp_counting import Counting
from hypothesis import given
from hypothesis import strategies as st

from workers.models.provider import ToolCall
from workers.tools.arguments import fitted, read
from workers.tools.schema import validator
from workers.tools.servers import ToolServers

Serve = Callable[..., ToolServers]


def fit(wanted: dict[str, Any], value: Any) -> Any:
    """What becomes of one argument."""
    arguments, problems = fitted(validator({"type": "object", "properties": {"x": wanted}}), {"x": value})
    assert problems is None
    return arguments["x"]


NUMBERS = {"type": "array", "items": {"type": "number"}}
POINT = {"type": "object", "properties": {"x": {"type": "integer"}, "on": {"type": "boolean"}}}


@pytest.mark.parametrize(
    ("wanted", "written", "meant"),
    [
        ({"type": "integer"}, "3", 3),
        ({"type": "integer"}, " -3 ", -3),
        ({"type": "integer"}, "3.0", 3),
        ({"type": "integer"}, "12345678901234567890123", 12345678901234567890123),
        ({"type": "number"}, "2.5", 2.5),
        ({"type": "number"}, "1e3", 1000.0),
        ({"type": "boolean"}, "true", True),
        ({"type": "boolean"}, "False", False),
        ({"type": ["integer", "null"]}, "3", 3),
        ({"type": ["integer", "null"]}, "null", None),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "3", 3),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "None", None),
        ({"oneOf": [{"type": "boolean"}, {"type": "array"}]}, "[1]", [1]),
        ({"$ref": "#/properties/y"}, "3", "3"),  # a reference to nothing checks nothing
        (NUMBERS, "[1, 2]", [1, 2]),
        (NUMBERS, '["1", "2.5"]', [1, 2.5]),
        (NUMBERS, ["1", 2], [1, 2]),
        (POINT, '{"x": "3", "on": "true"}', {"x": 3, "on": True}),
        (POINT, {"x": "3"}, {"x": 3}),
        ({"type": "array", "items": POINT}, '["{\\"x\\": \\"3\\"}"]', [{"x": 3}]),
    ],
)
def test_a_text_becomes_what_the_schema_wants_in_its_place(wanted: dict[str, Any], written: Any, meant: Any) -> None:
    made = fit(wanted, written)

    assert made == meant
    assert type(made) is type(meant)


@pytest.mark.parametrize(
    ("wanted", "written"),
    [
        ({"type": "string"}, "3"),
        ({"type": ["string", "integer"]}, "3"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "[1]"),
        ({}, "3"),
        ({"type": "integer"}, "three"),
        ({"type": "integer"}, "3.5"),
        ({"type": "integer"}, "0x10"),
        ({"type": "integer"}, ""),
        ({"type": "number"}, "NaN"),
        ({"type": "number"}, "true"),
        ({"type": "boolean"}, "yes"),
        ({"type": "array"}, '{"a": 1}'),
        ({"type": "object"}, "[1]"),
        ({"type": "object"}, "[" * 5_000),
        ({"type": "string"}, 7),
        ({"enum": [1, 2]}, "1"),
        ({"type": "integer", "minimum": 5}, 3),
    ],
)
def test_what_does_not_read_as_what_is_wanted_is_left_to_the_server(wanted: dict[str, Any], written: Any) -> None:
    assert fit(wanted, written) == written


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, "'at' is a required property"),
        ({"at": {}}, "$.at: 'x' is a required property"),
        ({"at": "{}"}, "$.at: 'x' is a required property"),
        ({"at": {"x": 1}, "to": 1}, "'to' was unexpected"),
    ],
)
def test_what_is_missing_or_forbidden_is_refused_at_any_depth(arguments: dict[str, Any], why: str) -> None:
    at = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    schema = {"properties": {"at": at}, "required": ["at"], "additionalProperties": False}

    assert why in (fitted(validator(schema), arguments)[1] or "")


@given(st.recursive(st.none() | st.booleans() | st.integers(), lambda inner: st.lists(inner, max_size=3)))
def test_json_of_a_value_reads_as_the_value_of_its_type(value: Any) -> None:
    kind = {type(None): "null", bool: "boolean", int: "integer", list: "array"}[type(value)]

    assert read(json.dumps(value), kind) == value


@given(
    st.text(max_size=20), st.sampled_from(["null", "boolean", "integer", "number", "array", "object", "string", "?"])
)
def test_any_text_reads_as_something_or_stays(text: str, kind: str) -> None:
    value = read(text, kind)

    assert value is text or not isinstance(value, str)


@pytest.mark.parametrize("written", ['{"seconds": "0"}', '"{\\"seconds\\": 0}"'])
async def test_a_real_server_gets_what_its_schema_wants(serve: Serve, counting: Counting, written: str) -> None:
    toolbox = serve(count=counting.entry()).toolbox("a")
    await toolbox.definitions()

    result = await toolbox.call(ToolCall(call_id="1", name="mcp__count__sleep", arguments=written))

    assert result.text == "slept"


async def test_a_wrong_type_is_judged_by_the_server(serve: Serve, counting: Counting) -> None:
    toolbox = serve(count=counting.entry()).toolbox("a")
    await toolbox.definitions()

    result = await toolbox.call(ToolCall(call_id="1", name="mcp__count__sleep", arguments='{"seconds": "a while"}'))

    assert result.outcome == "tool_error"
    assert "seconds" in result.text
    assert "was not made" not in result.text
