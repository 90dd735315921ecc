"""A frame: a big-endian ``u32`` length, and that many bytes of one message. No event loop is needed for them."""

from __future__ import annotations

import struct
from typing import Any

from hermes_actors.wire.codec import ProtocolError, encode

MAX_FRAME_BYTES = 16 * 1024 * 1024

_HEADER = struct.Struct(">I")
HEADER_BYTES = _HEADER.size


def framed(message: Any) -> tuple[bytes, bytes]:
    """The header and the body of a message's frame.

    Raises:
        ProtocolError: the message is larger than a frame may be.
    """
    body = encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise ProtocolError(f"{type(message).__name__} is {len(body)} bytes, a frame holds {MAX_FRAME_BYTES}")
    return _HEADER.pack(len(body)), body


def body_bytes(received: bytes | bytearray, at: int = 0) -> int:
    """How long the body is whose header is at this place.

    Raises:
        ProtocolError: longer than a frame may be.
    """
    length: int = _HEADER.unpack_from(received, at)[0]
    if length > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame of {length} bytes, the limit is {MAX_FRAME_BYTES}")
    return length
