from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.tools import dialect
from workers.tools.dialect import MAX_DEPTH, NotAnObject, plain
from workers.tools.keywords import ANY_ITEM, TYPES

NODE = {"type": "object", "properties": {"name": {"type": "string"}, "inner": {"$ref": "#/$defs/Node"}}}


def of(part: Any, **beside: Any) -> dict[str, Any]:
    """The schema of a tool with one argument."""
    return {"type": "object", "properties": {"x": part}, **beside}


def x_of(schema: dict[str, Any]) -> Any:
    """What the argument of such a tool is offered as."""
    return plain(schema)["properties"]["x"]


def schemas_in(schema: Any, *, data: bool = False) -> Iterator[dict[str, Any]]:
    """Every schema in a schema, itself included."""
    if isinstance(schema, list):
        for each in schema:
            yield from schemas_in(each)
    elif isinstance(schema, dict):
        if not data:
            yield schema
        for key, value in schema.items():
            if data or key not in ("default", "const", "enum", "examples", "required", "x-more"):
                yield from schemas_in(value, data=not data and key in MAPS)


MAPS = ("properties", "patternProperties", "$defs", "dependentSchemas", "dependencies")
PARTS = ("items", "not", "if", "then", "else", "contains", "propertyNames", "contentSchema")
LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
names = st.sampled_from(["a", "b", "$ref", "$defs", "type", "items", "é/~"])
references = st.sampled_from(
    [
        *("#", "#/", "#/$defs/a", "#/$defs/b", "#/definitions/a", "#/$defs/a/properties/b", "#/properties/a"),
        *("#/anyOf/0", "#/required/0", "#/properties", "#there", "there.json", "https://example.com/x#/$defs/a"),
        *("#/$defs/%C3%A9~1~0", "#/x/99999999999999", 7, None),
    ]
)
data = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "object", "a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2),
    max_leaves=4,
)


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Schemas that hold what is there already, anything where something else belongs, and references."""
    type_names = st.sampled_from([*sorted(TYPES), "any", "STRING", "int", "", None])
    kinds = type_names | st.lists(type_names, max_size=3) | data
    keywords: dict[str, st.SearchStrategy[Any]] = {
        "type": kinds,
        "enum": st.lists(data, max_size=3) | data,
        "required": st.lists(names, max_size=2) | data,
        "additionalProperties": inner,
        "additionalItems": inner,
        "unevaluatedProperties": inner,
        **dict.fromkeys(("default", "const", "minimum", "exclusiveMinimum", "maxItems", "pattern", "x-more"), data),
        **dict.fromkeys(("$ref", "$dynamicRef"), references | data),
        **{key: st.sampled_from(["there", "there.json", "https://example.com/x"]) for key in ("$anchor", "$id")},
        **dict.fromkeys(PARTS, inner | st.lists(inner, max_size=2)),
        **{key: st.lists(inner, max_size=3) | inner for key in LISTS},
        **{key: st.dictionaries(names, inner, max_size=2) | data for key in (*MAPS, "definitions")},
    }
    return st.fixed_dictionaries({}, optional=keywords) | st.booleans() | st.none()


schemas = st.recursive(st.just({"type": "string"}) | st.booleans() | st.none(), _schemas, max_leaves=12)
tools = schemas.map(lambda schema: {**schema, "type": "object"} if isinstance(schema, dict) else {})


def made(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        return plain(schema)
    except NotAnObject:
        return plain({})


@given(tools)
def test_making_it_twice_changes_nothing(schema: dict[str, Any]) -> None:
    once = made(schema)

    assert made(once) == once


@given(tools)
def test_nothing_of_the_listed_schema_is_changed(schema: dict[str, Any]) -> None:
    before = copy.deepcopy(schema)

    made(schema)

    assert schema == before


@given(tools)
def test_what_is_offered_is_an_object_with_properties_and_nothing_that_a_provider_refuses(
    schema: dict[str, Any],
) -> None:
    offered = made(schema)

    assert offered["type"] == "object"
    assert isinstance(offered["properties"], dict)
    assert not {"anyOf", "oneOf", "allOf", "enum", "not", "$ref"} & offered.keys()
    for each in schemas_in(offered):
        kind = each.get("type", "string")
        assert set(kind if isinstance(kind, list) else [kind]) <= TYPES
        assert kind
        assert all(each.get(key, [None]) for key in ("enum", "required", *LISTS))
        assert all(isinstance(each.get(key, {}), dict) for key in ("items", *PARTS))
        assert all(isinstance(part, dict) for key in LISTS for part in each.get(key, ()))
        assert all(isinstance(part, dict) for key in MAPS[:4] for part in each.get(key, {}).values())
        assert "items" in each or "array" not in (kind if isinstance(kind, list) else [kind])
        if "$ref" in each:
            assert each["$ref"].removeprefix("#/$defs/") in offered["$defs"]


@given(tools)
def test_only_definitions_that_something_refers_to_are_offered(schema: dict[str, Any]) -> None:
    offered = made(schema)
    asked = {each["$ref"] for each in schemas_in(offered) if "$ref" in each}

    assert {f"#/$defs/{name}" for name in offered.get("$defs", ())} == asked


@pytest.mark.parametrize(
    ("schema", "offered"),
    [
        (of({"$ref": "#/$defs/A"}, **{"$defs": {"A": {"type": "string"}}}), {"type": "string"}),
        (of({"$ref": "#/definitions/A"}, definitions={"A": {"type": "string"}}), {"type": "string"}),
        (of({"$ref": "#/properties/y"}) | {"properties": {"x": {"$ref": "#/properties/y"}, "y": {"type": "integer"}}},
         {"type": "integer"}),
        (of({"$ref": "#/$defs/A/items"}, **{"$defs": {"A": {"items": {"type": "null"}}}}), {"type": "null"}),
        (of({"$ref": "#/$defs/a~1b%20c"}, **{"$defs": {"a/b c": {"type": "string"}}}), {"type": "string"}),
        (of({"$ref": "#a"}, **{"$defs": {"A": {"$anchor": "a", "type": "string"}}}), {"type": "string"}),
        (of({"$ref": "a.json"}, **{"$defs": {"A": {"$id": "a.json", "type": "string"}}}), {"type": "string"}),
        (of({"$ref": "http://e.org/s#/$defs/A"}, **{"$id": "http://e.org/s", "$defs": {"A": {"type": "string"}}}),
         {"type": "string"}),
        (of({"$ref": "#/$defs/A", "description": "mine"}, **{"$defs": {"A": {"type": "string", "description": "its"}}}),
         {"type": "string", "description": "mine"}),
        (of({"$ref": "#/$defs/A", "minLength": 2}, **{"$defs": {"A": {"type": "string", "minLength": 3}}}),
         {"allOf": [{"type": "string", "minLength": 3}, {"minLength": 2}]}),
        (of({"allOf": [{"$ref": "#/$defs/A"}], "title": "T"}, **{"$defs": {"A": {"enum": ["a"]}}}),
         {"enum": ["a"], "title": "T"}),
    ],
)  # fmt: skip
def test_a_reference_to_a_place_inside_is_replaced_by_what_is_there(schema: dict[str, Any], offered: Any) -> None:
    assert x_of(schema) == offered


@pytest.mark.parametrize(
    "reference",
    ["#", "#/$defs/gone", "#/title", "#/required/0", "#nowhere", "https://example.com/s.json", "other.json#/a", 5],
)
def test_a_reference_that_leads_nowhere_lets_anything_pass_and_what_stands_beside_it_is_kept(reference: Any) -> None:
    schema = of({"$ref": reference, "description": "kept"}, title="T", required=["x"])

    assert x_of(schema) == {"description": "kept"}


def test_a_recursion_ends_with_the_type_of_what_would_recur() -> None:
    node = x_of(of({"$ref": "#/$defs/Node"}, **{"$defs": {"Node": NODE}}))

    assert node == {**NODE, "properties": {"name": {"type": "string"}, "inner": {"type": "object"}}}


def test_references_that_lead_to_each_other_let_anything_pass() -> None:
    circle = {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}

    assert x_of(of({"$ref": "#/$defs/A"}, **{"$defs": circle})) == {}


def test_definitions_that_nothing_refers_to_are_not_offered() -> None:
    assert plain(of({"type": "string"}, **{"$defs": {"A": NODE}, "definitions": {"B": NODE}})) == of({"type": "string"})


def test_references_stay_where_replacing_them_would_make_the_schema_much_longer() -> None:
    levels = 12
    parts: dict[str, Any] = {
        str(level): {"type": "object", "properties": {side: {"$ref": f"#/$defs/{level + 1}"} for side in "lr"}}
        for level in range(levels)
    }
    parts[str(levels)] = {"type": "string"}
    parts["unused"] = {"type": "string"}

    offered = plain(of({"$ref": "#/$defs/0"}, **{"$defs": parts}))

    del parts["unused"]
    assert offered == of({"$ref": "#/$defs/0"}, **{"$defs": parts})
    assert plain(offered) == offered


def test_replacing_references_is_given_up_before_it_takes_long() -> None:
    levels = 40
    parts: dict[str, Any] = {str(at): {"anyOf": [{"$ref": f"#/$defs/{at + 1}"}] * 2} for at in range(levels)}

    assert "$defs" in plain(of({"$ref": "#/$defs/0"}, **{"$defs": {**parts, str(levels): {"type": "string"}}}))


@pytest.mark.parametrize(
    ("part", "offered"),
    [
        (True, {}),
        (None, {}),
        ({"type": "any"}, {}),
        ({"type": "STRING"}, {"type": "string"}),
        ({"type": "int"}, {"type": "integer"}),
        ({"type": ["string", "file"]}, {}),
        ({"type": ["string"]}, {"type": "string"}),
        ({"type": []}, {}),
        ({"type": None, "description": "d"}, {"description": "d"}),
        ({"enum": []}, {}),
        ({"enum": None}, {}),
        ({"enum": ["a", "a", True, 1]}, {"enum": ["a", True, 1]}),
        ({"type": "object", "properties": None}, {"type": "object"}),
        ({"type": "object", "properties": {"a": True}, "required": None}, {"type": "object", "properties": {"a": {}}}),
        ({"type": "object", "properties": {"a": False, "b": {}}, "required": ["a", "b"]},
         {"type": "object", "properties": {"b": {}}, "required": ["b"]}),
        ({"properties": {"a": {"required": True}, "b": {"required": False}}},
         {"properties": {"a": {}, "b": {}}, "required": ["a"]}),
        ({"anyOf": []}, {}),
        ({"oneOf": None, "allOf": []}, {}),
        ({"oneOf": [{"type": "string"}, {"type": "null"}]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ({"anyOf": [False, {"type": "string"}]}, {"type": "string"}),
        ({"not": True, "if": None}, {}),
        ({"additionalProperties": {}}, {"additionalProperties": True}),
        ({"additionalProperties": None}, {}),
        ({"type": "array"}, {"type": "array", "items": ANY_ITEM}),
        ({"type": ["array", "null"]}, {"type": ["array", "null"], "items": ANY_ITEM}),
        ({"type": "array", "items": True}, {"type": "array", "items": {}}),
        ({"type": "array", "items": False}, {"type": "array", "maxItems": 0, "items": ANY_ITEM}),
        ({"items": [{"type": "string"}, {"type": "integer"}], "additionalItems": False},
         {"prefixItems": [{"type": "string"}, {"type": "integer"}], "maxItems": 2,
          "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}),
        ({"prefixItems": [{"type": "number"}] * 2, "minItems": 2, "maxItems": 2.0},
         {"prefixItems": [{"type": "number"}] * 2, "minItems": 2, "maxItems": 2, "items": {"type": "number"}}),
        ({"minimum": 3, "exclusiveMinimum": True}, {"exclusiveMinimum": 3}),
        ({"minimum": "3", "maxLength": -1, "pattern": 7, "description": ["d"]}, {}),
        ({"default": None, "const": None, "examples": [None]}, {"default": None, "const": None, "examples": [None]}),
        ({"default": {"$ref": "#/x"}, "examples": [{"a": {"$ref": 5}}]}, {}),
        ({"x-order": 3, "x-from": {"$ref": "#/x"}, "$comment": "c"}, {"x-order": 3}),
    ],
)  # fmt: skip
def test_forms_that_a_provider_refuses_are_mended(part: Any, offered: Any) -> None:
    assert x_of(of(part)) == offered


def test_properties_with_the_names_of_keywords_are_properties() -> None:
    schema = of({"type": "string"}) | {"properties": {"$defs": {"type": "string"}, "type": {"type": "integer"}}}

    assert plain(schema) == schema


@pytest.mark.parametrize("schema", [{}, {"type": None}, {"properties": None, "required": []}, {"type": ["object"]}])
def test_a_tool_without_arguments_is_an_object_without_properties(schema: dict[str, Any]) -> None:
    assert plain(schema) == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": ["null", "array"]},
        {"properties": []},
        {"$ref": "#/$defs/A", "$defs": {"A": {"type": "integer"}}},
    ],
)
def test_what_is_not_the_schema_of_an_object_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(NotAnObject):
        plain(schema)


def test_what_stands_at_the_top_is_one_list_of_properties() -> None:
    page = {"type": "object", "properties": {"page": {"type": "integer"}}, "required": ["page"]}
    text = {"type": "object", "properties": {"page": {"type": "string"}, "q": {}}, "required": ["page", "q"]}
    schema = {"allOf": [{"$ref": "#/$defs/Page"}], "anyOf": [page, text], "properties": {"x": {}}, "required": ["x"]}
    argued = {"$ref": "#/$defs/Page", "$defs": {"Page": page}}

    assert plain({**schema, "additionalProperties": False, "$defs": {"Page": page}}) == {
        "type": "object",
        "properties": {"x": {}, "page": {"anyOf": [{"type": "integer"}, {"type": "string"}]}, "q": {}},
        "required": ["x", "page"],
    }
    assert plain(argued) == page
    assert plain({"not": {"required": ["x"]}, "enum": [{}], "description": "d"}) == {
        "type": "object",
        "properties": {},
        "description": "d",
    }


@pytest.mark.parametrize("key", ["properties", "items", "anyOf"])
def test_what_is_nested_too_deeply_may_be_anything(key: str) -> None:
    deep: Any = {"type": "string"}
    for _ in range(2 * MAX_DEPTH):
        deep = {key: {"x": deep} if key == "properties" else [deep, {"type": "null"}] if key == "anyOf" else deep}

    assert json.dumps(plain(of(deep))).count(f'"{key}"') <= MAX_DEPTH + 1


def test_definitions_that_multiply_at_the_top_are_followed_as_far_as_that_is_quick() -> None:
    names = [f"a{number}" for number in range(40)]
    mutual = {
        name: {"properties": {name: {"type": "string"}}, "anyOf": [{"$ref": f"#/$defs/{each}"} for each in names]}
        for name in names
    }

    made = plain({"anyOf": [{"$ref": "#/$defs/a0"}], "required": ["a0"], "$defs": mutual})

    assert made["properties"]["a0"] == {"type": "string"}
    assert made["required"] == ["a0"]


def test_a_long_chain_of_definitions_is_followed_without_going_deep() -> None:
    chain = {str(at): {"properties": {"next": {"$ref": f"#/$defs/{at + 1}"}}} for at in range(500)}

    assert x_of(of({"$ref": "#/$defs/0"}, **{"$defs": chain}))


@pytest.mark.parametrize(("times", "is_kept"), [(3, False), (20, True)])
def test_the_longer_form_is_taken_only_within_its_room(times: int, is_kept: bool) -> None:
    shared = {"type": "string", "description": "d" * 1000}
    schema = of({}) | {"properties": {str(at): {"$ref": "#/$defs/A"} for at in range(times)}, "$defs": {"A": shared}}

    offered = plain(schema)

    assert len(json.dumps(offered)) <= dialect.GROWTH * len(json.dumps(schema)) + dialect.ROOM_CHARS
    assert ("$defs" in offered) == is_kept
