"""The client end of one HTTP/1.1 keep-alive connection, as cheap as Python allows.

One request is in flight at a time; times are taken where the bytes arrive.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import orjson

_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)


def completion_request(
    url: str, message: str, *, token: str | None = None, session: str | None = None, stream: bool = False
) -> bytes:
    """A request for a chat completion, ready to be sent; ``session`` makes it stateful."""
    address = urlsplit(url)
    body = orjson.dumps({"model": "ok", "messages": [{"role": "user", "content": message}], "stream": stream})
    head = [f"POST {address.path} HTTP/1.1", f"Host: {address.netloc}", "Content-Type: application/json"]
    head.append(f"Content-Length: {len(body)}")
    if token is not None:
        head.append(f"Authorization: Bearer {token}")
    if session is not None:
        head.append(f"X-Hermes-Session-Id: {session}")
    return "\r\n".join([*head, "", ""]).encode() + body


class Answer(NamedTuple):
    """A response, and when it came."""

    status: int
    body: bytes
    marked_at: float | None  # perf_counter seconds when the marker was there; None: it never was
    done_at: float  # perf_counter seconds


class ConnectionClosed(Exception):
    """The server closed the connection before it answered in full."""


class Connection(asyncio.Protocol):
    """Ask, await the answer, ask again.

    Args:
        marker: bytes in a response whose arrival is timed (the first token), or None.
    """

    def __init__(self, marker: bytes | None = None) -> None:
        self._marker = marker
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._at = 0  # where the body, or its next chunk, begins; 0: the head is not read yet
        self._length: int | None = None  # of the body; None: it comes in chunks
        self._chunks: list[bytes] = []
        self._marked_at: float | None = None

    @classmethod
    async def open(cls, url: str, marker: bytes | None = None) -> Connection:
        """Connect to the server of a URL.

        Raises:
            OSError: nobody listens there.
        """
        address, loop = urlsplit(url), asyncio.get_running_loop()
        host, port = str(address.hostname), int(address.port or 80)
        _, connection = await loop.create_connection(lambda: cls(marker), host, port)
        return connection

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        """Send a whole request; the future is its answer.

        Raises:
            ConnectionClosed: the server closed the connection. Also the future's.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectionClosed("the server closed the connection between two requests")
        self._answer = self._loop.create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        """Close; an answer that is awaited never comes."""
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol -------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionClosed(str(exc) if exc else "the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._received += data
        if self._marker is not None and self._marked_at is None and self._marker in self._received:
            self._marked_at = now
        if not self._at and not self._read_head():
            return
        if self._read_chunks() if self._length is None else len(self._received) >= self._at + self._length:
            self._finish(now)

    # -- inside -----------------------------------------------------------------------------------------------------
    def _forget(self) -> None:
        self._received, self._chunks = bytearray(), []
        self._at, self._length, self._marked_at = 0, None, None

    def _read_head(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        length = _LENGTH.search(self._received, 0, end)
        self._length = int(length[1]) if length else None
        self._at = end + 4
        return True

    def _read_chunks(self) -> bool:
        received = self._received
        while (line_end := received.find(b"\r\n", self._at)) >= 0:
            size = int(received[self._at : line_end], 16)
            end = line_end + 2 + size + 2
            if len(received) < end:
                return False
            if size == 0:
                return True
            self._chunks.append(bytes(received[line_end + 2 : end - 2]))
            self._at = end
        return False

    def _finish(self, now: float) -> None:
        received, future = self._received, self._answer
        body = b"".join(self._chunks) if self._length is None else bytes(received[self._at :])
        answer = Answer(int(received[9:12]), body, self._marked_at, now)
        self._forget()
        if future is not None and not future.done():
            future.set_result(answer)
