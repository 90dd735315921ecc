"""Plain data as an answer."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from workers.ingress.http.errors import JSON_TYPE, SERVER


def reply(data: Any, status: int = 200) -> web.Response:
    """Data as JSON."""
    return web.Response(status=status, body=orjson.dumps(data), headers={"Content-Type": JSON_TYPE, "Server": SERVER})


def listing(items: list[dict[str, Any]], cursor: str | int | None, **more: Any) -> web.Response:
    """A page of a list; ``next`` is the ``after`` of the page that follows. ``more``: further fields."""
    return reply({"object": "list", "data": items, "has_more": cursor is not None, "next": cursor, **more})
