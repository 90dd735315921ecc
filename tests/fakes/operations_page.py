"""``docs/reference/operations.md``, drawn from the types of operations and their results."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Iterator
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hermes_actors.operations.plain import Field, fields_of
from hermes_actors.operations.requests import REQUESTS
from hermes_actors.wire.refusals import RefusalCode

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "operations.md"

_NAMES: dict[Any, str] = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def drawn(text: str) -> str:
    """The page, with its three parts as the types say."""
    for name, part in (("operations", _operations()), ("results", _results()), ("refusals", _refusals())):
        before, rest = text.split(f"<!-- {name} -->\n")
        after = rest.split(f"<!-- end of {name} -->\n")[1]
        text = f"{before}<!-- {name} -->\n\n{part.strip()}\n\n<!-- end of {name} -->\n{after}"
    return text


def _operations() -> str:
    """A section for each request: what it does, its arguments, its result."""
    return "\n\n".join(
        f"### {name}\n\n{_doc(kind)}{_table(kind, 'argument')}\n\nResult: {_link(kind.result)}."
        for name, kind in REQUESTS.items()
    )


def _results() -> str:
    """A section for each class that a result is made of, in the order in which a reader meets them."""
    return "\n\n".join(_section(kind) for kind in _kinds())


def _kinds() -> list[type[Any]]:
    found: list[type[Any]] = []

    def meet(kind: Any) -> None:
        for inner in get_args(kind):
            meet(inner)
        if isinstance(kind, type) and (is_dataclass(kind) or hasattr(kind, "_fields")) and kind not in found:
            found.append(kind)
            for one in fields_of(kind):
                meet(one.type)

    for request in REQUESTS.values():
        meet(request.result)
    return found


def _section(kind: type[Any]) -> str:
    return f"### {kind.__name__}\n\n{_doc(kind)}{_table(kind, 'field')}"


def _table(kind: type[Any], name: str) -> str:
    if not fields_of(kind):
        return ""
    rows = (f"| `{one.name}` | {_type(one)} | {_comments(kind).get(one.name, '')} |" for one in fields_of(kind))
    return "\n".join(("", "", f"| {name} | type | meaning |", "|---|---|---|", *rows))


def _type(one: Field) -> str:
    """A field's type; what may be left out, and what that stands for."""
    if one.is_required:
        return _words(one.type)
    if one.default is None:
        return f"{_words(get_args(one.type)[0])}, or absent"
    return _words(one.type) if one.default == () else f"{_words(one.type)}; absent: `{one.default}`"


def _refusals() -> str:
    rows = ["| code | HTTP status | send it again after |", "|---|---|---|"]
    for code in RefusalCode:
        again = "" if code.retry_after_s is None else f"{code.retry_after_s:g} s"
        rows.append(f"| `{code}` | {code.http_status} | {again} |")
    return "\n".join(rows)


def _words(kind: Any) -> str:
    """A type in words of JSON."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return f"{_words(arguments[0])}, or null"
    if origin is Annotated:
        return str(arguments[1]).removeprefix("a ")
    if origin is tuple:
        inner = _words(arguments[0])
        return f"list of {inner}{'s' if arguments[0] in _NAMES else ''}"
    if origin is dict:
        return f"object of {_words(arguments[1])}s"
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in arguments)
    if kind in _NAMES:
        return _NAMES[kind]
    if issubclass(kind, Enum):
        return ", ".join(f"`{one.value}`" for one in kind)
    return _link(kind)


def _link(kind: type[Any]) -> str:
    return f"[{kind.__name__}](#{kind.__name__.lower()})"


def _doc(kind: type[Any]) -> str:
    return " ".join((kind.__doc__ or "").split())


def _comments(kind: type[Any]) -> dict[str, str]:
    """The comment of each field, those of the classes that it extends among them."""
    return {name: words for base in reversed(kind.__mro__) for name, words in _own_comments(base)}


def _own_comments(kind: type[Any]) -> Iterator[tuple[str, str]]:
    if not kind.__module__.startswith("hermes_actors.operations"):
        return
    lines = inspect.getsource(kind).splitlines()
    (found,) = ast.parse("\n".join(lines)).body
    assert isinstance(found, ast.ClassDef)
    for line in found.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            _, _, words = lines[(line.end_lineno or line.lineno) - 1].partition("  # ")
            if words:
                yield line.target.id, words.replace("``", "`").replace("None:", "null:")
