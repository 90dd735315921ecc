"""JSON that is kept: transcript rows and tool definitions."""

from __future__ import annotations

from typing import Any

import orjson


def kept_json(value: Any, option: int | None = None) -> bytes:
    """A value as JSON, in a block of memory of its own length.

    ``orjson`` 3.13.0 leaves each result in a block of 4 KiB, whatever its length. A turn keeps two rows or more for as
    long as its session is in memory.

    Raises:
        orjson.JSONEncodeError: the value is no JSON.
    """
    return bytes(memoryview(orjson.dumps(value, option=option)))
