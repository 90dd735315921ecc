from __future__ import annotations

import re
import socket
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.config.model import ToolFilter
from workers.tools import schema as checks
from workers.tools.arguments import MAX_PROBLEMS
from workers.tools.arguments import problems as told
from workers.tools.catalogue import Catalogue, LeftOut, ListedTool, catalogue, is_chosen, offered_name

OBJECT: dict[str, Any] = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}

pairs = st.tuples(st.text("abzAZ09_-", min_size=1, max_size=64), st.text(min_size=1, max_size=80))


def offering(schema: dict[str, Any]) -> Catalogue:
    return catalogue("s", [ListedTool(name="t", description=None, input_schema=schema)], ToolFilter())


def problems(schema: dict[str, Any], arguments: dict[str, Any]) -> str | None:
    """All that the check of a schema finds, of which a call is refused for a part."""
    try:
        check = checks.validator(schema)
        return told(checks.errors(check, arguments, at_most=MAX_PROBLEMS + 1))
    except Exception:  # noqa: BLE001  # the check may raise any
        return None


@given(pairs)
def test_an_offered_name_is_one_that_providers_accept(pair: tuple[str, str]) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", offered_name(*pair))


@given(pairs, pairs)
def test_two_tools_never_share_a_name(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert one == other or offered_name(*one) != offered_name(*other)


@given(
    st.text("a_", min_size=1, max_size=6), st.text("a_", min_size=1, max_size=6), st.text("a_", min_size=1, max_size=6)
)
def test_an_underscore_may_stand_on_either_side(start: str, middle: str, end: str) -> None:
    one, other = (start, f"{middle}__{end}"), (f"{start}__{middle}", end)

    assert offered_name(*one) != offered_name(*other)


def test_a_plain_name_is_offered_as_it_is() -> None:
    assert offered_name("time", "get_current_time") == "mcp__time__get_current_time"


def test_tools_are_told_in_chat_completions_form() -> None:
    listed = ListedTool(name="add", description="Adds.", input_schema={"type": "object"})

    offered = catalogue("calc", [listed], ToolFilter())

    function = {"name": "mcp__calc__add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}
    (tool,) = offered.offered
    assert orjson.loads(tool.definition) == {"type": "function", "function": function}
    assert (tool.name, tool.server, tool.tool, tool.description_chars) == ("mcp__calc__add", "calc", "add", 5)


def test_a_tool_is_offered_in_plain_words_of_schema_and_checked_with_all_of_its_own() -> None:
    schema = {"properties": {"to": {"$ref": "#/$defs/To"}, "any": True}, "$defs": {"To": {"enum": ["a"]}, "No": {}}}

    (tool,) = offering(schema).offered

    assert orjson.loads(tool.definition)["function"]["parameters"] == {
        "type": "object",
        "properties": {"to": {"enum": ["a"]}, "any": {}},
    }
    assert problems(schema, {"to": "b"}) == "$.to: 'b' is not one of ['a']"


@pytest.mark.parametrize(
    ("described", "limit", "offered"),
    [("word " * 20, 64, ("word " * 12 + "wor…")), ("x" * 64, 64, "x" * 64), ("x" * 65, 64, "x" * 63 + "…")],
)
def test_a_description_is_cut_at_the_length_that_the_configuration_allows(
    described: str, limit: int, offered: str
) -> None:
    listed = ListedTool(name="t", description=described, input_schema={})

    (tool,) = catalogue("s", [listed], ToolFilter(max_description=limit)).offered

    assert orjson.loads(tool.definition)["function"]["description"] == offered
    assert tool.description_chars == len(offered) <= limit


@pytest.mark.parametrize(
    "broken",
    [
        ListedTool(name="broken", description="\ud800", input_schema={}),
        ListedTool(name="broken", description=None, input_schema={"default": 2**64}),
        ListedTool(name="broken", description=None, input_schema={"type": "string"}),
        ListedTool(name="broken", description=None, input_schema={"type": "object", "properties": ["text"]}),
    ],
)
def test_a_tool_that_cannot_be_told_to_a_model_is_left_out_and_the_others_are_kept(broken: ListedTool) -> None:
    fine = ListedTool(name="fine", description=None, input_schema={})

    offered = catalogue("s", [broken, fine, fine], ToolFilter())

    assert list(offered.tools) == ["mcp__s__fine"]
    assert [tool.name for tool in offered.left_out] == ["broken"]


def test_a_tool_that_the_listing_left_out_is_reported_unless_the_configuration_excludes_it() -> None:
    unread = [LeftOut("odd", "its name is no text"), LeftOut("unwanted", "no input schema")]

    offered = catalogue("s", [], ToolFilter(exclude=("unwanted",)), unread)

    assert offered.left_out == (LeftOut("odd", "its name is no text"),)
    assert offered.digest != catalogue("s", [], ToolFilter()).digest


@pytest.mark.parametrize(
    ("include", "exclude", "offered"),
    [
        ((), (), {"read_file", "read_dir", "write_file"}),
        (("read_*",), (), {"read_file", "read_dir"}),
        ((), ("*_file",), {"read_dir"}),
        (("read_file",), ("read_*",), {"read_file"}),
    ],
)
def test_include_wins_over_exclude(include: tuple[str, ...], exclude: tuple[str, ...], offered: set[str]) -> None:
    chosen = ToolFilter(include=include, exclude=exclude)

    assert {name for name in ("read_file", "read_dir", "write_file") if is_chosen(name, chosen)} == offered


def test_wrong_arguments_are_named_with_their_place() -> None:
    assert problems(OBJECT, {"text": "fine"}) is None
    assert problems(OBJECT, {"text": 7}) == "$.text: 7 is not of type 'string'"
    assert "'text' is a required property" in (problems(OBJECT, {}) or "")


DRAFT_3, DRAFT_4 = (f"http://json-schema.org/draft-0{number}/schema#" for number in (3, 4))


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"text": {"type": "nonsense"}}},
        {"$ref": "#/$defs/missing"},
        {"$ref": "#"},
        {"$ref": "#/title", "title": "x"},
        {"$ref": "#/required/0", "required": ["text"]},
        {"$ref": "#/anyOf/foo", "anyOf": [{}]},
        {"$ref": "http://[bad"},
        {"$id": "http://[bad", "properties": {"text": {"$ref": "x"}}},
        {"$schema": 5},
        {"$schema": ["x"]},
        {"$schema": "http://[bad"},
        {"$schema": DRAFT_4, "properties": {"text": {"$ref": 5}}},
        {"$schema": DRAFT_3, "properties": {"text": {"type": [{"type": "x"}]}}},
    ],
)
def test_a_malformed_schema_checks_nothing(schema: dict[str, Any]) -> None:
    assert problems(schema, {"text": 7}) is None
    assert [tool.name for tool in offering(schema).offered] == ["mcp__s__t"]


SLOW = {"type": "string", "pattern": "^([a-z0-9]+)+@x$"}  # takes exponential time
DIALECT = "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"text": SLOW}},
        {"properties": {"text": {"$ref": "#/$defs/slow"}}, "$defs": {"slow": SLOW}},
        {"$schema": DIALECT, "properties": {"text": SLOW, "inner": {"$ref": "#"}}},
        {"properties": {"inner": {"$schema": DIALECT, "properties": {"text": SLOW}}}},
        {"propertyNames": SLOW},
        {"patternProperties": {SLOW["pattern"]: {}}},
        {"patternProperties": {SLOW["pattern"]: {}}, "additionalProperties": False},
        {"patternProperties": {SLOW["pattern"]: {}}, "unevaluatedProperties": False},
    ],
)
def test_no_pattern_of_a_schema_is_run(schema: dict[str, Any]) -> None:
    long = "a" * 60

    assert problems(schema, {"text": long, long: 1, "inner": {"text": long}}) is None


@pytest.mark.parametrize(
    "finer",
    [
        {"oneOf": [{"pattern": "^a"}, {"pattern": "^b"}]},
        {"not": {"pattern": "^b"}},
        {"if": {"pattern": "^b"}, "then": {"minLength": 9}},
        {"pattern": "^\\p{L}+$"},  # of JavaScript's
    ],
)
def test_what_is_finer_than_a_pattern_is_left_to_the_server_and_the_rest_is_checked(finer: dict[str, Any]) -> None:
    schema = {"properties": {"text": {"type": "string"} | finer}, "required": ["text"]}

    assert problems(schema, {"text": "abc"}) is None
    assert problems(schema, {"text": 7}) == "$.text: 7 is not of type 'string'"
    assert "'text' is a required property" in (problems(schema, {}) or "")


def test_one_of_several_forms_has_to_fit_and_no_property_may_be_new() -> None:
    schema = {"properties": {"at": {"oneOf": [{"type": "string"}, {"type": "null"}]}}, "additionalProperties": False}

    assert problems(schema, {"at": None}) is None
    assert "$.at" in (problems(schema, {"at": 7}) or "")
    assert "'ta' was unexpected" in (problems(schema, {"ta": "x"}) or "")


def test_a_remote_reference_is_never_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"

        assert problems({"$ref": url}, {"text": 7}) is None
        with pytest.raises(BlockingIOError):
            server.accept()


def doubling(levels: int) -> dict[str, Any]:
    """A schema that leads to its last part in 2**levels ways."""
    parts: dict[str, Any] = {str(level): {"allOf": [{"$ref": f"#/$defs/{level + 1}"}] * 2} for level in range(levels)}
    return {"properties": {"x": {"$ref": "#/$defs/0"}}, "$defs": {**parts, str(levels): {"type": "integer"}}}


def each(items: dict[str, Any]) -> dict[str, Any]:
    return {"properties": {"x": {"type": "array", "items": items}}}


STRING_OR_NULL = {"anyOf": [{"type": "string"}, {"type": "null"}]}


@pytest.mark.parametrize(
    ("schema", "value", "most"),
    [
        (each(STRING_OR_NULL), list(range(50_000)), checks.MAX_STEPS),
        (each(STRING_OR_NULL), [None] * 50_000, checks.MAX_STEPS),
        (each({}), [None] * 50_000, checks.MAX_STEPS),
        (each({"enum": [[0]] * 50}), [[0]] * 5_000, checks.MAX_STEPS),
        ({"properties": {"x": {"anyOf": [{"maxItems": 1}] * 500}}}, ["ab"] * 5_000, checks.MAX_STEPS),
        (doubling(15), 7, checks.MAX_STEPS),
    ],
)
def test_a_check_of_arguments_takes_no_more_than_so_many_steps(
    schema: dict[str, Any], value: Any, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = offering(schema)
    tool = offered.tools["mcp__s__t"]
    assert offered.fitted(tool, {}) == ({}, None)
    steps = 0
    count = checks._step

    def counted(number: int) -> None:
        nonlocal steps
        count(number)
        steps += number

    monkeypatch.setattr(checks, "_step", counted)
    assert offered.fitted(tool, {"x": value}) == ({"x": value}, None)

    assert 0 < steps <= most


def test_the_first_problems_are_told_in_order_and_the_rest_is_not_counted() -> None:
    told = problems(each({"type": "string"}), {"x": [0, "fine", 2, 3, 4, 5]})

    assert told == "; ".join([*(f"$.x[{place}]: {place} is not of type 'string'" for place in (0, 2, 3)), "and more"])


def test_a_check_that_takes_too_long_lets_pass() -> None:
    assert "is not of type 'integer'" in (problems(doubling(3), {"x": "text"}) or "")
    assert problems({"allOf": [doubling(15)], "required": ["y"], "$defs": doubling(15)["$defs"]}, {"x": 7}) is None


def test_a_schema_whose_own_check_takes_too_long_checks_nothing() -> None:
    assert problems({"allOf": [{}] * checks.MAX_SCHEMA_STEPS, "required": ["x"]}, {}) is None


def test_items_are_not_compared_with_each_other() -> None:
    assert problems({"properties": {"x": {"uniqueItems": True}}}, {"x": [{}, {}]}) is None


def test_arguments_that_are_too_deep_to_check_leave_the_check_of_later_calls_on() -> None:
    tree = {"properties": {"inner": {"$ref": "#/$defs/tree"}, "text": {"type": "integer"}}}
    offered = offering(tree | {"$defs": {"tree": tree}})
    tool = offered.tools["mcp__s__t"]
    deep: dict[str, Any] = {}
    for _ in range(1_000):
        deep = {"inner": deep}

    assert offered.fitted(tool, deep) == (deep, None)
    assert offered.fitted(tool, {"text": "7"}) == ({"text": 7}, None)
