"""How many tokens an answer cost, wherever a server says so and whatever it calls them: pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_TOKENS = 10**12  # told of one answer; more is a mistake, and their sums fit into 64 bits

_NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt_tokens": ("prompt_tokens", "input_tokens", "promptTokens", "inputTokens", "promptTokenCount"),
    "completion_tokens": (
        "completion_tokens", "output_tokens", "completionTokens", "outputTokens", "candidatesTokenCount",
    ),
    "total_tokens": ("total_tokens", "totalTokens", "totalTokenCount"),
}  # fmt: skip


def counted(usage: Any, before: Mapping[str, int]) -> Mapping[str, int]:
    """What is known now: ``prompt_tokens``, ``completion_tokens``, ``total_tokens``, those that were stated.

    Later figures stand for earlier ones, since some servers tell them in each chunk; a zero takes nothing back.

    Args:
        usage: as the server tells it.
        before: what was known before.
    """
    if not isinstance(usage, dict):
        return before
    if not before and (plain := _plain(usage)) is not None:
        return plain
    told = {name: count for name, names in _NAMES.items() if (count := _first(usage, names)) is not None}
    told = {name: count or before.get(name, 0) for name, count in told.items()}
    if not told:
        return before
    known = {**before, **told}
    parts = known.get("prompt_tokens", 0) + known.get("completion_tokens", 0)
    if "total_tokens" not in told:
        known["total_tokens"] = parts
    return known


def _plain(usage: Mapping[str, Any]) -> Mapping[str, int] | None:
    """The figures of most servers, which tell all three, once, as the API has them; the hot path of a turn."""
    told: dict[str, int] = {}
    for name in _NAMES:
        count = usage.get(name)
        if type(count) is not int or not 0 < count <= MAX_TOKENS:
            return None
        told[name] = count
    return told


def _first(usage: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((count for name in names if (count := _count(usage.get(name))) is not None), None)


def _count(value: Any) -> int | None:
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None  # a bool is an int too
