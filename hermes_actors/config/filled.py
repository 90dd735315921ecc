"""The values of variables in the texts of a configuration, before their types are checked. Pure.

Every text may hold ``${NAME}``. Those of MCP servers that go to a program or a URL (:data:`LATER`) stay as they are
written, since they carry the servers' secrets: the worker that connects fills them in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hermes_actors.config.document import parse
from hermes_actors.config.problems import KeyPath, Problem, unset_variable
from hermes_actors.config.variables import BadReference, UnsetVariable, interpolate, variables_in

LATER = frozenset({"command", "args", "cwd", "env", "url", "headers"})  # keys of an MCP server
NAMES = "key_env"  # holds the name of a variable, which is never filled in
MAY_BE_SECRET = frozenset({"base_url"})  # a part of its path may be a token


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A configuration in which variables have become values."""

    value: Mapping[str, Any]
    written: Mapping[KeyPath, str]  # the texts that named variables, as they stand in the file
    secrets: Mapping[str, str]  # the variables that may hold one, with their values
    problems: tuple[Problem, ...] = ()  # a text with one stands as it was written


def fill(value: Mapping[str, Any], variables: Mapping[str, str]) -> Filled:
    """Fill in every text of a parsed file that is not of :data:`LATER` or :data:`NAMES`."""
    written: dict[KeyPath, str] = {}
    secrets: dict[str, str] = {}
    problems = []
    for path, text in _texts(value, ()):
        if "${" not in text or path[-1] == NAMES or (path[0] == "mcp_servers" and LATER & set(path[2:3])):
            continue
        try:
            filled = interpolate(text, variables)
        except UnsetVariable as unset:
            problems.append(unset_variable(unset.name, path, "is not set"))
        except BadReference as error:
            problems.append(Problem(what=f"expected {error}", path=path))
        else:
            written[path] = text
            if path[-1] in MAY_BE_SECRET:
                secrets |= {name: variables[name] for name in variables_in(text)}
            value = _replaced(value, path, filled)
    return Filled(value=value, written=written, secrets=secrets, problems=tuple(problems))


def retyped(value: dict[str, Any], places: Collection[KeyPath]) -> dict[str, Any]:
    """The data with the texts at these places read as they would be in the file: ``port: ${PORT}`` is a number."""
    for path in places:
        value = _replaced(value, path, _scalar(_at(value, path)))
    return value


def _scalar(text: str) -> Any:
    found = parse(f"value: {text}").value.get("value") if "\n" not in text else None
    return found if isinstance(found, bool | int | float) else text


def _at(value: Any, path: KeyPath) -> Any:
    for part in path:
        value = value[part]
    return value


def _replaced(value: Any, path: KeyPath, by: Any) -> Any:
    """A copy of plain data with another value at a path that it has."""
    if not path:
        return by
    copy: Any = list(value) if isinstance(value, list) else dict(value)
    copy[path[0]] = _replaced(value[path[0]], path[1:], by)
    return copy


def _texts(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list | Mapping):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, below in items:
            yield from _texts(below, (*path, key))
