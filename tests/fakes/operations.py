"""Requests and results of operators as plain data, which tests can write down in part."""

from __future__ import annotations

import types
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from hermes_actors.operations.plain import fields_of, from_plain
from hermes_actors.operations.requests import REQUESTS

T = TypeVar("T")

_EMPTY: dict[Any, Any] = {str: "", int: 0, float: 0.0, bool: False, tuple: [], dict: {}}


def made(wanted: type[T], known: Mapping[str, Any]) -> T:
    """A result of which a test says only a part; the rest is empty."""
    return from_plain(wanted, filled(wanted, known))


def filled_result(operation: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """The result of an operation of which a test says only a part."""
    plain: dict[str, Any] = filled(REQUESTS[operation].result, known)
    return plain


def filled(wanted: Any, known: Any = None) -> Any:
    """Plain data of a type, with what is known of it."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return None if known is None else filled(arguments[0], known)
    if origin is Annotated:
        return filled(arguments[0], known)
    if origin is tuple and known:
        return [filled(arguments[0], row) for row in known]
    if origin in (tuple, dict):
        return _EMPTY[origin] if known is None else known
    if origin is Literal:
        return arguments[0] if known is None else known
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return next(iter(wanted)).value if known is None else known
    if wanted in _EMPTY:
        return _EMPTY[wanted] if known is None else known
    known = known or {}
    rest = (one for one in fields_of(wanted) if one.is_required or one.name in known)
    return {**known, **{one.name: filled(one.type, known.get(one.name)) for one in rest}}
