"""Typed messages to bytes and back: ``[tag, field, field, …]`` in msgpack.

A message is a frozen dataclass registered with :func:`message`. Its fields hold only what msgpack carries
(``None``, ``bool``, ``int``, ``float``, ``str``, ``bytes``, lists, dicts with ``str`` or ``int`` keys);
times travel as float seconds. Both ends run the same release, so a field list is an array, not a map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform

import msgpack

T = TypeVar("T")


class ProtocolError(Exception):
    """The other end sent bytes that are no message of this release."""


_classes: dict[str, tuple[type[Any], int]] = {}
_tags: dict[type[Any], tuple[str, Callable[[Any], tuple[Any, ...]]]] = {}


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """``attrgetter`` gives a bare value for one name and fails on none; a message wants a tuple always."""
    if not names:
        return lambda _: ()
    if len(names) == 1:
        one = attrgetter(names[0])
        return lambda instance: (one(instance),)
    return attrgetter(*names)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def message(tag: str) -> Callable[[type[T]], type[T]]:
    """Make a class a frozen, slotted dataclass that travels under ``tag``.

    People name its fields (type checkers hold them to it); :func:`from_parts`, on the hot path, need not.

    Raises:
        ValueError: the tag is taken.
    """

    def register(cls: type[T]) -> type[T]:
        made = dataclass(frozen=True, slots=True)(cls)
        if tag in _classes:
            raise ValueError(f"message tag {tag!r} is taken by {_classes[tag][0].__name__}")
        names = tuple(field.name for field in fields(made))  # type: ignore[arg-type]  # it is a dataclass now
        _classes[tag] = (made, len(names))
        _tags[made] = (tag, _getter(names))
        return made

    return register


def to_parts(instance: Any) -> list[Any]:
    """A message as the list that travels; for messages inside messages."""
    tag, values = _tags[type(instance)]
    return [tag, *values(instance)]


def from_parts(parts: Any) -> Any:
    """The message that :func:`to_parts` made the list from.

    Raises:
        ProtocolError: no such tag, or not its fields.
    """
    if not isinstance(parts, list) or not parts or not isinstance(parts[0], str):
        raise ProtocolError("a message is a list that begins with its tag")
    known = _classes.get(parts[0])
    if known is None:
        raise ProtocolError(f"unknown message tag {parts[0]!r}")
    cls, arity = known
    if len(parts) != arity + 1:
        raise ProtocolError(f"{cls.__name__} has {arity} fields, got {len(parts) - 1}")
    return cls(*parts[1:])


def encode(instance: Any) -> bytes:
    """One message as the body of one frame."""
    packed: bytes = msgpack.packb(to_parts(instance))
    return packed


def decode(body: bytes | memoryview) -> Any:
    """The message in the body of one frame.

    Raises:
        ProtocolError: the bytes are no message of this release.
    """
    try:
        parts = msgpack.unpackb(body, strict_map_key=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise ProtocolError(f"frame is not msgpack: {error}") from error
    return from_parts(parts)
