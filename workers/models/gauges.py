"""What a worker has learned of the windows of its models, and of how they count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from workers.models.gauge import LEAST_WINDOW, Gauge
from workers.models.provider import ModelFailure, ModelProvider, ModelReply

log = structlog.get_logger(__name__)

LOOKED_UP_FROM_TOKENS = 1000  # of a request: no model that is used for agents has a window that this would fill
LOOK_UP_BYTES = 2**20  # a size at which the window always matters
LOOKED_UP_AGAIN_S = 600.0  # after a provider that did not state a model's window
MOST = 256  # models that are known at a time; people choose any name with /model
TOO_LARGE_STATUS = 413  # of a body, whose bytes count: those of pictures above all
REFUSED_SHARE = 0.9  # of a refused request, for a model that refuses as too large and states no window

Place = tuple[int, str | None]  # position in the chain, and the model that a request chose


class Gauges:
    """The gauges of a chain, by provider and model.

    Args:
        providers: of the chain.
        clock: monotonic seconds.
    """

    def __init__(self, providers: Sequence[ModelProvider], clock: Callable[[], float]) -> None:
        self._providers = providers
        self._clock = clock
        self._gauges: dict[Place, Gauge] = {}
        self._looked_up: dict[Place, float] = {}  # until when no other look is worth it
        self._looks: dict[Place, asyncio.Task[int | None]] = {}  # under way

    def of(self, place: Place) -> Gauge:
        """What is known of a model."""
        return self._gauges.get(place) or Gauge(window=self._configured(place))

    async def known(self, place: Place, size: int) -> Gauge:
        """What can be known of a model that is about to get a request of so many bytes.

        The provider is asked for the window once a request is so large that it matters.
        """
        gauge = self.of(place)
        if gauge.window is not None or gauge.tokens(size) < LOOKED_UP_FROM_TOKENS:
            return gauge
        if self._clock() < self._looked_up.get(place, 0.0):
            return gauge
        look = self._looks.get(place)
        if look is None:
            position, model = place
            provider = self._providers[position]
            look = self._looks[place] = asyncio.create_task(provider.window(model or provider.model))
            look.add_done_callback(lambda done: self._looked(place, done))
        await asyncio.wait((look,))  # the provider bounds it; a caller who leaves does not end it for the others
        return self.of(place)

    def answered(self, place: Place, size: int, reply: ModelReply) -> None:
        """A model answered a request of so many bytes, and counted it; a count above the window shows a larger one."""
        tokens = reply.usage.get("prompt_tokens", 0)
        gauge = self.of(place).counted(size, tokens)
        if gauge.window is not None and tokens > gauge.window and gauge.window != self._configured(place):
            log.info("a model takes more than was learned", provider=reply.provider, model=reply.asked, tokens=tokens)
            gauge = replace(gauge, window=self._configured(place))
        self._keep(place, gauge)

    def refused(self, place: Place, size: int, failure: ModelFailure) -> None:
        """A model refused a request of so many bytes as too large.

        A window is learned of what it says, else of what it was sent; but not of a body that was too large for a proxy
        (413), nor of a figure so small that it is a mistake.
        """
        gauge = self.of(place).refused(size, failure.tokens, failure.window)
        guess = 0 if failure.status == TOO_LARGE_STATUS else int(REFUSED_SHARE * gauge.tokens(size))
        window = failure.window or guess
        if window >= LEAST_WINDOW and (gauge.window is None or window < gauge.window):
            log.info("window of a model learned", provider=failure.provider, model=failure.model, tokens=window)
            gauge = replace(gauge, window=window)
        self._keep(place, gauge)

    def _keep(self, place: Place, gauge: Gauge) -> None:
        if len(self._gauges) >= MOST and place not in self._gauges:
            del self._gauges[next(iter(self._gauges))]  # the one that is known for longest
        self._gauges[place] = gauge

    def _configured(self, place: Place) -> int | None:
        position, model = place
        return self._providers[position].context_length if model is None else None

    def _looked(self, place: Place, look: asyncio.Task[int | None]) -> None:
        del self._looks[place]
        if look.cancelled():  # the worker ends
            return
        window = look.result()
        if window is not None:
            if self.of(place).window is None:
                self._keep(place, replace(self.of(place), window=window))
            return
        now = self._clock()
        if len(self._looked_up) >= MOST:
            self._looked_up = {at: until for at, until in self._looked_up.items() if until > now}
        self._looked_up[place] = now + LOOKED_UP_AGAIN_S
