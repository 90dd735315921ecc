"""The check of a call's arguments against its tool's JSON schema, before the server is asked.

It never refuses what the schema allows, and never takes long, since the event loop of the worker waits for it. A
regular expression of a schema may take exponential time, and to compare all items with each other quadratic time. So
such keywords are left to the server, which checks everything anyway, and with them what would refuse more where a part
of the schema lets more pass. The rest is done in steps, and they are counted: references and alternatives multiply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import cache
from itertools import islice
from typing import Any

import attrs
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend, validator_for
from referencing import Registry
from referencing.jsonschema import specification_with

ANYTHING: Validator = Draft202012Validator({})  # lets everything pass
MAX_STEPS = 10_000  # of one check of arguments: a fraction of a second
MAX_SCHEMA_STEPS = 50_000  # of the check of a schema itself, once for each tool
STEP_ENTRIES = 16  # of a list or an object that one keyword looks at
STEP_CHARS = 64  # of an error, which quotes values

_UNCHECKED = frozenset(
    {"pattern", "patternProperties", "not", "disallow", "if", "contains", "unevaluatedProperties", "unevaluatedItems"}
    | {"uniqueItems"}
)
_NOTHING_REMOTE: Registry[Any] = Registry()  # a $ref resolves inside its schema, or not at all

_Keyword = Callable[[Validator, Any, Any, Mapping[str, Any]], Iterable[ValidationError] | None]
_steps_left: ContextVar[list[int]] = ContextVar("_steps_left")  # of the check that goes on


class TooManySteps(Exception):
    """A check takes too long."""


def validator(schema: dict[str, Any]) -> Validator:
    """The check of a schema, for :func:`errors`.

    Raises:
        Exception: of any type, here or when it checks: the schema is malformed, or too large.
    """
    dialect = validator_for(schema, default=Draft202012Validator)
    lenient = _lenient(dialect)  # for the schema too: a pattern that Python does not read may be one elsewhere
    for error in errors(lenient(dialect.META_SCHEMA), schema, at_most=1, max_steps=MAX_SCHEMA_STEPS):
        raise error
    specification = specification_with(dialect.ID_OF(dialect.META_SCHEMA))  # type: ignore[attr-defined]  # not in the protocol
    root = specification.create_resource(schema)
    # What a $ref may name is found here, once.
    return lenient(schema, registry=_NOTHING_REMOTE.with_resource(root.id() or "", root).crawl())


def errors(check: Validator, value: Any, *, at_most: int, max_steps: int = MAX_STEPS) -> list[ValidationError]:
    """The first errors of a value.

    Raises:
        TooManySteps: they are not found soon enough.
        Exception: of any type: the schema is malformed.
    """
    token = _steps_left.set([max_steps])
    try:
        return list(islice(check.iter_errors(value), at_most))
    finally:
        _steps_left.reset(token)


def _step(number: int) -> None:
    left = _steps_left.get()
    left[0] -= number
    if left[0] < 0:
        raise TooManySteps


@cache
def _lenient(dialect: type[Validator]) -> type[Validator]:
    """A dialect without the keywords that are left to the server, in steps that are counted."""
    known: Mapping[str, _Keyword] = dialect.VALIDATORS
    own: dict[str, _Keyword] = {**dict.fromkeys(_UNCHECKED, _pass), "additionalProperties": _additional_properties}
    own |= {name: _of_one_value(known[name]) for name in ("enum", "const") if name in known}
    own |= {"oneOf": known["anyOf"]} if "anyOf" in known else {}
    counted = {name: _counted(own.get(name, check)) for name, check in known.items()}
    lenient: type[Validator] = extend(dialect, counted)  # type: ignore[no-untyped-call]  # the stubs lack its types
    # Its own goes back to the whole dialect where a part of the schema names that.
    lenient.evolve = attrs.evolve  # type: ignore[method-assign, assignment]
    lenient.descend = _counted_descent(lenient.descend)  # type: ignore[attr-defined]  # not in the protocol
    return lenient


def _counted_descent(descend: Callable[..., Iterable[ValidationError]]) -> Callable[..., Iterable[ValidationError]]:
    def counted(*args: Any, **options: Any) -> Iterable[ValidationError]:
        _step(1)
        return descend(*args, **options)

    return counted


def _counted(check: _Keyword) -> _Keyword:
    def counted(
        checking: Validator, wanted: Any, instance: Any, schema: Mapping[str, Any]
    ) -> Iterator[ValidationError]:
        entries = sum(len(each) for each in (wanted, instance) if isinstance(each, list | dict))
        _step(1 + entries // STEP_ENTRIES)
        for error in check(checking, wanted, instance, schema) or ():
            _step(len(error.message) // STEP_CHARS)
            yield error

    return counted


def _of_one_value(check: _Keyword) -> _Keyword:
    """Lists and objects are not compared: each might take as many steps as it has parts."""

    def checked(
        checking: Validator, wanted: Any, instance: Any, schema: Mapping[str, Any]
    ) -> Iterable[ValidationError] | None:
        return () if isinstance(instance, list | dict) else check(checking, wanted, instance, schema)

    return checked


def _pass(*_: Any) -> Iterable[ValidationError]:
    return ()


def _additional_properties(
    checking: Validator, allowed: Any, instance: Any, schema: Mapping[str, Any]
) -> Iterable[ValidationError]:
    """Which properties are additional is decided by patterns, where there are some."""
    if "patternProperties" in schema:
        return ()
    errors: Iterable[ValidationError] = Draft202012Validator.VALIDATORS["additionalProperties"](
        checking, allowed, instance, schema
    )
    return errors
