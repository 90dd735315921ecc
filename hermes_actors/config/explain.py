"""What pydantic found, as problems that an operator understands. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import groupby
from typing import Any, get_args, get_origin

from pydantic_core import ErrorDetails

from hermes_actors.config.model import Config, Section
from hermes_actors.config.problems import KeyPath, Problem, shown
from hermes_actors.config.rules import Unfit

_EXPECTED = {
    "model_type": "keys with values below it",
    "dict_type": "names with entries below it",
    "mapping_type": "names with entries below it",
    "tuple_type": "a list",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "literal_error": "{expected}",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than_equal": "at most {le}",
}
_SHOWS_TEXT = {"int_type", "float_type", "bool_type", "literal_error"}  # elsewhere the text may be a secret
_FOLLOWS = "default_factory_not_called"  # another error of the same section is the cause


def explain(errors: Iterable[ErrorDetails], value: Mapping[str, Any]) -> list[Problem]:
    """One problem for each place in ``value`` that has errors."""
    placed = [(_path(error, value), error) for error in errors if error["type"] != _FOLLOWS]
    groups = groupby(placed, key=lambda pair: (pair[0], _about_key(pair[1])))
    return [_problem(path, [error for _, error in group], value) for (path, _), group in groups]


def _known_keys(path: KeyPath) -> list[str]:
    """The keys that the section at a path may have."""
    return list(_section(path).model_fields)


def nearest_key(name: str, path: KeyPath) -> str | None:
    """The key that was probably meant by an unknown one in the section at a path."""
    return next(iter(get_close_matches(name.lower().replace("-", "_"), _known_keys(path), n=1)), None)


def _problem(path: KeyPath, errors: list[ErrorDetails], value: Mapping[str, Any]) -> Problem:
    first = errors[0]
    if first["type"] == "extra_forbidden":
        return _unknown(path)
    if first["type"] == "missing":
        return Problem(what="this key is required", path=path)
    expected = " or ".join(dict.fromkeys(_expected(error) for error in errors))
    came = _came(value, path, errors)
    return Problem(what=f"expected {expected}{came}", remedy=_remedy(errors), path=path)


def _unknown(path: KeyPath) -> Problem:
    name, section = str(path[-1]), path[:-1]
    nearest = nearest_key(name, section)
    hint = f"did you mean {nearest}?" if nearest else f"known here: {', '.join(_known_keys(section))}"
    return Problem(what="unknown key", remedy=hint, path=path)


def _expected(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    if error["type"] == "value_error":
        return str(context["error"])
    pattern = _EXPECTED.get(error["type"])
    return pattern.format(**context) if pattern else f"something else ({error['msg']})"


def _remedy(errors: list[ErrorDetails]) -> str:
    for error in errors:
        cause = error.get("ctx", {}).get("error")
        if isinstance(cause, Unfit) and cause.remedy:
            return cause.remedy
        if error["type"] == "string_type" and isinstance(error["input"], (bool, int, float)):
            return "put the value in quotes"
    return ""


def _came(value: Mapping[str, Any], path: KeyPath, errors: list[ErrorDetails]) -> str:
    """What stood there instead, as ``, got …``; text only where it cannot be a secret."""
    if _about_key(errors[0]):
        return ""
    match _at(value, path):
        case None:
            return ", got nothing"
        case bool() as truth:
            return f", got {str(truth).lower()}"
        case int() | float() as number:
            secret = any(error["type"] == "string_type" for error in errors)
            return ", got a number" if secret else f", got {number}"
        case str() as text if any(error["type"] in _SHOWS_TEXT for error in errors):
            return f", got the text '{shown(text)}'"
        case list():
            return ", got a list"
        case _:
            return ""


def _about_key(error: ErrorDetails) -> bool:
    """Whether a name is wrong, not what stands under it."""
    return error["loc"][-1:] == ("[key]",)


def _path(error: ErrorDetails, value: Mapping[str, Any]) -> KeyPath:
    """Where in the file an error is: pydantic's place without the names of union members and the like."""
    loc = error["loc"]
    depth = next((n for n in range(len(loc), 0, -1) if _exists(value, loc[:n])), 0)
    return loc if error["type"] == "missing" else loc[:depth]


def _exists(value: Any, path: KeyPath) -> bool:
    try:
        _at(value, path)
    except LookupError:
        return False
    return True


def _at(value: Any, path: KeyPath) -> Any:
    """The plain data at a path.

    Raises:
        LookupError: nothing is there.
    """
    for part in path:
        match value, part:
            case (dict(), _) | (list(), int()):
                value = value[part]
            case _:
                raise LookupError(part)
    return value


def _section(path: KeyPath) -> type[Section]:
    """The type of the section at a path; a container's names and indexes lead to its entries' type."""
    section: type[Section] = Config
    parts = iter(path)
    for part in parts:
        annotation = section.model_fields[str(part)].annotation
        if get_origin(annotation) in {tuple, Mapping}:
            next(parts, None)
        section = next(t for t in (annotation, *get_args(annotation)) if isinstance(t, type) and issubclass(t, Section))
    return section
