"""What makes a class an operation: a request that names the class of its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, dataclass_transform, get_args

R = TypeVar("R")
T = TypeVar("T")


class Operation(Generic[R]):
    """A request; ``R`` is what it is answered with. Subclasses are made by :func:`operation`."""

    __slots__ = ()

    name: ClassVar[str]  # as it travels
    result: ClassVar[type[Any]]  # R


@dataclass_transform(frozen_default=True, kw_only_default=True)
def operation(name: str) -> Callable[[type[T]], type[T]]:
    """Make a subclass of ``Operation[R]`` a frozen dataclass that travels under ``name``."""

    def register(cls: type[T]) -> type[T]:
        made = dataclass(frozen=True, slots=True, kw_only=True)(cls)
        (base,) = made.__orig_bases__  # type: ignore[attr-defined]  # Operation[R]
        made.name, (made.result,) = name, get_args(base)  # type: ignore[attr-defined]  # it is an Operation
        return made

    return register
