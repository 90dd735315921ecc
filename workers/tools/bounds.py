"""What one message of a server may cost: pure.

A message is parsed on the worker's event loop, which stands still meanwhile: 5 to 10 ms for each MiB of text, up to
300 ms, and 120 MiB of memory, for each of tiny JSON values (pydantic 2.14). So its bytes are bounded, and its values.
"""

from __future__ import annotations

import re

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
MAX_VALUES = 100_000  # in one message; as text they would be cut long before
ALWAYS_READ_BYTES = 1024 * 1024  # a message this small is not counted
EDGE_BYTES = 256  # of a message that is not read, its first and its last tell whose answer it is

TOO_MUCH = (
    f"it answered with more than is taken ({MAX_MESSAGE_BYTES >> 20} MiB, {MAX_VALUES} JSON values); the answer was "
    "dropped. What to do: ask for less at a time"
)

_ID = rb'"id"\s*:\s*(\d{1,18})'
_VERSION = rb'"jsonrpc"\s*:\s*"2\.0"'
_ID_FIRST = re.compile(rb"\s*\{\s*(?:" + _VERSION + rb"\s*,\s*)?" + _ID + rb"\s*,")
_ID_LAST = re.compile(_ID + rb"\s*(?:,\s*" + _VERSION + rb"\s*)?\}\s*\Z")


def is_too_dense(message: bytes) -> bool:
    """Whether a JSON text holds too many values, however few its bytes are. What stands in its strings is no value."""
    if len(message) <= ALWAYS_READ_BYTES:
        return False
    bare = message.replace(rb"\\", b"").replace(rb"\"", b"")
    if bare.count(b'"') > 4 * MAX_VALUES:  # a member has two strings at most
        return True
    outside = b"".join(bare.split(b'"')[::2])
    return sum(map(outside.count, (b",", b"[", b"{"))) > MAX_VALUES


def answered_id(first: bytes, last: bytes) -> int | None:
    """Which request a JSON-RPC message answers, by its edges; servers write the id before the result or after it."""
    found = _ID_FIRST.match(first) or _ID_LAST.search(last)
    return int(found[1]) if found else None
