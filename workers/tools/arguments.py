"""The arguments of a call, as its tool's schema wants them: pure.

Small models write numbers, truth values, lists and objects as texts, and the Python SDK takes them so on purpose. So a
text that stands where the schema wants another type, and that reads as one, becomes that. Of what is wrong then, only
what no server could make up for is refused here: a property that is missing, or one that the schema forbids. All else
is for the server to judge: schemas are wrong at times, and servers more lenient than what they declare.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator

from workers.tools.schema import errors

MAX_PROBLEMS = 3  # of one call's arguments, told to the model
MAX_PROBLEM_CHARS = 500  # jsonschema repeats the offending value
MAX_LOOKED_AT = 1_000  # errors in one round
MAX_ROUNDS = 8  # a list that was a text may hold texts

_REFUSED = frozenset({"required", "additionalProperties", "dependentRequired"})
_INTEGER = re.compile(r"[+-]?\d{1,400}(\.0{1,20})?")
_WORDS: Mapping[str, Mapping[str, bool | None]] = {
    "boolean": {"true": True, "false": False},
    "null": {"null": None, "none": None},
}
_STRUCTURED: Mapping[str, type | tuple[type, ...]] = {"number": (int, float), "array": list, "object": dict}


def fitted(check: Validator, arguments: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The arguments with their texts converted, and what is wrong with them still, for the model.

    Args:
        check: of the tool's schema; one that fails, or takes too long, changes and refuses nothing.
        arguments: of the call; changed in place.
    """
    try:
        found = errors(check, arguments, at_most=MAX_LOOKED_AT)
        for _ in range(MAX_ROUNDS):
            if not sum(_convert(arguments, error) for error in found):
                break
            found = errors(check, arguments, at_most=MAX_LOOKED_AT)
    except Exception:  # noqa: BLE001  # there is no end to what jsonschema raises for what is no schema
        return arguments, None
    return arguments, problems(error for error in found if error.validator in _REFUSED)


def problems(found: Iterable[ValidationError]) -> str | None:
    """The first errors in words, each with its place; None for none."""
    words = [f"{error.json_path}: {error.message}"[:MAX_PROBLEM_CHARS] for error in found]
    return "; ".join([*words[:MAX_PROBLEMS], *(["and more"] if len(words) > MAX_PROBLEMS else [])]) or None


def _convert(arguments: dict[str, Any], error: ValidationError) -> bool:
    """Replace a text that is of the wrong type; whether there was one that reads as another."""
    path = list(error.absolute_path)
    if not path or not isinstance(error.instance, str):
        return False
    for kind in _wanted(error):
        value = read(error.instance, kind)
        if value is not error.instance:
            holder: Any = arguments
            for step in path[:-1]:
                holder = holder[step]
            holder[path[-1]] = value
            return True
    return False


def _wanted(error: ValidationError) -> Iterator[str]:
    """The types that would do in place of the text, also as one of several forms."""
    if error.validator == "type":
        kinds = error.validator_value
        listed = kinds if isinstance(kinds, list) else [kinds]
        yield from (kind for kind in listed if isinstance(kind, str))
    for inner in error.context or ():
        if not inner.relative_path:
            yield from _wanted(inner)


def read(text: str, kind: str) -> Any:
    """A text as a value of a JSON type, or itself where it does not read as one."""
    bare = text.strip()
    if kind in _WORDS:
        return _WORDS[kind].get(bare.lower(), text)
    if kind == "integer":
        return int(bare.partition(".")[0]) if _INTEGER.fullmatch(bare) else text
    wanted = _STRUCTURED.get(kind)
    if wanted is None:
        return text
    try:
        value = json.loads(bare, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, wanted) and not isinstance(value, bool) else text


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
