"""Variables in texts of the configuration: ``${VAR}`` and ``${env:VAR}`` name one, ``$${`` is a literal ``${``."""

from __future__ import annotations

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"(?P<escape>\$\$\{)|\$\{(?:(?:env:)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\})?")


class BadReference(ValueError):
    """A ``${`` that begins no reference; ``str()`` completes "expected …"."""


class UnsetVariable(LookupError):
    """A text names a variable that is not set."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the variable {name} is not set")
        self.name = name


def interpolate(text: str, environment: Mapping[str, str]) -> str:
    """The text with the values of its variables. Values are taken as they are: a ``${`` in one means nothing.

    Raises:
        UnsetVariable: a variable is not in the environment.
        BadReference: see :func:`variables_in`.
    """

    def value(match: re.Match[str]) -> str:
        name = _name(match)
        if name is None:
            return "${"
        if name not in environment:
            raise UnsetVariable(name)
        return environment[name]

    return _REFERENCE.sub(value, text)


def variables_in(text: str) -> tuple[str, ...]:
    """The names of the variables in a text, each once, in order.

    Raises:
        BadReference: a ``${`` is neither ``${NAME}`` nor ``${env:NAME}``.
    """
    names = (_name(match) for match in _REFERENCE.finditer(text))
    return tuple(dict.fromkeys(name for name in names if name is not None))


def _name(match: re.Match[str]) -> str | None:
    """The variable that a match of ``_REFERENCE`` names; None where it is an escape."""
    if match["escape"]:
        return None
    name: str | None = match["name"]
    if name is None:
        raise BadReference("${NAME} or ${env:NAME} after a dollar sign; a literal ${ is written $${")
    return name
