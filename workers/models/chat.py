"""The client of any OpenAI-compatible chat-completions endpoint, always streamed upstream.

This is the hot path of a turn. Messages and tools arrive as JSON and are joined, not encoded. What is known of a
model's limits is kept to; a request is sent by :mod:`workers.models.exchange`, and sent again as
:mod:`workers.models.retry` and :mod:`workers.models.limits` decide.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import aiohttp
import orjson
import structlog

from workers.models.cause import Cause
from workers.models.context import window_in
from workers.models.empty import is_worth_another_try
from workers.models.exchange import Exchange, RequestFailed, Timeouts
from workers.models.failure import Words, names
from workers.models.limits import MAX_LESSONS, ModelLimits, advice_about, limits_learned, within
from workers.models.messages import upstream_messages
from workers.models.provider import ModelFailure, ModelReply, ModelRequest
from workers.models.retry import Tries, next_try
from workers.models.signs import recognise
from workers.models.target import ModelTarget, target_of

log = structlog.get_logger(__name__)

MAX_MODELS = 64  # whose limits are kept; a session may choose any
LISTING_S = 5.0  # for the provider's list of models, which states windows; a turn waits for it once
MAX_LISTING_BYTES = 4 * 1024 * 1024

_OURS = frozenset({"model", "messages", "tools", "stream", "stream_options", "n"})
_TAIL_ALONE = b',"stream":true}'
_TAIL = b',"stream":true,"stream_options":{"include_usage":true}}'


class ChatCompletions:
    """A :class:`workers.models.provider.ModelProvider` for an OpenAI-compatible endpoint.

    One serves all sessions of a worker, on the worker's event loop; its connections are made by the calls and kept.

    Args:
        name: for people.
        model: asked for where a request names none.
        base_url: below which ``/chat/completions`` lies; checked.
        key: sent as the bearer token, and never shown.
        key_env: the name of the variable that it came from.
        timeouts: the time-outs.
        max_retries: ``agent.api_max_retries``.
        max_lessons: how often one request is made once more without what was refused.
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
        timeouts: Timeouts,
        max_retries: int,
        max_lessons: int = MAX_LESSONS,
        context_length: int | None = None,
        vision: bool | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._model = model
        self._key_env = key_env
        self._exchange = Exchange(provider=name, base_url=base_url, key=key, timeouts=timeouts, clock=clock)
        self._max_retries = max_retries
        self._max_lessons = max_lessons
        self._context_length = context_length
        self._no_limits = ModelLimits(vision=vision)
        self._limits: dict[str, ModelLimits] = {}  # by model
        self._targets: dict[str, tuple[ModelLimits, ModelTarget]] = {}  # by model: who is asked within these limits
        self._sleep = sleep
        self._draw = draw
        self._clock = clock

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
                listing = await self._exchange.listing(MAX_LISTING_BYTES)
                return None if listing is None else window_in(orjson.loads(listing), model)
        except (TimeoutError, aiohttp.ClientError, orjson.JSONDecodeError) as error:
            log.debug("the window of a model is not stated", provider=self._name, model=model, why=type(error).__name__)
            return None

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply | ModelFailure:
        model = request.model or self._model
        tries, attempts, lessons = Tries(), 0, 0
        limits = self._limits_of(model)
        empty: ModelReply | None = None  # it gave an empty answer, and is asked once more
        while True:
            attempts += 1
            sent, target = within(limits, request), self._target(limits, model)
            started = self._clock()
            try:
                reply = await self._exchange.attempt(sent, request_body(sent, target), model, on_text)
                if empty is not None or not is_worth_another_try(reply):
                    return reply if empty is None else replace(reply, usage=_summed(empty.usage, reply.usage))
                empty = reply
                request.take_back()
                continue
            except RequestFailed as failed:
                failure = self._failure(failed, sent, model, attempts, delivered=not request.take_back())
                words = failed.words
            if lessons < self._max_lessons and (better := self._learn(limits, failure, words, sent)):
                limits, lessons = better, lessons + 1
                continue
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
        await self._exchange.close()

    # -- inside ---------------------------------------------------------------------------------------------------
    def _limits_of(self, model: str) -> ModelLimits:
        return self._limits.get(model) or self._no_limits

    def _target(self, limits: ModelLimits, model: str) -> ModelTarget:
        known = self._targets.get(model)
        if known is None or known[0] is not limits:  # made once, not for each request
            if len(self._targets) >= MAX_MODELS:
                self._targets.clear()
            known = self._targets[model] = limits, target_of(limits, provider=self._name, model=model)
        return known[1]

    def _learn(
        self, limits: ModelLimits, failure: ModelFailure, words: Words, sent: ModelRequest
    ) -> ModelLimits | None:
        """Keep what a refusal teaches of the model; what its request is sent within now, or None: it taught nothing.

        A request that lacks what another one of this model may have teaches nothing of the model, only of itself.
        """
        if failure.delivered or (lesson := limits_learned(limits, failure.cause, words, sent)) is None:
            return None
        known = self._limits_of(failure.model)
        of_model = limits_learned(known, failure.cause, words, sent) if lesson.lasting else None
        if of_model is None or of_model.limits == known or known.takes_attached != limits.takes_attached:
            return lesson.limits
        if len(self._limits) >= MAX_MODELS and failure.model not in self._limits:
            self._limits.clear()
        self._limits[failure.model] = of_model.limits
        log.warning("limit of a model learned", provider=self._name, model=failure.model, limit=of_model.said)
        return lesson.limits

    def _failure(
        self, failed: RequestFailed, sent: ModelRequest, model: str, attempts: int, *, delivered: bool
    ) -> ModelFailure:
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
            advice=advice or (advice_about(words, sent.tools) if cause is Cause.TOOLS else ""),
            key_env=self._key_env,
            answered=failed.answered,
            delivered=delivered,
        )


def request_body(request: ModelRequest, target: ModelTarget) -> bytes:
    """The body of a request, joined of what is JSON already; parameters do not overrule what is ours to say."""
    messages = b",".join(upstream_messages(request, target))
    parts = [b'{"model":', orjson.dumps(target.model), b',"messages":[', messages, b"]"]
    if request.tools.joined:
        parts += (b',"tools":', request.tools.joined)
    if parameters := {name: value for name, value in request.parameters.items() if name not in _OURS}:
        parts += (b",", orjson.dumps(parameters)[1:-1])
    parts.append(_TAIL if target.takes_stream_options else _TAIL_ALONE)
    return b"".join(parts)


def _summed(one: Mapping[str, int], two: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + two.get(name, 0) for name in {**one, **two}}
