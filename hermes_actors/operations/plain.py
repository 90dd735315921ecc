"""Typed data to what JSON and msgpack carry, and back with every value checked.

A dataclass or a named tuple is a dict of its fields; a field whose default is None is left out where it is None. Keys
that a class does not have are ignored, so that the two ends may be of neighbouring releases.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

_KINDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


class Misfit(Exception):
    """A value is not of the type that is wanted: where, and what is wanted."""


class Bounds(NamedTuple):
    """The least and the most that a number, or the length of a text, may be; for :data:`typing.Annotated`."""

    least: float
    most: float
    words: str

    def __str__(self) -> str:
        return self.words.format(least=self.least, most=self.most)


class Field(NamedTuple):
    """A field of a class that is a dict where it is plain."""

    name: str
    type: Any
    is_required: bool
    default: Any = MISSING


def fields_of(cls: Any) -> tuple[Field, ...]:
    """The fields of a dataclass or a named tuple, in order."""
    return _fields_of(cls)


@cache
def _fields_of(cls: Any) -> tuple[Field, ...]:
    hints = get_type_hints(cls, include_extras=True)
    if is_dataclass(cls):
        return tuple(
            Field(one.name, hints[one.name], one.default is one.default_factory is MISSING, one.default)
            for one in fields(cls)
        )
    return tuple(Field(name, hints[name], name not in cls._field_defaults) for name in cls._fields)


def parts(record: Any) -> dict[str, Any]:
    """The fields of a record by name, for a larger record that has them too."""
    return {one.name: getattr(record, one.name) for one in fields_of(type(record))}


def to_plain(value: Any) -> Any:
    """Dicts, lists, texts and numbers with the same content."""
    if _is_record(type(value)):
        known = ((one, getattr(value, one.name)) for one in fields_of(type(value)))
        return {one.name: to_plain(held) for one, held in known if held is not None or one.default is not None}
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Mapping):
        return {key: to_plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(held) for held in value]
    return value


def from_plain(wanted: type[T], plain: Any, where: str = "") -> T:
    """The value of a type that :func:`to_plain` made ``plain`` from.

    Raises:
        Misfit: it is none; ``where`` stands before the names of its fields.
    """
    return cast("T", _read(wanted, plain, where))


def _read(wanted: Any, plain: Any, where: str) -> Any:
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return None if plain is None else _read(arguments[0], plain, where)
    if origin is Annotated:
        return _bounded(_read(arguments[0], plain, where), arguments[1], where)
    if origin is Literal:
        return _one_of(arguments, plain, where)
    if origin is tuple:
        return tuple(_read(arguments[0], row, f"{where}[{at}]") for at, row in enumerate(_checked(list, plain, where)))
    if origin is dict:
        return {key: _read(arguments[1], held, f"{where}.{key}") for key, held in _checked(dict, plain, where).items()}
    if _is_record(wanted):
        return _record(wanted, _checked(dict, plain, where), where)
    if issubclass(wanted, StrEnum):
        return wanted(_one_of(tuple(one.value for one in wanted), plain, where))
    return _checked(wanted, plain, where)


def _record(wanted: type[Any], plain: dict[str, Any], where: str) -> Any:
    read: dict[str, Any] = {}
    for one in fields_of(wanted):
        place = f"{where}.{one.name}" if where else one.name
        if one.name in plain:
            read[one.name] = _read(one.type, plain[one.name], place)
        elif one.is_required:
            raise Misfit(f"{place} is missing")
    return wanted(**read)


def _bounded(value: Any, bounds: Bounds, where: str) -> Any:
    measured = len(value) if isinstance(value, str) else value
    if not bounds.least <= measured <= bounds.most:  # not a number is not within them
        raise Misfit(f"{where} must be {bounds}")
    return value


def _one_of(choices: tuple[Any, ...], plain: Any, where: str) -> Any:
    if plain not in choices:
        raise Misfit(f"{where} must be one of {', '.join(choices)}")
    return plain


def _checked(kind: type[T], plain: Any, where: str) -> T:
    """``plain`` as it is. A whole number is a number too; a truth value is none."""
    kinds: Any = (int, float) if kind is float else kind
    if not isinstance(plain, kinds) or (isinstance(plain, bool) and kind is not bool):
        raise Misfit(f"{where or 'it'} must be {_KINDS[kind]}")
    return cast("T", plain)


def _is_record(kind: Any) -> bool:
    return is_dataclass(kind) or (isinstance(kind, type) and hasattr(kind, "_fields"))
