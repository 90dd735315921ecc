"""The check of a call's arguments against its tool's JSON schema, before the server is asked.

It never refuses what the schema allows, and never takes long: a regular expression of a schema may take exponential
time, on the event loop of the worker. So patterns are left to the server, which checks everything anyway, and with them
what would refuse more where a part of the schema lets more pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import attrs
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend, validator_for
from referencing import Registry

ANYTHING: Validator = Draft202012Validator({})  # lets everything pass

_UNCHECKED = frozenset(
    {"pattern", "patternProperties", "not", "disallow", "if", "contains", "unevaluatedProperties", "unevaluatedItems"}
)
_NOTHING_REMOTE: Registry[Any] = Registry()  # a $ref resolves inside its schema, or not at all


def validator(schema: dict[str, Any]) -> Validator:
    """The check of a schema.

    Raises:
        Exception: of any type, here or when it checks: the schema is malformed.
    """
    dialect = validator_for(schema, default=Draft202012Validator)
    dialect(dialect.META_SCHEMA).validate(
        schema
    )  # formats aside: a pattern that Python does not read may be one elsewhere
    return _lenient(dialect)(schema, registry=_NOTHING_REMOTE)


@cache
def _lenient(dialect: type[Validator]) -> type[Validator]:
    """A dialect without the keywords that are left to the server."""
    known = dialect.VALIDATORS
    changed = dict.fromkeys(_UNCHECKED & known.keys(), _pass)
    if "additionalProperties" in known:
        changed["additionalProperties"] = _additional_properties
    if "oneOf" in known:
        changed["oneOf"] = known["anyOf"]
    lenient: type[Validator] = extend(dialect, changed)  # type: ignore[no-untyped-call]  # the stubs lack its types
    # Its own goes back to the whole dialect where a part of the schema names that.
    lenient.evolve = attrs.evolve  # type: ignore[method-assign, assignment]
    return lenient


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
