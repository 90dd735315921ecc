"""The judge of definitions sees what it is there for."""

from __future__ import annotations

from typing import Any

import pytest
from real_tools.definitions import faults

UNUSED: dict[str, Any] = {"$defs": {"Point": {}}}


def offered(name: str = "plain", /, **schema: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", **schema}}}


def test_sound_definitions_have_no_faults() -> None:
    point = {"type": "object", "properties": {"x": {"type": "integer"}}}
    schema: dict[str, Any] = {"properties": {"at": {"$ref": "#/$defs/Point"}}, "$defs": {"Point": point}}
    sound = offered(**schema)

    assert faults([sound, offered("other")]) == []


@pytest.mark.parametrize(
    ("tools", "fault"),
    [
        ([offered("a name")], "name 'a name'"),
        ([offered(), offered()], "plain is there 2 times"),
        ([offered(type="array")], "plain: its schema is not that of an object"),
        ([offered(properties=None)], "plain: its properties are none"),
        ([offered(properties={"more": True})], "plain: #/properties/more is true"),
        (
            [offered(properties={"at": {"$ref": "#/$defs/Point"}})],
            "plain: #/properties/at refers to #/$defs/Point, which is not there",
        ),
        ([offered("plain", **UNUSED)], "plain: nothing refers to #/$defs/Point"),
        ([offered(properties={"l": {"anyOf": [{"items": True}]}})], "plain: #/properties/l/anyOf/0/items is true"),
    ],
)
def test_a_fault_is_told_with_its_tool_and_its_place(tools: list[dict[str, Any]], fault: str) -> None:
    assert faults(tools) == [fault]
