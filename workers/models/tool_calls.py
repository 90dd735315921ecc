"""From the pieces of tool calls to the calls, purely, in the dialects that servers speak.

A piece has an index, an id, a name and some of the arguments, any of which may be missing, doubled or repeated. Which
call it belongs to is decided as it comes; what its arguments are only at the end, when all pieces of them are there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from secrets import token_hex
from typing import Any

import orjson

from workers.models.error_chunk import Malformed
from workers.models.pieces import Fields
from workers.models.provider import ToolCall

MAX_CALLS = 128  # of tools in one answer
MAX_NAME_CHARS = 256  # of a tool's name
MAX_ID_CHARS = 64 * 1024  # of a call's id: some carry a signature of thousands of characters

_OF_A_CALL = frozenset({"index", "id", "type", "function", "name", "arguments"})
_OF_A_FUNCTION = frozenset({"name", "arguments"})
_PLACEHOLDERS = ("", "{}", "null", '""')  # what stands where the arguments are still to come
_DECODER = json.JSONDecoder()


class _PartialCall:
    __slots__ = ("attached", "call_id", "name", "pieces")

    def __init__(self) -> None:
        self.call_id = ""
        self.name = ""
        self.pieces: list[str] = []  # of the arguments
        self.attached: Fields | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the arguments so far are a JSON object: nothing more is to come."""
        return _object_of("".join(self.pieces)) is not None

    @property
    def is_open(self) -> bool:
        """Whether the arguments so far are the beginning of some."""
        text = "".join(self.pieces)
        return text.strip() not in _PLACEHOLDERS and _object_of(text) is None


class ToolCalls:
    """Takes the pieces of one answer's tool calls in order, then gives the calls.

    Args:
        grow: called with the number of characters that are kept; raises where that is too much.
    """

    __slots__ = ("_at_index", "_calls", "_grow", "_with_id", "dropped")

    def __init__(self, grow: Callable[[int], None]) -> None:
        self._grow = grow
        self._calls: list[_PartialCall] = []
        self._at_index: dict[int, _PartialCall] = {}
        self._with_id: dict[str, _PartialCall] = {}  # the first with each id
        self.dropped: list[str] = []  # names of attached fields that are too large

    def __bool__(self) -> bool:
        return bool(self._calls)

    def take(self, pieces: Any) -> None:
        """Pieces that came in one chunk of a stream.

        Raises:
            Malformed: they are no tool calls, or too many or too large ones.
        """
        touched: list[_PartialCall] = []
        for piece in _listed(pieces):
            call_id, name, arguments = _head(piece)
            if not (call_id or name or arguments or piece.keys() - _OF_A_CALL):
                continue
            call = self._call_of(_index(piece.get("index")), call_id, name, arguments, touched)
            self._fill(call, call_id, name)
            if arguments:
                call.pieces.append(arguments)
                self._grow(len(arguments))
            self._attach(call, piece)
            touched.append(call)

    def take_whole(self, calls: Any) -> None:
        """Calls of a whole message; where pieces of them came before, the message is right.

        Raises:
            Malformed: they are no tool calls, or too many or too large ones.
        """
        before = list(self._calls)
        for at, entry in enumerate(_listed(calls)):
            call_id, name, arguments = _head(entry)
            if not (call_id or name or arguments):
                continue
            call = self._streamed(before, at, call_id, name, arguments) or self._new(None)
            self._fill(call, call_id, name)
            if arguments.strip() not in _PLACEHOLDERS or not call.pieces:
                call.pieces[:] = [arguments]
                self._grow(len(arguments))
            call.attached = None if entry.keys() - _OF_A_CALL else call.attached
            self._attach(call, entry)

    def calls(self) -> list[ToolCall]:
        """The calls: one that came twice once, one that holds nothing not at all.

        Raises:
            Malformed: a call with arguments has no name.
        """
        kept: list[tuple[_PartialCall, str]] = []
        for call in self._calls:
            arguments = joined_arguments(call.pieces)
            if call.name:
                if not any(_is_same(call, arguments, other, its) for other, its in kept):
                    kept.append((call, arguments))
            elif kept and (joined := _continued(kept[-1][0], call)):  # one call under two indexes
                kept[-1] = (kept[-1][0], joined)
            elif arguments != "{}" or (call.call_id and not kept):
                raise Malformed("a tool call has no name")
        taken: set[str] = set()
        made = []
        for call, arguments in kept:
            call_id = call.call_id if call.call_id and call.call_id not in taken else f"call_{token_hex(12)}"
            taken.add(call_id)
            attached, dropped = call.attached.fields() if call.attached else ({}, [])
            self.dropped += dropped
            made.append(ToolCall(call_id=call_id, name=call.name, arguments=arguments, attached=attached))
        return made

    def _call_of(
        self, index: int | None, call_id: str, name: str, arguments: str, touched: list[_PartialCall]
    ) -> _PartialCall:
        """The call that a piece belongs to: by index, else by id, else the last one; a new one where none fits."""
        last = self._calls[-1] if self._calls else None
        if index is not None:
            found = self._at_index.get(index)
        elif call_id and call_id in self._with_id:
            found = self._with_id[call_id]
        else:
            found = last if not call_id or (last is not None and last.is_open) else None
        if found is None or _is_another(found, call_id, name, arguments, again=any(one is found for one in touched)):
            found = self._new(index)
        return found

    def _streamed(
        self, before: list[_PartialCall], at: int, call_id: str, name: str, arguments: str
    ) -> _PartialCall | None:
        """The call of which pieces came before the whole message, by id, else by its place; each is found once."""
        found = next((call for call in before if call_id and call.call_id == call_id and name == call.name), None)
        if found is None and at < len(self._calls) and any(call is self._calls[at] for call in before):
            there = self._calls[at]
            fits = name == there.name and not (call_id and there.call_id)
            if fits and (not there.is_whole or _object_of(arguments) == _object_of("".join(there.pieces))):
                found = there
        if found is not None:
            before.remove(found)
        return found

    def _new(self, index: int | None) -> _PartialCall:
        if len(self._calls) == MAX_CALLS:
            raise Malformed(f"the answer calls more than {MAX_CALLS} tools")
        call = _PartialCall()
        self._calls.append(call)
        if index is not None:
            self._at_index[index] = call
        return call

    def _fill(self, call: _PartialCall, call_id: str, name: str) -> None:
        if call_id and not call.call_id:
            call.call_id = self._bounded("id", call_id, MAX_ID_CHARS)
            self._with_id.setdefault(call_id, call)
        if not name or name == call.name:
            return
        if call.name and name.startswith(call.name):
            call.name = self._bounded("name", name, MAX_NAME_CHARS)
        else:  # the first of it, or the next piece of a name that comes in pieces
            call.name = self._bounded("name", call.name + name, MAX_NAME_CHARS)

    def _attach(self, call: _PartialCall, piece: dict[str, Any]) -> None:
        own = {name: value for name, value in piece.items() if name not in _OF_A_CALL}
        function = piece.get("function")
        if isinstance(function, dict) and function.keys() - _OF_A_FUNCTION:
            own["function"] = {name: value for name, value in function.items() if name not in _OF_A_FUNCTION}
        for name, value in own.items():
            if call.attached is None:
                call.attached = Fields()
            call.attached.add(name, value)

    def _bounded(self, what: str, text: str, most: int) -> str:
        if len(text) > most:
            raise Malformed(f"a tool call has a {what} of more than {most} characters")
        self._grow(len(text))
        return text


def joined_arguments(pieces: Sequence[str]) -> str:
    """The arguments of a call, from what came of them; an empty object where nothing did.

    What is a JSON object once it is joined is just that, or holds one as a text, encoded twice. Else: what stood where
    they were still to come is left out; what came twice counts once, also where each piece repeats those before it; and
    what is no JSON stays as it came.
    """
    text = "".join(pieces)
    if _object_of(text) is not None:
        return text
    if (inside := _object_in_text(text)) is not None:
        return inside
    said = [piece for piece in pieces if piece.strip() not in _PLACEHOLDERS]
    if not said:
        return "{}"
    without = "".join(said)
    if _object_of(without) is not None:
        return without
    if (once := _once(text)) is not None:
        return once
    if said[-1].startswith("".join(said[:-1])) and _object_of(said[-1]) is not None:
        return said[-1]
    grown = [each[-1] for each in (said, pieces) if all(later.startswith(one) for one, later in pairwise(each))]
    return next((one for one in grown if _object_of(one) is not None), grown[0] if grown else text)


def _once(text: str) -> str | None:
    """Of JSON values one behind the other, the one that all are, but for empty ones; None where there is none."""
    said: list[tuple[Any, str]] = []
    at = 0
    try:
        while (start := at + len(text[at:]) - len(text[at:].lstrip())) < len(text):
            value, at = _DECODER.raw_decode(text, start)
            if value not in ({}, None, ""):
                said.append((value, text[start:at]))
                if value != said[0][0]:
                    return None
    except (ValueError, RecursionError):
        return None
    return said[-1][1] if said and isinstance(said[-1][0], dict) else None


def _is_another(found: _PartialCall, call_id: str, name: str, arguments: str, *, again: bool) -> bool:
    """Whether a piece begins another call than the one that is found at its index, or came last.

    ``again`` says that a piece of the found call stood in the same chunk already.
    """
    if not name or not found.name:
        return bool(name and call_id and found.call_id and found.call_id != call_id and found.is_whole)
    if call_id and found.call_id and call_id != found.call_id:
        return not found.is_open or name != found.name  # else: a new id for each piece of a call
    if name != found.name:  # the same id: the name comes in pieces
        is_piece = found.call_id and not again and not found.pieces and not arguments
        return not is_piece and not (found.call_id == call_id and name.startswith(found.name))
    if call_id or found.call_id:
        return again and not call_id
    return again or (found.is_whole and _object_of(arguments) not in (None, _object_of("".join(found.pieces)), {}))


def _is_same(call: _PartialCall, arguments: str, other: _PartialCall, its_arguments: str) -> bool:
    if not call.call_id or call.call_id != other.call_id or call.name != other.name:
        return False
    if arguments == its_arguments:
        return True
    value = _object_of(arguments)
    return value is not None and value == _object_of(its_arguments)


def _continued(call: _PartialCall, nameless: _PartialCall) -> str | None:
    """The arguments of a call, of which the rest came without a name; None: that is no rest of it."""
    joined = joined_arguments([*call.pieces, *nameless.pieces])
    return joined if _object_of(joined) is not None else None


def _head(piece: Any) -> tuple[str, str, str]:
    """Id, name and arguments in a piece; some servers leave out the ``function`` around the latter two."""
    if not isinstance(piece, dict):
        raise Malformed("a tool call is no JSON object")
    function = piece.get("function") or piece
    if not isinstance(function, dict):
        raise Malformed("the function of a tool call is no JSON object")
    arguments = function.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        arguments = orjson.dumps(arguments).decode()
    name = function.get("name")
    return _id(piece.get("id")), name if isinstance(name, str) else "", arguments or ""


def _id(value: Any) -> str:
    """Some servers count calls."""
    return str(value) if isinstance(value, str) or type(value) is int else ""


def _index(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if value.isdecimal() and len(value) < 10 else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if type(value) is int else None


def _listed(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [entry for entry in value if entry is not None]
    if value:
        return [value]
    return []


def _object_in_text(text: str) -> str | None:
    """The JSON object that a JSON text holds, as models write it whose arguments are encoded twice."""
    if not text.lstrip().startswith('"'):
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, str) and _object_of(value) is not None else None


def _object_of(text: str) -> dict[str, Any] | None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
