"""The HTTP side of a remote server: one failed request fails one call, and says whether it was sent.

Left alone, the MCP SDK lets a refused connection or a cut response end the client with all its calls, and hides the
status of an error response (measured with mcp 2.3). It does take JSON-RPC errors for what they are, so failures become
such, with codes of our own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import orjson
from mcp.client.streamable_http import streamable_http_client

from workers.tools.target import Target

CONNECT_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 30.0

# Codes of JSON-RPC errors made here; the specification leaves what is outside -32768…-32000 to applications.
NOT_SENT = -39001  # no connection: the server saw nothing of the request
CUT = -39002  # sent, and the connection ended before the answer
SESSION_LOST = -39003  # the server does not know the MCP session, so it did nothing
REFUSED = -39004  # an HTTP error that says the request was not carried out
FAILED = -39005  # an HTTP error that leaves open whether it was

_SESSION_HEADER = "mcp-session-id"
_UNSENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
)


@asynccontextmanager
async def http_streams(target: Target) -> AsyncIterator[Any]:
    """The SDK's stream pair to a server. Waiting for answers is bounded by the calls, not here."""
    timeout = httpx2.Timeout(CONNECT_TIMEOUT_S, write=WRITE_TIMEOUT_S, read=None, pool=None)
    limits = httpx2.Limits(max_connections=None)  # how many calls run is for others to bound
    async with (
        _Client(headers=dict(target.headers), timeout=timeout, limits=limits) as client,
        streamable_http_client(target.url, http_client=client) as streams,
    ):
        yield streams


class _Client(httpx2.AsyncClient):
    """Answers a POST that failed with a JSON-RPC error; everything else is as it was."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        if request.method != "POST":
            return await super().send(request, **options)
        try:
            response = await super().send(request, **options)
        except _UNSENT as error:
            return _error(request, NOT_SENT, f"cannot connect: {error or type(error).__name__}")
        except httpx2.TransportError as error:
            return _error(request, CUT, f"the connection ended before the answer: {error or type(error).__name__}")
        if not response.is_error:
            return response
        return await _explained(request, response)


async def _explained(request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
    """An error response that is a JSON-RPC error says what the server means; of others the status does."""
    body = await response.aread()
    session_lost = _SESSION_HEADER in request.headers and _is_session_unknown(response.status_code, body)
    if not session_lost and _is_json_rpc_error(body):
        return response
    said = f"the server answered HTTP {response.status_code} {response.reason_phrase}"
    if session_lost:
        return _error(request, SESSION_LOST, f"the server does not know this session any more: {said}")
    return _error(request, FAILED if response.is_server_error else REFUSED, said)


def _is_session_unknown(status: int, body: bytes) -> bool:
    """404 by the specification; servers made after the examples of the TypeScript SDK say it with 400 in words."""
    return status == httpx2.codes.NOT_FOUND or (status == httpx2.codes.BAD_REQUEST and b"session" in body.lower())


def _is_json_rpc_error(body: bytes) -> bool:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(parsed, dict) and "jsonrpc" in parsed and isinstance(parsed.get("error"), dict)


def _error(request: httpx2.Request, code: int, why: str) -> httpx2.Response:
    """The response to a request that the SDK reads as this JSON-RPC error; it puts the request's id in."""
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": why}}
    return httpx2.Response(httpx2.codes.BAD_GATEWAY, json=body, request=request)
