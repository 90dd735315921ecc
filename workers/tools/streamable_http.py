"""The HTTP side of a remote server: one failed request fails one call, and says whether it was sent.

Left alone, the MCP SDK lets a refused connection or a cut response end the client with all its calls, hides the status
of an error response, and reads a JSON body of any size (measured with mcp 2.3). It does take JSON-RPC errors for what
they are, so failures become such, with codes of our own.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx2
import orjson
from mcp.client.streamable_http import streamable_http_client

from workers.tools.bounds import MAX_MESSAGE_BYTES, TOO_MUCH, is_too_dense
from workers.tools.calls import NO_CALL, CallOver, ToolInvocation, current
from workers.tools.messages import mended
from workers.tools.outcomes import CUT, FAILED, NOT_SENT, REFUSED, SESSION_LOST, UNUSABLE
from workers.tools.reasons import shown
from workers.tools.target import ServerTarget

CONNECT_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 30.0
GOODBYE_TIMEOUT_S = 2.0  # for a server to hear that its session is over
NOTICE_TIMEOUT_S = 10.0  # for a server to take what has no answer; the SDK sends nothing else meanwhile

OLD_TRANSPORT = (
    "; an address that ends in /sse is of the old HTTP+SSE transport, which is not spoken here. What to do: try /mcp "
    "in its place, which most such servers have"
)

_EVENT_STREAM = {"content-type": "text/event-stream"}
_SESSION_HEADER = "mcp-session-id"
_OF_THE_BODY = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_END_OF_EVENT = re.compile(rb"\r?\n\r?\n|\r\r")
_UNSENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
)


@asynccontextmanager
async def http_streams(
    target: ServerTarget, *, on_pushes: Callable[[bool], None], on_refused: Callable[[str], None]
) -> AsyncIterator[Any]:
    """The SDK's stream pair to a server. Waiting for answers is bounded by the calls, not here.

    Args:
        target: the server.
        on_pushes: called with whether the server takes the request for a stream of what is no answer.
        on_refused: called with the words of an HTTP error that are no JSON-RPC, for the server's operator alone.
    """
    timeout = httpx2.Timeout(CONNECT_TIMEOUT_S, write=WRITE_TIMEOUT_S, read=None, pool=None)
    limits = httpx2.Limits(max_connections=None)  # how many calls run is for others to bound
    async with (
        _HttpClient(on_pushes, on_refused, headers=dict(target.headers), timeout=timeout, limits=limits) as client,
        streamable_http_client(target.url, http_client=client, max_sse_event_size=2 * MAX_MESSAGE_BYTES) as streams,
    ):
        yield streams


class _HttpClient(httpx2.AsyncClient):
    """Answers a POST that failed, or whose answer is too large, with a JSON-RPC error; ends what is sent for a call.

    The SDK ends a request that is given up in the newest protocol alone. In the older ones it would stay as long as the
    server likes, with its socket, since only the notice says there that no caller waits.
    """

    def __init__(self, on_pushes: Callable[[bool], None], on_refused: Callable[[str], None], **settings: Any) -> None:
        super().__init__(**settings)
        self._on_pushes = on_pushes
        self._on_refused = on_refused

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        if request.method == "DELETE":
            return await super().send(_within(request, GOODBYE_TIMEOUT_S), **options)
        await request.aread()  # where the SDK follows a redirect, the body is a stream again
        if request.method == "POST" and not _wants_answer(request):
            return await self._answered(_within(request, NOTICE_TIMEOUT_S), NO_CALL, options)
        call = current.get()
        try:
            return await call.until_over(self._answered(request, call, options))
        except CallOver:
            return httpx2.Response(httpx2.codes.OK, headers=_EVENT_STREAM, content=_OVER_EVENT, request=request)

    async def _answered(
        self, request: httpx2.Request, call: ToolInvocation, options: Mapping[str, Any]
    ) -> httpx2.Response:
        try:
            response = await super().send(request, **options)
            if request.method == "GET":
                self._on_pushes(response.is_success)
            return await _bounded(request, response, call, self._on_refused)
        except httpx2.TransportError as error:
            if request.method != "POST":
                raise
            why = str(error) or type(error).__name__
            if isinstance(error, _UNSENT):
                return _error(request, NOT_SENT, f"cannot connect: {why}")
            return _error(request, CUT, f"the connection ended before the answer: {why}")


def _within(request: httpx2.Request, timeout_s: float) -> httpx2.Request:
    """The request, whose answer is not waited for longer."""
    request.extensions["timeout"] = httpx2.Timeout(timeout_s).as_dict()
    return request


def _wants_answer(request: httpx2.Request) -> bool:
    """Whether a POST holds a JSON-RPC request, no notification and no response."""
    try:
        message = orjson.loads(request.content)
    except orjson.JSONDecodeError:  # arguments of a tool may be nested more deeply than is read
        return True
    return "id" in message and "method" in message


async def _bounded(
    request: httpx2.Request, response: httpx2.Response, call: ToolInvocation, on_refused: Callable[[str], None]
) -> httpx2.Response:
    """The response, of which no more is taken than a message may cost, and nothing once its call is over."""
    kind = response.headers.get("content-type", "").lower()
    if response.is_success and kind.startswith("text/event-stream"):
        return _with_body(response, stream=_Events(response, call))
    if request.method != "POST":
        return response
    if not response.is_error and (not response.is_success or response.status_code == httpx2.codes.ACCEPTED):
        return response
    body = await _read(response)
    if response.is_error:
        return _explained(request, response, body or b"", on_refused)
    if body is None or is_too_dense(body):
        return _error(request, UNUSABLE, TOO_MUCH)
    message = mended(body, rejected=False)  # whatever its content type says it is
    return _with_body(response, content=body) if message is None else _with_message(response, message)


async def _read(response: httpx2.Response) -> bytes | None:
    """The body, decoded; None where it is too large."""
    body = bytearray()
    async with aclosing(response.aiter_bytes()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_MESSAGE_BYTES:
                return None
    return bytes(body)


class _Events(httpx2.AsyncByteStream):
    """The events of a response; one that is too large is an error for the request instead."""

    def __init__(self, response: httpx2.Response, call: ToolInvocation) -> None:
        self._response = response
        self._call = call

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    yield event
        except CallOver:
            yield _OVER_EVENT

    async def _events(self) -> AsyncGenerator[bytes]:
        pending = bytearray()
        searched = 0
        async with aclosing(self._response.aiter_bytes()) as chunks:
            while (chunk := await self._call.until_over(anext(chunks, None))) is not None:
                pending += chunk
                while found := _END_OF_EVENT.search(pending, searched):
                    event = bytes(pending[: found.end()])
                    del pending[: found.end()]
                    searched = 0
                    yield _TOO_LARGE_EVENT if is_too_dense(event) else _mended_event(event)
                searched = max(0, len(pending) - 3)  # the end of an event may be cut by the end of a chunk
                if len(pending) > MAX_MESSAGE_BYTES:
                    yield _TOO_LARGE_EVENT
                    return
        if pending:
            yield _mended_event(bytes(pending))

    async def aclose(self) -> None:
        await self._response.aclose()


def _with_body(response: httpx2.Response, **body: Any) -> httpx2.Response:
    """The response with another body, not encoded."""
    headers = [pair for pair in response.headers.multi_items() if pair[0].lower() not in _OF_THE_BODY]
    return httpx2.Response(response.status_code, headers=headers, request=response.request, **body)


def _with_message(response: httpx2.Response, message: bytes) -> httpx2.Response:
    """The response with a JSON-RPC message as its body, and said to be one."""
    made = _with_body(response, content=message)
    made.headers["content-type"] = "application/json"
    return made


def _mended_event(event: bytes) -> bytes:
    """An event, whose message the SDK reads as it is meant."""
    lines = event.splitlines()
    data = b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
    message = mended(data, rejected=False) if data else None
    if message is None or message == data:
        return event
    kept = [line for line in lines if line and not line.startswith(b"data:")]
    return b"\n".join([*kept, b"data: " + message]) + b"\n\n"


def _explained(
    request: httpx2.Request, response: httpx2.Response, body: bytes, on_refused: Callable[[str], None]
) -> httpx2.Response:
    """An error response that is a JSON-RPC error says what the server means; of others the status does."""
    session_lost = _SESSION_HEADER in request.headers and _is_session_unknown(response.status_code, body)
    if not session_lost and _is_json_rpc_error(body) and (message := mended(body, rejected=True)) is not None:
        return _with_message(response, message)
    on_refused(shown(body))
    said = f"the server answered HTTP {response.status_code} {response.reason_phrase}"
    if request.url.path.rstrip("/").endswith("/sse"):
        said += OLD_TRANSPORT
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
    return isinstance(parsed, dict) and "jsonrpc" in parsed and parsed.get("error") is not None


def _error(request: httpx2.Request, code: int, why: str) -> httpx2.Response:
    """The response to a request that the SDK reads as this JSON-RPC error; it puts the request's id in."""
    return httpx2.Response(httpx2.codes.BAD_GATEWAY, json=_json_rpc_error(code, why), request=request)


def _json_rpc_error(code: int, why: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": why}}


_TOO_LARGE_EVENT = b"event: message\ndata: " + orjson.dumps(_json_rpc_error(UNUSABLE, TOO_MUCH)) + b"\n\n"
_OVER_EVENT = b"event: message\ndata: " + orjson.dumps(_json_rpc_error(CUT, "its call is over")) + b"\n\n"
