"""Which web pages may call from a browser: those whose origin the configuration names.

A browser asks before it sends a key or JSON, and without a key: this asking, the preflight, is answered here. See the
Fetch standard, https://fetch.spec.whatwg.org/#http-cors-protocol.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from aiohttp import web

from workers.ingress.http.errors import SERVER
from workers.ingress.http.names import IDEMPOTENCY_HEADER, REQUEST_ID_HEADER, SESSION_ID_HEADER, TURN_ID_HEADER

CORS = web.RequestKey("CORS", dict[str, str])  # headers that an answer needs which is a stream
PREFLIGHT_S = 600  # a browser asks again after so long

_READABLE = (
    SESSION_ID_HEADER,
    TURN_ID_HEADER,
    IDEMPOTENCY_HEADER,
    REQUEST_ID_HEADER,
    "Idempotency-Replayed",
    "Retry-After",
    "X-Hermes-Model",
    "X-Hermes-Ignored",
)
_NAMES = re.compile(r"[A-Za-z0-9-]+( *, *[A-Za-z0-9-]+)*")  # of headers
_MAX_NAMES_CHARS = 2048


def cors_headers(request: web.BaseRequest, origins: Collection[str]) -> dict[str, str]:
    """The headers that let a page read the answer; for a page that is not named, those that let no page read it."""
    origin = request.headers.get("Origin")
    if origin is None or origin not in origins:
        return {"Vary": "Origin"}
    return {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": ", ".join(_READABLE),
    }


def is_preflight(request: web.BaseRequest) -> bool:
    """Whether a browser asks what it may send."""
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


def preflight(request: web.BaseRequest, methods: Collection[str]) -> web.Response:
    """What a page may send. A browser lets no page send more where its origin is not allowed.

    Args:
        request: the browser's question.
        methods: that some route answers.
    """
    asked = request.headers.get("Access-Control-Request-Headers", "")
    headers = {
        "Server": SERVER,
        "Access-Control-Allow-Methods": ", ".join(methods),
        "Access-Control-Max-Age": str(PREFLIGHT_S),
    }
    if len(asked) <= _MAX_NAMES_CHARS and _NAMES.fullmatch(asked):  # client libraries have many of their own
        headers["Access-Control-Allow-Headers"] = asked
    return web.Response(status=204, headers=headers)
