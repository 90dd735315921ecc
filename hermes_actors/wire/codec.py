"""Typed messages to bytes and back: ``[tag, field, field, …]`` in msgpack.

Both ends run the same release, so a field list is an array, not a map. A message inside a message is an extension type.
"""

from __future__ import annotations

from threading import local
from typing import Any

import msgpack

from hermes_actors.wire.tags import CLASSES, FIELDS

KEPT_BUFFER_BYTES = 1024 * 1024  # of a packer; larger messages are few

_INNER = 1  # extension type: a message inside another one


class ProtocolError(Exception):
    """The other end sent bytes that are no message of this release."""


def to_parts(instance: Any) -> list[Any]:
    """A message as the list that travels."""
    tag, values = FIELDS[type(instance)]
    return [tag, *values(instance)]


def from_parts(parts: Any) -> Any:
    """The message that :func:`to_parts` made the list from.

    Raises:
        ProtocolError: no such tag, or not its fields.
    """
    if not isinstance(parts, list) or not parts or not isinstance(parts[0], str):
        raise ProtocolError("a message is a list that begins with its tag")
    known = CLASSES.get(parts[0])
    if known is None:
        raise ProtocolError(f"unknown message tag {parts[0]!r}")
    cls, arity = known
    if len(parts) != arity + 1:
        raise ProtocolError(f"{cls.__name__} has {arity} fields, got {len(parts) - 1}")
    return cls(*parts[1:])


class _Packers(local):
    """The packers of a thread, one for each depth of messages inside messages: to make one costs more than to pack."""

    def __init__(self) -> None:
        self.depth = 0
        self.made: list[msgpack.Packer] = []


_packers = _Packers()


def encode(instance: Any) -> bytes:
    """One message as the body of one frame."""
    depth = _packers.depth
    if depth == len(_packers.made):
        _packers.made.append(msgpack.Packer(default=_inner, autoreset=True))
    _packers.depth = depth + 1
    try:
        packed: bytes = _packers.made[depth].pack(to_parts(instance))
    finally:
        _packers.depth = depth
    if len(packed) > KEPT_BUFFER_BYTES:  # its packer keeps a buffer of that size
        del _packers.made[depth:]
    return packed


def decode(body: bytes | memoryview) -> Any:
    """The message in the body of one frame.

    Raises:
        ProtocolError: the bytes are no message of this release.
    """
    try:
        parts = msgpack.unpackb(body, strict_map_key=False, ext_hook=_outer)
    except (ValueError, msgpack.UnpackException) as error:
        raise ProtocolError(f"frame is not msgpack: {error}") from error
    return from_parts(parts)


def _inner(value: Any) -> msgpack.ExtType:
    if type(value) not in FIELDS:
        raise TypeError(f"{type(value).__name__} does not travel")
    return msgpack.ExtType(_INNER, encode(value))


def _outer(code: int, body: bytes) -> Any:
    if code != _INNER:
        raise ProtocolError(f"unknown extension type {code}")
    return decode(body)
