"""How deeply JSON from outside may be nested: what goes through it value by value calls itself for each level."""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 64  # of nested arrays and objects


def is_too_deep(text: str | bytes, value: Any) -> bool:
    """Whether a text, which was parsed to this value, is nested deeper than :data:`MAX_DEPTH`."""
    # An opening bracket in a string counts as well: too many only mean that it is worth to look.
    opened = text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")
    return opened > MAX_DEPTH and _is_deeper(value)


def _is_deeper(value: Any) -> bool:
    here = [value]
    for _ in range(MAX_DEPTH):
        here = [
            inner
            for outer in here
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not here:
            return False
    return True
