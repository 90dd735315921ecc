"""A tool's input schema in the plainest JSON Schema that keeps its meaning: pure.

Providers refuse the whole request for a form that they do not know in one tool, and each knows other forms. llama.cpp
takes no reference but ``#/…`` to a place that exists (common/json-schema-to-grammar.cpp, 2026); OpenAI no ``anyOf``,
``oneOf``, ``allOf``, ``enum`` and ``not`` at the top, Anthropic none of the first three there. What is taken away only
makes the offer wider than the tool: the check of a call's arguments uses the schema as its server gave it
(:mod:`workers.tools.schema`).
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from workers.tools.keywords import Schema, both, completed, mended, type_of
from workers.tools.references import KEYWORDS, References

MAX_DEPTH = 48  # of schemas inside schemas; what is deeper may be anything
MAX_TOPS = 500  # schemas that one is combined of at the top, all the ways to each; the others may be anything
MAX_PARTS = 5_000  # schemas in one whose references are replaced by what they mean
GROWTH = 2  # replacing them may make the text so much longer, and…
ROOM_CHARS = 4_096  # …by so much: a longer text costs its tokens in each request, so the references stay then

_COMBINED: Final = ("allOf", "anyOf", "oneOf")
_NOT_AT_THE_TOP: Final = ("enum", "const", "not", "$ref", *_COMBINED)
_NOT_IN_A_NAME: Final = re.compile(r"[^a-zA-Z0-9_.-]")


class NotAnObject(ValueError):
    """The schema is not that of an object, as the arguments of a call are."""


class _SchemaTooLarge(Exception):
    """The schema without references is too large."""


def plain(schema: Mapping[str, Any]) -> Schema:
    """The input schema of a tool as models get it: that of an object with properties.

    References to places inside the schema are replaced by what is there; a recursion ends with the type of what would
    recur. Where that makes the schema much longer they stay, and lead to ``$defs`` that hold what is referred to and
    nothing else. Making it twice changes nothing.

    Args:
        schema: JSON as the server lists it; nothing of it is changed.

    Raises:
        NotAnObject: it is not the schema of an object.
    """
    references = References(schema)
    short = _Making(references, inline=False).whole(schema)
    if "$defs" not in short:
        return short
    try:
        long = _Making(references, inline=True).whole(schema)
    except _SchemaTooLarge:
        return short
    return long if _length(long) <= GROWTH * _length(short) + ROOM_CHARS else short


class _Making:
    """One way through a schema.

    Args:
        references: of the schema.
        inline: replace references by what they mean; else they stay.
    """

    def __init__(self, references: References, *, inline: bool) -> None:
        self._references = references
        self._inline = inline
        self._depth = 0
        self._parts = 0
        self._tops = 0
        self._led_by: list[str] = []  # references that are being replaced
        self._names: dict[str, str] = {}  # of definitions, by where references lead
        self._undefined: deque[tuple[str, Mapping[str, Any]]] = deque()

    def whole(self, schema: Mapping[str, Any]) -> Schema:
        """The schema of a tool's arguments."""
        top = self._top(schema)
        kind = top.pop("type", "object")
        if "object" not in (kind if isinstance(kind, list) else [kind]):
            raise NotAnObject(f"its input schema is that of {kind}, not of an object")
        if not isinstance(schema.get("properties", {}), Mapping | None):
            raise NotAnObject("the properties in its input schema are no object")
        made: Schema = {"type": "object", "properties": {}, **top}
        definitions: Schema = {}
        while self._undefined:
            name, defined = self._undefined.popleft()
            definitions[name] = self._part(defined) or {}
        return {**made, "$defs": definitions} if definitions else made

    def _top(self, schema: Mapping[str, Any]) -> Schema:
        """The schema at the top, or one of those that it is combined of, as one list of properties."""
        self._tops += 1
        if self._tops > MAX_TOPS:
            return {}
        self._depth += 1
        own = self._part({key: value for key, value in schema.items() if key not in (*KEYWORDS, *_COMBINED)}) or {}
        every: list[Schema] = []
        for key in _COMBINED:
            branches = schema.get(key)
            given = branches if isinstance(branches, list) else [branches]
            found = [self._top(each) for each in given if isinstance(each, Mapping)] if self._depth < MAX_DEPTH else []
            every += found if key == "allOf" else [_one_of(found)] if found else []
        for key in KEYWORDS:
            place, target = self._references.target(schema.get(key)) or ("", None)
            if isinstance(target, Mapping) and place not in self._led_by:
                self._led_by.append(place)
                every.append(self._top(target))
                self._led_by.pop()
        self._depth -= 1
        return _all_of(own, every)

    def _part(self, schema: object) -> Schema | None:
        """A schema inside; None where nothing fits it, and ``{}`` where it is no schema at all."""
        if schema is False:
            return None
        if not isinstance(schema, Mapping) or self._depth >= MAX_DEPTH:
            return {}
        self._parts += 1
        if self._inline and self._parts > MAX_PARTS:
            raise _SchemaTooLarge
        self._depth += 1
        try:
            made = mended(schema, self._part)
            for key in KEYWORDS:
                if key in schema:
                    meant = self._meant(schema[key])
                    if meant is None:
                        return None
                    made = both(meant, made)
            return completed(made)
        finally:
            self._depth -= 1

    def _meant(self, reference: object) -> Schema | None:
        """What a reference means: what is there, or a reference to its definition."""
        place, target = self._references.target(reference) or ("", True)
        if not isinstance(target, Mapping):
            return {} if target else None
        if not self._inline:
            return {"$ref": f"#/$defs/{self._defined(place, target)}"}
        if place in self._led_by:
            return _type_alone(target)
        self._led_by.append(place)
        try:
            return self._part(target)
        finally:
            self._led_by.pop()

    def _defined(self, place: str, target: Mapping[str, Any]) -> str:
        """The name of the definition of what is at a place; it is made later."""
        if place not in self._names:
            last = _NOT_IN_A_NAME.sub("_", place.rpartition("/")[2]) or "part"
            taken = set(self._names.values())
            number = next(number for number in range(1, len(taken) + 2) if _numbered(last, number) not in taken)
            self._names[place] = _numbered(last, number)
            self._undefined.append((self._names[place], target))
        return self._names[place]


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}_{number}"


def _type_alone(schema: Mapping[str, Any]) -> Schema:
    """What is known of a schema that would recur."""
    kind = type_of(schema.get("type")) or ("object" if "properties" in schema else None)
    return {} if kind is None else completed({"type": kind})


def _all_of(own: Schema, others: Sequence[Schema]) -> Schema:
    """One list of properties for a schema at the top and those that hold beside it."""
    every = [own, *others]
    made: Schema = {key: value for each in reversed(every) for key, value in each.items() if key not in _NOT_AT_THE_TOP}
    if not others:
        return made
    made.pop("additionalProperties", None)  # what one of them does not name, another may
    return (
        made | _properties(every) | _needed(dict.fromkeys(name for each in every for name in each.get("required", ())))
    )


def _one_of(branches: Sequence[Schema]) -> Schema:
    """One list of properties for schemas at the top of which one holds: all may be there, none but the common must."""
    first, *rest = branches
    common = [name for name in first.get("required", ()) if all(name in each.get("required", ()) for each in rest)]
    kinds = [each["type"] for each in branches if "type" in each]
    kind = {"type": "object" if any("object" in each for each in kinds) else kinds[0]} if kinds else {}
    return kind | _properties(branches) | _needed(common)


def _properties(schemas: Iterable[Schema]) -> Schema:
    """All properties of some schemas; one that they describe differently may be each of that."""
    forms: dict[str, list[Schema]] = {}
    for schema in schemas:
        for name, form in schema.get("properties", {}).items():
            known = forms.setdefault(name, [])
            known += [each for each in (form["anyOf"] if form.keys() == {"anyOf"} else [form]) if each not in known]
    if not forms:
        return {}
    return {"properties": {name: each[0] if len(each) == 1 else {"anyOf": each} for name, each in forms.items()}}


def _needed(names: Iterable[str]) -> Schema:
    needed = list(names)
    return {"required": needed} if needed else {}


def _length(schema: Schema) -> int:
    return len(json.dumps(schema, ensure_ascii=False, separators=(",", ":")))
