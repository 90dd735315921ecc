"""What pydantic found, as problems that an operator understands. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import groupby
from typing import Any, get_args, get_origin

from pydantic_core import ErrorDetails

from hermes_actors.config.model import Config, Section
from hermes_actors.config.pasted import is_plain_number, is_plain_word, looks_like_key, wants_secret
from hermes_actors.config.problems import KEEP_KEY, LOOKS_LIKE_KEY, KeyPath, Problem, shown
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
_SHOWN = {  # elsewhere what came may be a secret
    "int_type", "int_from_float", "float_type", "finite_number", "bool_type", "literal_error", "greater_than",
    "greater_than_equal", "less_than_equal",
}  # fmt: skip
_NO_TEXT = {"int_type", "float_type", "bool_type"}
_FOLLOWS = "default_factory_not_called"  # another error of the same section is the cause


def explain(errors: Iterable[ErrorDetails], value: Mapping[str, Any], written: Mapping[KeyPath, str]) -> list[Problem]:
    """One problem for each place in ``value`` that has errors.

    Args:
        errors: what pydantic found.
        value: what it looked at.
        written: the texts that name variables, as the file has them: their values are not repeated.
    """
    placed = [(_path(error, value), error) for error in errors if error["type"] != _FOLLOWS]
    groups = groupby(placed, key=lambda pair: (pair[0], _about_key(pair[1])))
    return [_problem(path, [error for _, error in group], value, written) for (path, _), group in groups]


def wanting_no_text(errors: Iterable[ErrorDetails], value: Mapping[str, Any]) -> set[KeyPath]:
    """The places in ``value`` where a number or a truth is wanted."""
    return {_path(error, value) for error in errors if error["type"] in _NO_TEXT}


def _known_keys(path: KeyPath) -> list[str]:
    """The keys that the section at a path may have."""
    return list(_section(path).model_fields)


def nearest_key(name: str, path: KeyPath) -> str | None:
    """The key that was probably meant by an unknown one in the section at a path."""
    return next(iter(get_close_matches(name.lower().replace("-", "_"), _known_keys(path), n=1)), None)


def _problem(
    path: KeyPath, errors: list[ErrorDetails], value: Mapping[str, Any], written: Mapping[KeyPath, str]
) -> Problem:
    first = errors[0]
    if first["type"] == "extra_forbidden":
        return _unknown(path)
    if first["type"] == "missing":
        return Problem(what="this key is required", path=path)
    expected = " or ".join(dict.fromkeys(_expected(error) for error in errors))
    if first["type"] == "model_type" and path[:-1] == ("api_server", "keys"):
        return Problem(what="expected key_env below it, which names a variable", remedy=KEEP_KEY, path=path)
    came = f", got what {shown(written[path])} stands for" if path in written else _came(value, path, errors)
    return Problem(what=f"expected {expected}{came}", remedy=_remedy(errors), path=path)


def _unknown(path: KeyPath) -> Problem:
    name, section = str(path[-1]), path[:-1]
    if looks_like_key(name):
        return Problem(what=f"unknown key; {LOOKS_LIKE_KEY}", remedy=KEEP_KEY, path=path)
    if wants_secret(name):
        what = "a secret does not stand in this file, only the name of its variable"
        return Problem(what=what, remedy=_secret_belongs(section), path=path)
    nearest = nearest_key(name, section)
    hint = f"did you mean {nearest}?" if nearest else f"known here: {', '.join(_known_keys(section))}"
    return Problem(what="unknown key", remedy=hint, path=path)


def _secret_belongs(section: KeyPath) -> str:
    """Where the secret goes that was written into a section by a key that the section does not have."""
    if section[:1] == ("mcp_servers",):
        return "put it into .env as NAME=…, and write ${NAME} into headers (of a url) or env (of a command)"
    place = "key_env: NAME" if "key_env" in _known_keys(section) else "key_env: NAME below model or api_server"
    return f"put it into .env of the home as NAME=key, and write {place}"


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
    shows = any(error["type"] in _SHOWN for error in errors)
    match _at(value, path):
        case None:
            return ", got nothing"
        case bool() as truth:
            return f", got {str(truth).lower()}"
        case int() | float() as number:
            return f", got {number}" if shows and is_plain_number(number) else ", got a number"
        case str() as text if shows:
            return f", got the text '{shown(text)}'" if is_plain_word(text) else ", got other text"
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
