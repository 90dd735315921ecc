"""One request to a chat-completions endpoint: sent once, its answer read, whichever way it ends.

The answer is cut into events by :mod:`workers.models.reading` and put together by :mod:`workers.models.reply`; one
timer watches all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import aiohttp
from yarl import URL

from workers.models.error_chunk import BrokenOff, ErrorObject, Malformed
from workers.models.failure import NO_WORDS, Words, secrets_of, tidy, words_of_body, words_of_error
from workers.models.oddities import Oddities
from workers.models.provider import ModelReply, ModelRequest
from workers.models.reading import OnText, WebPage, read_answer
from workers.models.reply import ReplyBuilder
from workers.models.retry_after import back_in_s
from workers.models.signs import WEB_PAGE
from workers.models.sse import EventTooLarge
from workers.models.timeouts import MovingTimeout

MAX_CONNECTIONS = 1024  # at a time; a call beyond them waits for one, at most its connect time-out
KEEP_ALIVE_S = 15.0
DNS_CACHE_S = 60
MAX_ERROR_BYTES = 64 * 1024  # read of an error body
ERROR_BODY_S = 5.0
CLOSE_S = 5.0

_LARGE_BODY_BYTES = 2**20  # above it aiohttp wants a file, which it sends in pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a call waits, in seconds."""

    connect: float  # until there is a connection
    first_token: float  # from the start of the request to the first piece of the answer
    inter_token: float  # from one piece to the next


class RequestFailed(Exception):
    """How one request failed."""

    def __init__(
        self,
        kind: str,
        text: str,
        *,
        status: int | None = None,
        code: str | None = None,
        words: Words = NO_WORDS,
        answered: bool = False,
    ) -> None:
        super().__init__(text)
        self.words = words  # the provider's
        self.kind = kind
        self.status = status
        self.code = code
        self.answered = answered
        self.retry_after_s: float | None = words.retry_after_s


class Exchange:
    """The requests to one endpoint, on one event loop; its connections are made by the first and kept.

    Args:
        provider: its name for people.
        base_url: below which ``/chat/completions`` lies; checked.
        key: sent as the bearer token, and never shown.
        timeouts: the time-outs.
        clock: monotonic seconds.
    """

    def __init__(
        self, *, provider: str, base_url: str, key: str | None, timeouts: Timeouts, clock: Callable[[], float]
    ) -> None:
        self._provider = provider
        self._url = URL(base_url) / "chat" / "completions"
        self._key = key
        self._secrets = secrets_of(key, base_url)
        self._timeouts = timeouts
        self._oddities = Oddities(clock)
        self._session: aiohttp.ClientSession | None = None

    async def listing(self, max_bytes: int) -> bytes | None:
        """The provider's list of models, or None where it has none.

        Raises:
            aiohttp.ClientError: it cannot be had.
        """
        async with await self._connected().get(self._url.parent.parent / "models", allow_redirects=False) as response:
            return await response.content.read(max_bytes) if response.status == 200 else None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            # Closing is done at once; what may take time is that the other ends agree.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._session.close()

    async def attempt(self, request: ModelRequest, body: bytes, model: str, on_text: OnText) -> ModelReply:
        """Send the request once.

        Raises:
            Failed: there is no whole reply.
        """
        builder = ReplyBuilder()
        wait = MovingTimeout("first token", self._timeouts.first_token)
        try:
            async with wait:
                await self._exchange(body, builder, wait, on_text, request.on_reasoning)
        except (TimeoutError, aiohttp.ClientError) as error:
            if not builder.complete:  # else only the end of the body is missing
                raise self._broken(error, wait, answered=builder.answered) from error
        except ErrorObject as error:
            raise _of_words(words_of_error(error.chunk, self._secrets), status=None) from error
        except BrokenOff as error:
            words = Words(text="", code=error.word, status=None, codes=frozenset({error.word}))
            why = tidy(str(error), self._secrets)
            raise RequestFailed("cut", why, code=words.code, words=words, answered=builder.answered) from error
        except (Malformed, EventTooLarge) as error:
            if not builder.complete:
                code = WEB_PAGE if isinstance(error, WebPage) else None
                raise RequestFailed("malformed", tidy(str(error), self._secrets), code=code) from error
        if not builder.complete:
            raise RequestFailed("cut", "the stream ended in the middle of the answer", answered=builder.answered)
        if text := builder.finish():
            on_text(text)
        try:
            reply = builder.reply(model, provider=self._provider)
        except Malformed as error:
            raise RequestFailed("malformed", str(error)) from error
        self._oddities.tell(reply, builder, request.tools)
        return reply

    async def _exchange(
        self, body: bytes, builder: ReplyBuilder, wait: MovingTimeout, on_text: OnText, on_reasoning: OnText
    ) -> None:
        data = body if len(body) <= _LARGE_BODY_BYTES else io.BytesIO(body)
        response = await self._connected().post(self._url, data=data, allow_redirects=False)
        try:
            if not 200 <= response.status <= 299:
                raise await self._refused(response, wait)
            await read_answer(
                response.content,
                builder,
                wait,
                inter_token_s=self._timeouts.inter_token,
                on_text=on_text,
                on_reasoning=on_reasoning,
            )
        finally:
            if not response.closed:  # left before its end: the connection cannot be used again
                response.close()

    async def _refused(self, response: aiohttp.ClientResponse, wait: MovingTimeout) -> RequestFailed:
        """What an answer says whose status is an error."""
        wait.expect("error body", 2 * ERROR_BODY_S)  # the bound below comes first
        body = bytearray()
        try:
            async with asyncio.timeout(ERROR_BODY_S):
                while len(body) < MAX_ERROR_BYTES and (piece := await response.content.readany()):
                    body += piece
        except (TimeoutError, aiohttp.ClientError):
            pass  # the status stands, with as many words as came
        words = words_of_body(bytes(body[:MAX_ERROR_BYTES]), self._secrets)
        if 300 <= response.status <= 399:
            place = tidy(_host_of(response.headers.get("location", "")), self._secrets)
            words = Words(text=f"the provider redirects to {place}: check base_url", code=None, status=None)
        elif not words.text:
            words = replace(words, text=tidy(response.reason or "", self._secrets), status=None)
        failed = _of_words(words, status=response.status)
        if (back_in := back_in_s(response.status, response.headers, time.time())) is not None:
            failed.retry_after_s = back_in
        return failed

    # -- inside ---------------------------------------------------------------------------------------------------
    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "hermes-actors"}
            if self._key:
                headers["Authorization"] = f"Bearer {self._key}"
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=MAX_CONNECTIONS, keepalive_timeout=KEEP_ALIVE_S, ttl_dns_cache=DNS_CACHE_S
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=headers,
                timeout=aiohttp.ClientTimeout(connect=self._timeouts.connect),
            )
        return self._session

    def _broken(self, error: Exception, wait: MovingTimeout, *, answered: bool) -> RequestFailed:
        """What an exception of the connection means."""
        match error:
            case aiohttp.ConnectionTimeoutError():
                return RequestFailed("timeout", f"no connection within {self._timeouts.connect:g} s")
            case TimeoutError():
                return RequestFailed("timeout", str(wait))
            case aiohttp.ClientConnectorError():
                return RequestFailed("connect", tidy(str(error), self._secrets))
            case aiohttp.ClientResponseError():
                return RequestFailed("malformed", f"the answer is not HTTP: {tidy(error.message, self._secrets)}")
            case _ if answered:
                return RequestFailed("cut", "the connection broke in the middle of the answer", answered=True)
            case _:
                return RequestFailed("cut", "the connection broke before an answer came")


def _of_words(words: Words, *, status: int | None) -> RequestFailed:
    text = words.text or "no reason given"
    return RequestFailed("status", text, status=status or words.status, code=words.code, words=words)


def _host_of(location: str) -> str:
    """Where a redirect leads; its path may hold what is secret."""
    try:
        return URL(location).host or "another path"
    except ValueError:
        return "elsewhere"
