"""The classes that travel between processes, each under its tag. Pure: :mod:`hermes_actors.wire.codec` makes bytes.

A message is a frozen dataclass. Its fields hold only what msgpack carries (``None``, ``bool``, ``int``, ``float``,
``str``, ``bytes``, lists, dicts with ``str`` or ``int`` keys), or other messages; times travel as float seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")

CLASSES: dict[str, tuple[type[Any], int]] = {}  # by tag: the class, and how many fields it has
FIELDS: dict[
    type[Any], tuple[str, Callable[[Any], tuple[Any, ...]]]
] = {}  # by class: its tag, and what reads its fields


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Reads the fields as a tuple. ``attrgetter`` alone gives a bare value for one name, and fails for none."""
    if not names:
        return lambda _: ()
    if len(names) == 1:
        one = attrgetter(names[0])
        return lambda instance: (one(instance),)
    return attrgetter(*names)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def message(tag: str) -> Callable[[type[T]], type[T]]:
    """Make a class a frozen, slotted dataclass that travels under ``tag``.

    People name its fields (type checkers hold them to it); the codec, on the hot path, need not.

    Raises:
        ValueError: the tag is taken.
    """

    def register(cls: type[T]) -> type[T]:
        made = dataclass(frozen=True, slots=True)(cls)
        if tag in CLASSES:
            raise ValueError(f"message tag {tag!r} is taken by {CLASSES[tag][0].__name__}")
        names = tuple(field.name for field in fields(made))  # type: ignore[arg-type]  # it is a dataclass now
        CLASSES[tag] = (made, len(names))
        FIELDS[made] = (tag, _getter(names))
        return made

    return register


@dataclass_transform(frozen_default=True)
def record(tag: str) -> Callable[[type[T]], type[T]]:
    """The same for what travels inside messages; its fields may be given in their order."""
    return message(tag)
