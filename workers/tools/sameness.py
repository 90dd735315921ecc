"""Whether the texts of a tool's result say what its structured content says: pure.

The specification asks servers to put structured content into a text too, and they do so in many forms: the value as
JSON, its string as it is, a text for each item of a list, a value in an object with a single key (``result``,
``content``) because structured content was an object by the specification of 2025. What is said twice costs a model
its tokens twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import orjson

MAX_EXACT_CHARS = 1024 * 1024  # of a text whose integers of more than 64 bits are read exactly, which is slower


def says(texts: Sequence[str], structured: Any) -> bool:
    """Whether the texts say all that the structured content does.

    Args:
        texts: each text of the result, in order.
        structured: any JSON value.
    """
    meant = list(_meant(structured))
    values = [_read(text) for text in texts]
    try:
        return any(_same(said, value) for said, value in product(_said(texts, values), meant)) or any(
            _is_listed(texts, values, value) for value in meant
        )
    except RecursionError:
        return False


def says_nothing(texts: Sequence[str], structured: Any) -> bool:
    """Whether a tool returned nothing, which servers tell as null, alone or under one key."""
    wrapped = isinstance(structured, dict) and list(structured.values()) == [None]
    empty = ("", "null", "None") if wrapped else ("", "null")
    return (wrapped or structured is None) and all(text.strip() in empty for text in texts)


def _said(texts: Sequence[str], values: Sequence[Any]) -> Iterator[Any]:
    """What the texts may mean: each as it stands and as JSON, and all of them as one text."""
    for text, value in zip(texts, values, strict=True):
        yield text.strip()
        yield value
    if texts:
        yield "\n".join(texts).strip()
        yield "".join(texts).strip()


def _is_listed(texts: Sequence[str], values: Sequence[Any], meant: Any) -> bool:
    """Whether each text is an item of a list, as it stands or as JSON: a list may hold texts beside other values."""
    if not texts or not isinstance(meant, list) or len(meant) != len(texts):
        return False
    return all(
        (isinstance(item, str) and item in (text, text.strip())) or _same(value, item)
        for text, value, item in zip(texts, values, meant, strict=True)
    )


def _meant(structured: Any) -> Iterator[Any]:
    """The structured content, and what stands in it under a single key; a string also as the JSON it may hold."""
    wrapped = isinstance(structured, dict) and len(structured) == 1
    for value in (structured, *structured.values()) if wrapped else (structured,):
        yield value
        if isinstance(value, str):
            yield value.strip()
            yield _read(value)
        else:
            yield str(value)  # as Python writes it, like "True"


def _read(text: str) -> Any:
    """A text as the JSON value that it is, or as it stands."""
    try:
        if len(text) > MAX_EXACT_CHARS:
            return orjson.loads(text)
        return json.loads(text, parse_constant=lambda _: None)  # NaN is null in what servers structure
    except (ValueError, RecursionError):
        return text


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON: unlike in Python, true is no 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)
