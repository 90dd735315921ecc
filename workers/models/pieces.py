"""Fields that a provider attaches to a message or a tool call, put together from their pieces, purely.

Signatures, reasoning and its details, annotations: some providers refuse the next request without them. They may come
in pieces: texts are joined, lists are merged by the ``index`` of their entries, of all else the last one counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from workers.json_depth import is_too_deep

MAX_FIELD_BYTES = 256 * 1024  # of one field, as JSON

_TEXTS = frozenset({"text", "summary", "thinking", "content"})  # come in pieces, in the entries of a list
_SEALED = frozenset({"data", "signature"})  # likewise; but what comes twice is the same


class Fields:
    """Collects fields as they come."""

    __slots__ = ("_pieces", "_sizes")

    def __init__(self) -> None:
        self._pieces: dict[str, list[Any] | None] = {}  # None: too large
        self._sizes: dict[str, int] = {}

    def add(self, name: str, value: Any) -> None:
        """A field of a chunk; null says nothing."""
        if value is None:
            return
        pieces = self._pieces.setdefault(name, [])
        if pieces is None:
            return
        pieces.append(value)
        size = self._sizes.get(name, 0) + _size(value)
        if size > 2 * MAX_FIELD_BYTES:  # so far with all that a later piece has replaced
            whole = joined(pieces)
            pieces[:] = [whole]
            size = _size(whole)
            if size > MAX_FIELD_BYTES:
                self._pieces[name] = None
        self._sizes[name] = size

    def replace(self, name: str, value: Any) -> None:
        """A field of a whole message, of which pieces may have come before."""
        if value is not None:
            self._pieces.pop(name, None)
            self._sizes.pop(name, None)
            self.add(name, value)

    def fields(self) -> tuple[dict[str, Any], list[str]]:
        """By name, what came of it, and the names of what is too large; a field is kept or dropped whole."""
        if not self._pieces:
            return {}, []
        fields = {name: joined(pieces) for name, pieces in self._pieces.items() if pieces is not None}
        dropped = [name for name in self._pieces if name not in fields or _size(fields[name]) > MAX_FIELD_BYTES]
        return {name: value for name, value in fields.items() if name not in dropped}, dropped


def joined(pieces: Sequence[Any]) -> Any:
    """The value of a field that came in these pieces, in order."""
    if len(pieces) == 1:
        return pieces[0]
    if all(isinstance(piece, str) for piece in pieces):
        return _text(pieces)
    if all(isinstance(piece, list) for piece in pieces):
        return _entries([entry for piece in pieces for entry in piece])
    if all(isinstance(piece, dict) for piece in pieces):
        return _merged(pieces)
    return pieces[-1]


def _text(pieces: Sequence[str]) -> str:
    """One that is repeated whole counts once."""
    text = "".join(pieces[:-1])
    return text if len(pieces) > 2 and text == pieces[-1] else text + pieces[-1]


def _entries(entries: Sequence[Any]) -> list[Any]:
    """Entries of the same index and type are pieces of one; without an index, texts that follow one another are."""
    places: dict[object, int] = {}
    groups: list[list[Any]] = []
    for entry in entries:
        place = _place(entry)
        index = isinstance(entry, dict) and entry.get("index") is not None
        if place is not None and place in places and (index or places[place] == len(groups) - 1):
            groups[places[place]].append(entry)
        elif not any(entry == group[0] for group in groups if len(group) == 1):
            places[place] = len(groups)
            groups.append([entry])
    return [group[0] if len(group) == 1 else _merged(group, in_pieces=True) for group in groups]


def _place(entry: Any) -> object:
    if not isinstance(entry, dict):
        return None
    index, kind = entry.get("index"), entry.get("type")
    if isinstance(index, int):
        return index, str(kind)
    return str(kind) if isinstance(kind, str) and _TEXTS & entry.keys() else None


def _merged(objects: Sequence[dict[str, Any]], *, in_pieces: bool = False) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    pieces: dict[str, list[Any]] = {}
    for one in objects:
        for name, value in one.items():
            merged.setdefault(name, None)
            if value is not None:
                pieces.setdefault(name, []).append(value)
    for name, values in pieces.items():
        texts = all(isinstance(value, str) for value in values)
        if texts and in_pieces and name in _TEXTS:
            merged[name] = "".join(values)
        elif texts and in_pieces and name in _SEALED:
            merged[name] = "".join(dict.fromkeys(values))
        else:
            merged[name] = values[-1] if texts else joined(values)
    return merged


def _size(value: Any) -> int:
    """In bytes as JSON; of what is nested too deeply to be written as JSON again, more than there is room for."""
    if isinstance(value, str):
        return len(value)
    try:
        text = orjson.dumps(value)
    except (TypeError, RecursionError):
        return MAX_FIELD_BYTES + 1
    return MAX_FIELD_BYTES + 1 if is_too_deep(text, value) else len(text)
