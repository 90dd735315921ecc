"""A conversation with a session over the gateway's own HTTP API: streamed, with tool progress, as any client would.

The transcript is the gateway's: each request carries the one new message, and the session's name in a header.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import aiohttp

CONNECT_S = 10.0
SILENCE_S = 900.0  # between two pieces of a reply: tools may take long, and the gateway bounds them
MAX_EVENT_BYTES = 16 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024

TOOL_PROGRESS = "hermes.tool.progress"
END_OF_STREAM = "[DONE]"
WRONG_KEY = "invalid_api_key"
CUT = "the connection ended in the middle of the reply; the session has what was said"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A session as a client sees it."""

    url: str  # of the gateway: scheme, host, port
    key: str = field(repr=False)
    session: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The next piece of the reply's text."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool call began or ended."""

    name: str
    status: str  # running | completed | failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The reply is whole."""

    reason: str  # the finish_reason


Event: TypeAlias = Piece | Tool | Finished


class ChatFailed(Exception):
    """There is no reply, or not all of it; the text is for people. ``code`` is the API's, or ``connection``."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


class ServerSentEvents:
    """Bytes of a ``text/event-stream`` in, ``(event, data)`` out (WHATWG HTML, section 9.2.6)."""

    def __init__(self) -> None:
        self._unread = bytearray()
        self._name = ""
        self._data: list[str] = []

    def feed(self, received: bytes) -> Iterator[tuple[str, str]]:
        """The events that the bytes complete.

        Raises:
            ChatFailed: an event is larger than :data:`MAX_EVENT_BYTES`.
        """
        self._unread += received
        *lines, rest = self._unread.split(b"\n")
        self._unread = rest
        if len(rest) > MAX_EVENT_BYTES:
            raise ChatFailed("connection", f"the gateway sent an event of more than {MAX_EVENT_BYTES} bytes")
        for line in lines:
            yield from self._line(line.removesuffix(b"\r").decode(errors="replace"))

    def _line(self, line: str) -> Iterator[tuple[str, str]]:
        if not line:
            if self._data:
                yield self._name, "\n".join(self._data)
            self._name, self._data = "", []
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)


async def reply(endpoint: Endpoint, message: str) -> AsyncGenerator[Event]:
    """Send a message to the session and tell what comes back, the last a :class:`Finished`.

    Raises:
        ChatFailed: refused, failed, cut, or silent for :data:`SILENCE_S`.
    """
    async with connected(endpoint) as client, _post(client, endpoint, message) as answer:
        if answer.status != 200:
            raise refusal(answer.status, await answer.content.read(MAX_ERROR_BYTES))
        async for event in _events(answer.content):
            yield event


@contextlib.asynccontextmanager
async def connected(endpoint: Endpoint) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the API with its key; what goes wrong with the connection is said in words for people.

    Raises:
        ChatFailed: it could not be made, broke, or was silent for :data:`SILENCE_S`.
    """
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
    headers = {"Authorization": f"Bearer {endpoint.key}"}
    try:
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as client:
            yield client
    except TimeoutError as error:
        raise ChatFailed("connection", f"{endpoint.url} is silent: {error or 'time-out'}") from error
    except aiohttp.ClientPayloadError as error:
        raise ChatFailed("connection", CUT) from error
    except aiohttp.ClientError as error:
        raise ChatFailed("connection", f"{endpoint.url}: {error}") from error


async def tell(endpoint: Endpoint, message: str, on_event: Callable[[Event], None]) -> str:
    """Send a message, pass each event on as it comes, and return the whole text.

    Raises:
        ChatFailed: see :func:`reply`.
    """
    pieces: list[str] = []
    async with contextlib.aclosing(reply(endpoint, message)) as events:
        async for event in events:
            if isinstance(event, Piece):
                pieces.append(event.text)
            on_event(event)
    return "".join(pieces)


def _post(client: aiohttp.ClientSession, endpoint: Endpoint, message: str) -> Any:
    return client.post(
        f"{endpoint.url}/v1/chat/completions",
        headers={"X-Hermes-Session-Id": endpoint.session},
        json={"model": "hermes-actors", "stream": True, "messages": [{"role": "user", "content": message}]},
    )


async def _events(body: aiohttp.StreamReader) -> AsyncIterator[Event]:
    """What a streamed answer says, until its end mark."""
    stream = ServerSentEvents()
    reason = ""
    async for received in body.iter_any():
        for name, data in stream.feed(received):
            if data == END_OF_STREAM:
                yield Finished(reason=reason or "stop")
                return
            said = object_of(data)
            if said.get("error"):
                raise _failure(said, "the turn failed")
            if name == TOOL_PROGRESS:
                yield Tool(name=str(said.get("tool")), status=str(said.get("status")))
                continue
            for choice in said.get("choices") or ():
                reason = choice.get("finish_reason") or reason
                if text := (choice.get("delta") or {}).get("content"):
                    yield Piece(text=text)
    raise ChatFailed("connection", CUT)


def refusal(status: int, body: bytes) -> ChatFailed:
    """What the API refused, in its words."""
    return _failure(object_of(body), f"HTTP {status}")


def _failure(said: dict[str, Any], otherwise: str) -> ChatFailed:
    """The API's error object in words."""
    error = said.get("error")
    if not isinstance(error, dict):
        return ChatFailed("connection", otherwise)
    return ChatFailed(str(error.get("code") or error.get("type")), str(error.get("message") or otherwise))


def object_of(data: str | bytes) -> dict[str, Any]:
    """The JSON object that the API sent; an empty one where it sent none."""
    try:
        said = json.loads(data)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
