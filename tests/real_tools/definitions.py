"""Whether definitions of tools are such that every provider takes them; pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # OpenAI's rule
LONGEST_DESCRIPTION = 1_024  # characters, at OpenAI and Azure
MOST_TOOLS = 128  # at OpenAI and Azure
DEFINITIONS = ("$defs", "definitions")
OF_SCHEMAS = ("properties", "patternProperties", *DEFINITIONS)  # keywords whose values are schemas by name


def faults(tools: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a provider may refuse in a request's tools, in words; empty: nothing."""
    functions = [tool["function"] for tool in tools]
    found = [f"name {name!r}" for name in (function["name"] for function in functions) if not NAME.fullmatch(name)]
    counted = Counter(function["name"] for function in functions)
    found += [f"{name} is there {times} times" for name, times in counted.items() if times > 1]
    for function in functions:
        found += [f"{function['name']}: {fault}" for fault in _of_schema(function.get("parameters"))]
        if not isinstance(function.get("description", ""), str):
            found.append(f"{function['name']}: its description is no text")
    return found


def _of_schema(schema: Any) -> Iterator[str]:
    if not isinstance(schema, Mapping) or schema.get("type") != "object":
        yield "its schema is not that of an object"
        return
    if not isinstance(schema.get("properties", {}), Mapping):
        yield "its properties are none"
        return
    referred = set()
    for path, part in _schemas(schema, "#"):
        if part is True:
            yield f"{path} is true"
        if isinstance(part, Mapping) and isinstance(reference := part.get("$ref"), str):
            referred.add(reference)
            if _resolved(schema, reference) is None:
                yield f"{path} refers to {reference}, which is not there"
    for keyword in DEFINITIONS:
        for name in schema.get(keyword) or ():
            if f"#/{keyword}/{name}" not in referred:
                yield f"nothing refers to #/{keyword}/{name}"


def _schemas(part: Any, path: str) -> Iterator[tuple[str, Any]]:
    """All schemas inside one, itself too, with their paths."""
    yield path, part
    if not isinstance(part, Mapping):
        return
    for keyword, value in part.items():
        if keyword in OF_SCHEMAS and isinstance(value, Mapping):
            for name, inner in value.items():
                yield from _schemas(inner, f"{path}/{keyword}/{name}")
        elif keyword == "items":
            yield from _schemas(value, f"{path}/{keyword}")
        elif keyword in ("anyOf", "oneOf", "allOf", "prefixItems") and isinstance(value, list):
            for number, inner in enumerate(value):
                yield from _schemas(inner, f"{path}/{keyword}/{number}")


def _resolved(schema: Any, reference: str) -> Any:
    """What a local reference names; None: nothing, or it is not local."""
    if not reference.startswith("#/"):
        return None
    for step in reference[2:].split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        schema = schema.get(key) if isinstance(schema, Mapping) else None
    return schema


def long_descriptions(tools: Sequence[Mapping[str, Any]]) -> list[int]:
    """The numbers of the tools whose description OpenAI refuses."""
    return [n for n, tool in enumerate(tools) if len(tool["function"].get("description") or "") > LONGEST_DESCRIPTION]
