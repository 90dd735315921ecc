"""The client of any OpenAI-compatible chat-completions endpoint, always streamed upstream.

This is the hot path of a turn. Messages and tools arrive as JSON and are joined, not encoded; a stream is cut into
events by :mod:`workers.models.reading` and put together by :mod:`workers.models.reply`; one timer watches all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import aiohttp
import orjson
import structlog
from yarl import URL

from workers.models.cause import Cause
from workers.models.context import window_in
from workers.models.empty import is_worth_another_try
from workers.models.error_chunk import BrokenOff, ErrorObject, Malformed
from workers.models.failure import NO_WORDS, Words, names, secrets_of, tidy, words_of_body, words_of_error
from workers.models.messages import upstream_messages
from workers.models.oddities import Oddities
from workers.models.patience import Patience
from workers.models.provider import ModelFailure, ModelReply, ModelRequest
from workers.models.reading import Hear, WebPage, read_answer
from workers.models.reply import ReplyBuilder
from workers.models.retry import Tries, next_try
from workers.models.retry_after import back_in_s
from workers.models.signs import WEB_PAGE, recognise
from workers.models.sse import EventTooLarge
from workers.models.target import Target

log = structlog.get_logger(__name__)

MAX_CONNECTIONS = 1024  # at a time; a call beyond them waits for one, at most its connect time-out
KEEP_ALIVE_S = 15.0
DNS_CACHE_S = 60
MAX_ERROR_BYTES = 64 * 1024  # read of an error body
ERROR_BODY_S = 5.0
LISTING_S = 5.0  # for the provider's list of models, which states windows; a turn waits for it once
MAX_LISTING_BYTES = 4 * 1024 * 1024
CLOSE_S = 5.0

_LARGE_BODY_BYTES = 2**20  # above it aiohttp wants a file, which it sends in pieces
_OURS = frozenset({"model", "messages", "tools", "stream", "stream_options", "n"})
_TAIL = b',"stream":true,"stream_options":{"include_usage":true}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Patiences:
    """How long a call waits, in seconds."""

    connect: float  # until there is a connection
    first_token: float  # from the start of the request to the first piece of the answer
    inter_token: float  # from one piece to the next


class _Failed(Exception):
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


class ChatCompletions:
    """A :class:`workers.models.provider.ModelProvider` for an OpenAI-compatible endpoint.

    One serves all sessions of a worker, on the worker's event loop; its connections are made by the calls and kept.

    Args:
        name: for people.
        model: asked for where a request names none.
        base_url: below which ``/chat/completions`` lies; checked.
        key: sent as the bearer token, and never shown.
        key_env: the name of the variable that it came from.
        patiences: the time-outs.
        max_retries: ``agent.api_max_retries``.
        context_length: the model's window in tokens, where the configuration states it.
        vision: whether the model takes pictures, where the configuration says so.
        sleep: waits between retries.
        draw: a random number from 0 to 1.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        name: str,
        model: str,
        base_url: str,
        key: str | None,
        key_env: str | None = None,
        patiences: Patiences,
        max_retries: int,
        context_length: int | None = None,
        vision: bool | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._model = model
        self._url = URL(base_url) / "chat" / "completions"
        self._key = key
        self._key_env = key_env
        self._secrets = secrets_of(key, base_url)
        self._patiences = patiences
        self._max_retries = max_retries
        self._context_length = context_length
        self._vision = vision
        self._sleep = sleep
        self._draw = draw
        self._clock = clock
        self._oddities = Oddities(clock)
        self._session: aiohttp.ClientSession | None = None

    # -- ModelProvider --------------------------------------------------------------------------------------------
    @property
    def name(self) -> str:
        return self._name

    @property
    def model(self) -> str:
        return self._model

    @property
    def context_length(self) -> int | None:
        return self._context_length

    async def window(self, model: str) -> int | None:
        try:
            async with asyncio.timeout(LISTING_S):
                response = await self._connected().get(self._url.parent.parent / "models", allow_redirects=False)
                async with response:
                    if response.status != 200:
                        return None
                    return window_in(orjson.loads(await response.content.read(MAX_LISTING_BYTES)), model)
        except (TimeoutError, aiohttp.ClientError, orjson.JSONDecodeError) as error:
            log.debug("the window of a model is not stated", provider=self._name, model=model, why=type(error).__name__)
            return None

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply | ModelFailure:
        model = request.model or self._model
        body = request_body(request, Target(provider=self._name, model=model, vision=self._vision))
        tries = Tries()
        attempts = 0
        empty: ModelReply | None = None  # it gave an empty answer, and is asked once more
        while True:
            attempts += 1
            started = self._clock()
            try:
                reply = await self._attempt(request, body, model, on_text)
                if empty is not None or not is_worth_another_try(reply):
                    return reply if empty is None else replace(reply, usage=_summed(empty.usage, reply.usage))
                empty = reply
                request.take_back()
                continue
            except _Failed as failed:
                failure = self._failure(failed, model, attempts, delivered=not request.take_back())
            delay, tries = next_try(
                failure,
                tries,
                took_s=self._clock() - started,
                max_retries=self._max_retries,
                draw=self._draw,
                has_next=request.has_next,
            )
            if delay is None:
                return failure
            await self._sleep(delay)

    async def close(self) -> None:
        if self._session is not None:
            # Closing is done at once; what may take time is that the other ends agree.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._session.close()

    # -- one request ----------------------------------------------------------------------------------------------
    async def _attempt(self, request: ModelRequest, body: bytes, model: str, on_text: Hear) -> ModelReply:
        """Send the request once.

        Raises:
            _Failed: there is no whole reply.
        """
        builder = ReplyBuilder()
        patience = Patience("first token", self._patiences.first_token)
        try:
            async with patience:
                await self._exchange(body, builder, patience, on_text, request.on_reasoning)
        except (TimeoutError, aiohttp.ClientError) as error:
            if not builder.complete:  # else only the end of the body is missing
                raise self._broken(error, patience, answered=builder.answered) from error
        except ErrorObject as error:
            raise _of_words(words_of_error(error.chunk, self._secrets), status=None) from error
        except BrokenOff as error:
            words = Words(text="", code=error.word, status=None, codes=frozenset({error.word}))
            why = tidy(str(error), self._secrets)
            raise _Failed("cut", why, code=words.code, words=words, answered=builder.answered) from error
        except (Malformed, EventTooLarge) as error:
            if not builder.complete:
                code = WEB_PAGE if isinstance(error, WebPage) else None
                raise _Failed("malformed", tidy(str(error), self._secrets), code=code) from error
        if not builder.complete:
            raise _Failed("cut", "the stream ended in the middle of the answer", answered=builder.answered)
        if text := builder.finish():
            on_text(text)
        try:
            reply = builder.reply(model, provider=self._name)
        except Malformed as error:
            raise _Failed("malformed", str(error)) from error
        self._oddities.tell(reply, builder, request.tools)
        return reply

    async def _exchange(
        self, body: bytes, builder: ReplyBuilder, patience: Patience, on_text: Hear, on_reasoning: Hear
    ) -> None:
        data = body if len(body) <= _LARGE_BODY_BYTES else io.BytesIO(body)
        response = await self._connected().post(self._url, data=data, allow_redirects=False)
        try:
            if not 200 <= response.status <= 299:
                raise await self._refused(response, patience)
            await read_answer(
                response.content,
                builder,
                patience,
                inter_token_s=self._patiences.inter_token,
                on_text=on_text,
                on_reasoning=on_reasoning,
            )
        finally:
            if not response.closed:  # left before its end: the connection cannot be used again
                response.close()

    async def _refused(self, response: aiohttp.ClientResponse, patience: Patience) -> _Failed:
        """What an answer says whose status is an error."""
        patience.expect("error body", 2 * ERROR_BODY_S)  # the bound below comes first
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
                timeout=aiohttp.ClientTimeout(connect=self._patiences.connect),
            )
        return self._session

    def _broken(self, error: Exception, patience: Patience, *, answered: bool) -> _Failed:
        """What an exception of the connection means."""
        match error:
            case aiohttp.ConnectionTimeoutError():
                return _Failed("timeout", f"no connection within {self._patiences.connect:g} s")
            case TimeoutError():
                return _Failed("timeout", str(patience))
            case aiohttp.ClientConnectorError():
                return _Failed("connect", tidy(str(error), self._secrets))
            case aiohttp.ClientResponseError():
                return _Failed("malformed", f"the answer is not HTTP: {tidy(error.message, self._secrets)}")
            case _ if answered:
                return _Failed("cut", "the connection broke in the middle of the answer", answered=True)
            case _:
                return _Failed("cut", "the connection broke before an answer came")

    def _failure(self, failed: _Failed, model: str, attempts: int, *, delivered: bool) -> ModelFailure:
        words = failed.words
        cause, advice = recognise(
            failed.kind,
            failed.status,
            codes=words.codes,
            param=words.param,
            text=words.raw,
            named=names(words.raw, model),
        )
        return ModelFailure(
            cause=cause,
            kind=failed.kind,
            provider=self._name,
            model=model,
            status=failed.status,
            text=str(failed),
            code=failed.code,
            retry_after_s=failed.retry_after_s,
            attempts=attempts,
            window=words.window if cause is Cause.CONTEXT else None,
            tokens=words.tokens if cause is Cause.CONTEXT else None,
            advice=advice,
            key_env=self._key_env,
            answered=failed.answered,
            delivered=delivered,
        )


def request_body(request: ModelRequest, target: Target) -> bytes:
    """The body of a request, joined of what is JSON already; parameters do not overrule what is ours to say."""
    messages = b",".join(upstream_messages(request, target))
    parts = [b'{"model":', orjson.dumps(target.model), b',"messages":[', messages, b"]"]
    if request.tools.joined:
        parts += (b',"tools":', request.tools.joined)
    if parameters := {name: value for name, value in request.parameters.items() if name not in _OURS}:
        parts += (b",", orjson.dumps(parameters)[1:-1])
    parts.append(_TAIL)
    return b"".join(parts)


def _summed(one: Mapping[str, int], two: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + two.get(name, 0) for name in {**one, **two}}


def _of_words(words: Words, *, status: int | None) -> _Failed:
    text = words.text or "no reason given"
    return _Failed("status", text, status=status or words.status, code=words.code, words=words)


def _host_of(location: str) -> str:
    """Where a redirect leads; its path may hold what is secret."""
    try:
        return URL(location).host or "another path"
    except ValueError:
        return "elsewhere"
