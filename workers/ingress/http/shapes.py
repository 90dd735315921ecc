"""What a route takes and gives, as JSON Schema: declared beside its handler, and read by ``/openapi.json``.

A schema comes from what the code has anyway: from objects that a builder makes, from a typed dictionary, or from the
table by which a parser checks the fields of a body.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Any, NotRequired, TypeAlias, Union, get_args, get_origin, get_type_hints, is_typeddict

from hermes_actors.wire.refusals import RefusalCode
from workers.models.cause import TREATMENTS

Schema: TypeAlias = dict[str, Any]

JSON = "application/json"
EVENTS = "text/event-stream"
TEXT: Schema = {"type": "string"}
ANY: Schema = {}

OF_A_THING = frozenset(
    code.http_status for code in (RefusalCode.SESSION_NOT_FOUND, RefusalCode.SHARD_UNAVAILABLE, RefusalCode.TOO_LARGE)
)
OF_A_TURN = OF_A_THING | frozenset(
    [
        *(treatment.http_status for treatment in TREATMENTS.values()),
        RefusalCode.IDEMPOTENCY_CONFLICT.http_status,
        RefusalCode.MAILBOX_FULL.http_status,
    ]
)

_KINDS: Mapping[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    NoneType: "null",
}
_BY_WORDS: Mapping[str, Schema] = {  # the words with which a parser says what a field must be
    "a string": TEXT,
    "a number": {"type": "number"},
    "an integer": {"type": "integer"},
    "a positive integer": {"type": "integer", "minimum": 1},
    "true or false": {"type": "boolean"},
    "an object": {"type": "object"},
    "a string or an array of strings": {"anyOf": [TEXT, {"type": "array", "items": TEXT}]},
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # one is the shape of one route
class Shape:
    """What a route takes and gives, beyond what all routes do."""

    answers: Mapping[int, Mapping[str, Schema]]  # by status: by media type what the answer is
    body: Schema | None = None
    body_needed: bool = True
    query: Mapping[str, Schema] = field(default_factory=dict)
    headers: tuple[str, ...] = ()  # of a request
    errors: frozenset[int] = frozenset()  # statuses


def gives(schema: Schema, status: int = 200) -> Mapping[int, Mapping[str, Schema]]:
    """The answers of a route that gives JSON."""
    return {status: {JSON: schema}}


def schema_of(*examples: Any) -> Schema:
    """The schema of what a builder makes.

    Args:
        examples: of it; a field that some of them lack need not be there, and one that is always null may be anything.
    """
    kinds = {_KINDS[type(example)] for example in examples}
    if kinds == {"null"}:
        return ANY
    kinds -= {"integer"} if "number" in kinds else set()
    schema: Schema = {"type": sorted(kinds) if len(kinds) > 1 else kinds.pop()}
    objects = [example for example in examples if isinstance(example, dict)]
    if objects:
        names = dict.fromkeys(name for example in objects for name in example)
        fields = {name: schema_of(*(example[name] for example in objects if name in example)) for name in names}
        needed = [name for name in names if all(name in example for example in objects)]
        schema |= record(needed, **fields)
    items = [item for example in examples if isinstance(example, list) for item in example]
    return schema | {"items": schema_of(*items)} if items else schema


def schema_of_type(kind: Any) -> Schema:
    """The schema of a typed dictionary, or of a type that a field of one has."""
    if is_typeddict(kind):
        hints = get_type_hints(kind, include_extras=True)
        needed = [name for name, hint in hints.items() if get_origin(hint) is not NotRequired]
        return record(needed, **{name: schema_of_type(hint) for name, hint in hints.items()})
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return {"anyOf": [schema_of_type(argument) for argument in arguments]}
    if origin is NotRequired:
        return schema_of_type(arguments[0])
    if origin is list:
        return {"type": "array", "items": schema_of_type(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of_type(arguments[1])}
    return {"type": _KINDS[kind]} if kind in _KINDS else ANY


def record(needed: Iterable[str] = (), /, **fields: Schema) -> Schema:
    """An object with these fields, and maybe others."""
    required = list(needed)
    return {"type": "object", "properties": fields} | ({"required": required} if required else {})


def page_of(item: Schema) -> Schema:
    """A page of a list, as :func:`workers.ingress.http.replies.listing` gives it."""
    cursor: Schema = {"type": ["string", "integer", "null"]}
    fields = {"object": TEXT, "data": {"type": "array", "items": item}, "has_more": {"type": "boolean"}, "next": cursor}
    return record(fields, **fields)


def fields_of(table: Mapping[str, tuple[Any, str]]) -> dict[str, Schema]:
    """The fields of a body by the table that checks them: what each must be, in words; null stands for none."""
    return {name: _field(what) for name, (_, what) in table.items()}


def _field(what: str) -> Schema:
    if not what:
        return ANY
    known = _BY_WORDS.get(what)
    said: Schema = {"description": f"Must be {what}."}
    return said if known is None else said | {"anyOf": [known, {"type": "null"}]}
