"""The keywords of one JSON schema, mended: forms that some providers refuse become such that all take. Pure.

A provider refuses the whole request for one of them. llama.cpp knows no boolean schema, no empty ``enum`` and no
unknown type (common/json-schema-to-grammar.cpp, 2026); OpenAI no array without ``items``, in some places no ``oneOf``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from workers.tools.references import KEYWORDS as REFERENCES
from workers.tools.references import NAMES

Schema: TypeAlias = dict[str, Any]
Part: TypeAlias = Callable[[object], Schema | None]  # makes a schema inside; None: nothing fits it

MAX_VALUES = 10_000  # of a default or an example that are looked at

TYPES: Final = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})
_OTHER_NAMES: Final = {
    **dict.fromkeys(("str", "text", "date", "datetime", "date-time", "uuid", "uri", "url"), "string"),
    **dict.fromkeys(("int", "int32", "int64", "long"), "integer"),
    **dict.fromkeys(("float", "double", "decimal"), "number"),
    "bool": "boolean",
    **dict.fromkeys(("dict", "map", "struct"), "object"),
    **dict.fromkeys(("list", "tuple", "set"), "array"),
    **dict.fromkeys(("none", "nil"), "null"),
}
_LEFT_OUT: Final = frozenset({*REFERENCES, *NAMES, "$schema", "$comment", "$vocabulary", "$recursiveAnchor"}) | {
    "$defs",
    "definitions",
    "discriminator",  # of OpenAPI: leads to definitions that are no more
}
_TEXTS: Final = frozenset({"title", "description", "format", "pattern", "contentEncoding", "contentMediaType"})
_COUNTS: Final = frozenset(
    {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minContains", "maxContains"}
)
_BOUNDS: Final = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_OPEN: Final = frozenset({"additionalProperties", "unevaluatedProperties", "unevaluatedItems"})  # booleans are usual
_CONDITIONS: Final = frozenset({"not", "if", "then", "else", "contains", "propertyNames", "contentSchema"})
_MAPS: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "dependencies"})
_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf"})
_DATA: Final = frozenset({"default", "example", "examples"})  # told for clearness alone
_ANNOTATIONS: Final = frozenset({"title", "description", "deprecated", "readOnly", "writeOnly"}) | _DATA

ANY_ITEM: Final[Schema] = {"description": "any value"}  # llama.cpp takes {} for an object alone


def mended(schema: Mapping[str, Any], part: Part) -> Schema:
    """The keywords of a schema without those that refer to others; :func:`completed` has to follow.

    Args:
        schema: an object of JSON.
        part: makes each schema inside.
    """
    made: Schema = {}
    for key, value in schema.items():
        if key not in _LEFT_OUT and (value is not None or key in ("const", *_DATA)):
            made |= _keyword(key, value, part)
    _array(made, schema, part)
    _bounds(made, schema)
    if needed := _required(schema):
        made["required"] = needed
    else:
        made.pop("required", None)
    return _alternatives(made)


def completed(made: Schema) -> Schema:
    """A mended schema whose arrays say what their items are."""
    kind = made.get("type")
    if "items" in made or not (
        "prefixItems" in made or kind == "array" or (isinstance(kind, list) and "array" in kind)
    ):
        return made
    first = made.get("prefixItems", [])
    is_closed = bool(first) and made.get("maxItems", math.inf) <= len(first)
    forms = [form for at, form in enumerate(first) if form not in first[:at]]
    items = (forms[0] if len(forms) == 1 else {"anyOf": forms}) if is_closed else ANY_ITEM
    return {**made, "items": items}


def both(one: Schema, other: Schema) -> Schema:
    """What fits both schemas; the other's title, description and the like count."""
    if not _clash(one, other):
        return one | other
    said = {key: value for key, value in other.items() if key in _ANNOTATIONS}
    return {
        **said,
        "allOf": [completed(one), completed({key: value for key, value in other.items() if key not in said})],
    }


def type_of(value: object) -> str | list[str] | None:
    """A type, or several, by their usual names; None where one of them is not known: then anything may fit."""
    given = value if isinstance(value, list) else [value]
    names: list[str] = []
    for each in given:
        name = each.lower() if isinstance(each, str) else ""
        name = _OTHER_NAMES.get(name, name)
        if name not in TYPES:
            return None
        if name not in names:
            names.append(name)
    if isinstance(value, list) and len(names) != 1:
        return names or None
    return names[0]


def _keyword(key: str, value: Any, part: Part) -> Schema:
    """A keyword by itself, or nothing where it says nothing."""
    if key in _OPEN:
        inside = value if isinstance(value, bool) else part(value)
        return {key: False if inside is None else (inside or True)}
    if key in _CONDITIONS:
        inside = part(value)
        return {key: inside} if inside or (inside is not None and key in ("if", "contains")) else {}
    if key in _MAPS:
        return _map(key, value, part)
    if key in _LISTS:
        found = [inside for each in _listed(value) if (inside := part(each)) is not None]
        return {key: found} if found else {}
    known = _plain_value(key, value)
    return {} if known is None else {key: known[0]}


def _plain_value(key: str, value: Any) -> tuple[Any] | None:
    """The value of a keyword that holds no schema; None where it is not of the kind that belongs there."""
    if key == "type":
        kind = type_of(value)
        return None if kind is None else (kind,)
    if key == "enum":
        values = _different(value) if isinstance(value, list) else []
        return (values,) if values else None
    if key in _TEXTS:
        return (value,) if isinstance(value, str) else None
    if key in _COUNTS:
        is_count = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 and value == value // 1
        return (int(value),) if is_count else None
    if key in _BOUNDS:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return (value,) if is_number else None
    if key in ("items", "prefixItems", "additionalItems", "required"):
        return None  # they are made together with others
    if key == "const":
        return (value,)
    return None if _refers(value) else (value,)


def _map(key: str, value: Any, part: Part) -> Schema:
    if not isinstance(value, Mapping):
        return {}
    made: Schema = {}
    for name, each in value.items():
        if isinstance(each, list) and key == "dependencies":
            made[name] = [text for text in each if isinstance(text, str)]
        elif (inside := part(each)) is not None:
            made[name] = inside
    return {key: made} if made or key == "properties" else {}


def _array(made: Schema, schema: Mapping[str, Any], part: Part) -> None:
    """The first items one by one (``prefixItems``; before 2020 ``items`` was that too), and those after them."""
    items, after = schema.get("prefixItems"), schema.get("items")
    if isinstance(after, list):
        items, after = after, schema.get("additionalItems")
    first = [part(each) or {} for each in items] if isinstance(items, list) else []
    if first:
        made["prefixItems"] = first
    if after is None:
        return
    rest = part(after)
    if rest is None:  # no more than these
        made["maxItems"] = min(made.get("maxItems", len(first)), len(first))
    elif rest or after is True or isinstance(after, Mapping):
        made["items"] = rest


def _alternatives(made: Schema) -> Schema:
    """One alternative is none, and of several it does not matter whether more than one fits."""
    every = made.pop("allOf", [])
    every += [only for key in ("anyOf", "oneOf") if len(made.get(key, ())) == 1 for only in made.pop(key)]
    if len(every) == 1 and not _clash(every[0], made):
        made = every[0] | made
    elif every:
        made["allOf"] = every
    if "oneOf" in made and "anyOf" not in made:
        made["anyOf"] = made.pop("oneOf")
    return made


def _clash(one: Schema, other: Schema) -> bool:
    """Whether they say different things in the same keyword."""
    return any(key in one and key not in _ANNOTATIONS and one[key] != value for key, value in other.items())


def _bounds(made: Schema, schema: Mapping[str, Any]) -> None:
    """A bound that is excluded was a number and ``true`` beside it before 2016."""
    for excluded, included in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if schema.get(excluded) is True and included in made:
            made[excluded] = made.pop(included)


def _required(schema: Mapping[str, Any]) -> list[str]:
    """The names of the properties that must be there; before 2013 each said it of itself."""
    named, properties = schema.get("required"), schema.get("properties")
    inside: Mapping[str, Any] = properties if isinstance(properties, Mapping) else {}
    needed = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    needed += [name for name, each in inside.items() if isinstance(each, Mapping) and each.get("required") is True]
    return [name for name in dict.fromkeys(needed) if inside.get(name) is not False]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if isinstance(value, Mapping) else []


def _different(values: Iterable[Any]) -> list[Any]:
    """The values, each once; ``1`` and ``true`` are two."""
    return list({repr(value): value for value in values}.values())


def _refers(value: Any) -> bool:
    """Whether data looks as if it held a reference, which llama.cpp follows wherever it stands."""
    waiting = [value]
    for each in waiting:
        if isinstance(each, Mapping):
            if "$ref" in each:
                return True
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
        if len(waiting) > MAX_VALUES:
            return True
    return False
