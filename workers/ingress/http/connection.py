"""A client's connection: aiohttp's HTTP/1.1 with our limits, our words for what is no HTTP, and notice of its loss."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from workers.ingress.http.errors import ApiError

log = structlog.get_logger(__name__)

MAX_LINE_BYTES = 8190  # of the request line
MAX_FIELD_BYTES = 8190  # of one header field, its name included
MAX_HEADERS = 100
FRESH_S = 0.1  # within which a client that connects sends its request


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """How long a client may keep us waiting, in seconds."""

    idle_s: float = 75.0  # for a request's whole head: since the connection was made, or since the last answer
    body_s: float = 60.0  # for a request's whole body
    linger_s: float = 5.0  # for the rest of a body that was answered before it was read
    stalled_s: float = 60.0  # for taking anything of an answer that waits for it
    keep_alive_s: float = 15.0  # between the comments that show that a stream lives


class ClientConnection(web.RequestHandler):
    """One connection of a client.

    ``lost`` is done when the connection is gone. ``on_lost``, where a handler has set it, is called at that moment.
    ``asked`` is set with the first request.
    """

    __slots__ = ("_made_at", "_stall", "_stalled_s", "asked", "lost", "on_lost")

    def __init__(self, server: web.Server, *, loop: asyncio.AbstractEventLoop, limits: ClientLimits) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=limits.idle_s,
            lingering_time=limits.linger_s,
            access_log=None,  # type: ignore[arg-type]  # so aiohttp turns it off
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            max_headers=MAX_HEADERS,
            auto_decompress=False,
        )
        self.lost: asyncio.Future[None] = loop.create_future()
        self.on_lost: Callable[[], object] | None = None
        self._stalled_s = limits.stalled_s
        self._stall: asyncio.TimerHandle | None = None
        self._made_at = loop.time()
        self.asked = False

    @property
    def fresh(self) -> bool:
        """Whether it was accepted a moment ago, so that its first request is on its way."""
        return not self.asked and self._loop.time() - self._made_at < FRESH_S

    @property
    def idle(self) -> bool:
        """Whether no request has arrived that is not answered."""
        return self._waiter is not None and not self._waiter.done()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._stop_watching()
        if not self.lost.done():
            self.lost.set_result(None)
        if self.on_lost is not None:
            self.on_lost()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_watching()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # aiohttp passes it by position
    ) -> web.StreamResponse:
        """What aiohttp asks for when a request is no HTTP, or when a handler of ours broke."""
        error = _no_http(exc)
        if error is None:
            log.error("request failed by a bug", method=request.method, status=status, exc_info=exc)
            error = ApiError(500, "internal_error", "The gateway has an internal error; its log has the details.")
        if request.writer.output_size:
            raise ConnectionError("the answer has begun: all that is left is to close the connection") from exc
        return error.response()

    def _watch(self) -> None:
        """Give up on a client that takes nothing of what waits for it; one that takes it slowly is served."""
        if self.transport is not None:
            waiting = self.transport.get_write_buffer_size()
            self._stall = self._loop.call_later(self._stalled_s, self._check, waiting)

    def _check(self, waited: int) -> None:
        if self.transport is not None and self.transport.get_write_buffer_size() >= waited:
            self.transport.abort()
        else:
            self._watch()

    def _stop_watching(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


def _no_http(exc: BaseException | None) -> ApiError | None:
    """The error for what the parser refused. The parser's own words quote the request, so they go nowhere."""
    if isinstance(exc, LineTooLong):
        return ApiError(
            431,
            "headers_too_large",
            f"The request line may have {MAX_LINE_BYTES} bytes, a header field {MAX_FIELD_BYTES}.",
        )
    if isinstance(exc, HttpProcessingError):
        return ApiError(
            400, "bad_http", f"This is not a valid HTTP/1.1 request (or it has more than {MAX_HEADERS} header fields)."
        )
    return None
