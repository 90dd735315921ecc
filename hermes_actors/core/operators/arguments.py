"""The arguments of operators' requests, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class BadArgument(Exception):
    """An operator's request has an argument that cannot be used."""


def text(arguments: Mapping[str, Any], name: str) -> str:
    """A text that is not empty."""
    value = arguments.get(name)
    if not isinstance(value, str) or not value:
        raise BadArgument(f"{name}: a text is wanted")
    return value


def seconds(arguments: Mapping[str, Any], name: str, most: float) -> float | None:
    """From none to so many seconds; None where nothing is said."""
    value = arguments.get(name)
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not 0 <= value <= most:
        raise BadArgument(f"{name}: seconds from 0 to {most:g} are wanted")
    return float(value)
