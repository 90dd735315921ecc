"""A link: an ordered stream of frames to one other process.

Local processes speak over Unix sockets; anything that offers :class:`Link` may replace them, which is what several
machines will need.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Protocol, cast

from hermes_actors.wire.codec import ProtocolError, decode
from hermes_actors.wire.frames import HEADER_BYTES, body_bytes, framed

MAX_UNSENT_BYTES = 64 * 1024 * 1024  # a reader this far behind is not reading: the link is dropped


class LinkClosed(Exception):
    """The other end is gone, or was too slow to read for too long."""


class Link(Protocol):
    """An ordered stream of messages to one other process."""

    def send(self, message: Any) -> None:
        """Queue a message; it leaves in order.

        Raises:
            LinkClosed: the link is gone.
            ProtocolError: the message is larger than a frame may be.
        """

    async def drained(self) -> None:
        """Return once the other end has read enough that sending more costs no memory here.

        Raises:
            LinkClosed: the link went away meanwhile.
        """

    def close(self) -> None:
        """End the link; what was queued is still sent where the other end reads it."""

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""


class FrameLink(asyncio.Protocol):
    """A :class:`Link` over a stream socket, on the event loop that made it.

    Args:
        on_message: called with each message, in order, on the loop.
        on_lost: called once, with what went wrong in words, when the link ends.
    """

    def __init__(self, on_message: Callable[[Any], None], on_lost: Callable[[str], None]) -> None:
        self._on_message = on_message
        self._on_lost = on_lost
        self._received = bytearray()
        self._unsent: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._paused: asyncio.Future[None] | None = None
        self._why = "closed by the other end"

    # -- Link -----------------------------------------------------------------------------------------------------
    @property
    def closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def send(self, message: Any) -> None:
        frame = framed(message)
        if self.closed or self._loop is None:
            raise LinkClosed(self._why)
        if not self._unsent:  # one write per tick of the loop, however many messages it brought
            self._loop.call_soon(self._flush)
        self._unsent += frame

    async def drained(self) -> None:
        if self._paused is not None:
            await asyncio.shield(self._paused)
        if self.closed:
            raise LinkClosed(self._why)

    def close(self) -> None:
        self._flush()
        if self._transport is not None:
            self._transport.close()

    # -- asyncio.Protocol -----------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        buffer = self._received
        buffer += data
        at, have = 0, len(buffer)
        try:
            while have - at >= HEADER_BYTES:
                end = at + HEADER_BYTES + body_bytes(buffer, at)
                if have < end:
                    break
                body = bytes(buffer[at + HEADER_BYTES : end])
                at = end
                self._on_message(decode(body))
        except ProtocolError as error:
            self._abort(str(error))
            return
        del buffer[:at]

    def pause_writing(self) -> None:
        if self._loop is not None and self._paused is None:
            self._paused = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._paused is not None:
            self._paused.set_result(None)
            self._paused = None

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._why = str(exc) or type(exc).__name__
        self.resume_writing()
        self._on_lost(self._why)

    # -- inside ---------------------------------------------------------------------------------------------------
    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is None or self._transport.is_closing() or not unsent:
            return
        self._transport.write(b"".join(unsent))
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self._abort(f"the other end left {MAX_UNSENT_BYTES} bytes unread")

    def _abort(self, why: str) -> None:
        self._why = why
        if self._transport is not None:
            with contextlib.suppress(OSError):
                self._transport.abort()
