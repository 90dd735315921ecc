"""The primary model and its fallbacks, as one line of providers for each agent actor.

A :class:`ModelChain` is shared by the agents of a worker and keeps the cooldowns of providers. A
:class:`ModelLine` belongs to one incarnation of an agent actor: it begins at the primary, moves on inside a turn, stays
where a turn succeeded, and is back at the primary after a turn that failed. :mod:`workers.models.route` decides.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog

from workers.models.cause import Cause
from workers.models.context import advice_on_length, size_of
from workers.models.empty import is_empty
from workers.models.gauges import LOOK_UP_BYTES, Gauges
from workers.models.healing import HEALED, Healing
from workers.models.log_throttle import LogThrottle
from workers.models.provider import ModelFailure, ModelProvider, ModelReply, ModelRequest, RequestedModel
from workers.models.route import PRIMARY, after_failure, after_reply, cooldown_s, first_asked, may_fall_back

log = structlog.get_logger(__name__)

MAX_SMALLER = 3  # requests that are made of one that was refused as too large, each smaller than the one before


class ModelChain:
    """The providers of a worker, in the order in which they are asked.

    Args:
        providers: the primary, then its fallbacks; closed with the chain.
        made_of: of the configuration; a chain that would be made of the same may be kept in its place.
        clock: monotonic seconds.

    Raises:
        ValueError: there is no primary.
    """

    def __init__(
        self,
        providers: Sequence[ModelProvider],
        *,
        made_of: object = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not providers:
            raise ValueError("a chain needs a primary")
        self._providers = tuple(providers)
        self._cooldowns = Cooldowns(len(self._providers), clock)
        self._throttle = LogThrottle(clock)  # what all lines tell of failures
        self._gauges = Gauges(self._providers, clock)
        self.made_of = made_of
        self._turns = 0
        self._no_turn = asyncio.Event()
        self._no_turn.set()

    def line(self, healing: Healing | None = None) -> ModelLine:
        """A line at its beginning, for an agent actor that starts.

        Args:
            healing: of its session, which outlives the line; None: a new one.
        """
        return ModelLine(healing or Healing(), self._providers, self._cooldowns, self._throttle, self._gauges)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While a turn asks it."""
        self._turns += 1
        self._no_turn.clear()
        try:
            yield
        finally:
            self._turns -= 1
            if not self._turns:
                self._no_turn.set()

    async def retire(self) -> None:
        """Another one has taken over: close this one once the last turn that asks it is over."""
        await self._no_turn.wait()
        await self.close()

    async def close(self) -> None:
        """Close every provider."""
        await asyncio.gather(*(provider.close() for provider in self._providers))


class ModelLine:
    """Where one agent actor stands in a chain; it asks one thing at a time. Made by :meth:`ModelChain.line`."""

    def __init__(
        self,
        healing: Healing,
        providers: Sequence[ModelProvider],
        cooldowns: Cooldowns,
        throttle: LogThrottle,
        gauges: Gauges,
    ) -> None:
        self._healing = healing
        self._providers = providers
        self._gauges = gauges
        self._cooldowns = cooldowns
        self._throttle = throttle
        self._position = PRIMARY
        self._failures: dict[int, ModelFailure] = {}  # of this turn, the last of each position

    @property
    def position(self) -> int:
        """Who is asked next: 0 is the primary, n the n-th fallback; after a success, it is who answered."""
        return self._position

    @property
    def provider(self) -> str:
        """The name, for people, of the provider at this position."""
        return self._providers[self._position].name

    @property
    def model(self) -> str:
        """The model that is configured at this position."""
        return self._providers[self._position].model

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply | ModelFailure:
        """Ask the provider at this position, and those behind it with the same request where it fails.

        A request's own model is asked of the primary only; fallbacks have their own. A failure is that of the provider
        asked last, and carries those of the others: asked before it in this turn, or skipped in a cooldown.
        """
        is_available = self._cooldowns.available(request.model)
        position = first_asked(self._position, is_available)
        empty: tuple[int, ModelReply] | None = None  # the first empty answer: one with words is better, a failure not
        while True:
            asked = _directed(request, position, has_next=any(is_available[position + 1 :]))
            outcome = await self._asked(asked, position, on_text)
            if isinstance(outcome, ModelReply):
                self._cooldowns.answered(position, request.model)
                following = after_reply(outcome, position, is_available)
                if following is None:
                    return self._answered(*((position, outcome) if empty is None or not is_empty(outcome) else empty))
                empty = empty or (position, outcome)
                request.take_back()
                position = following
                continue
            self._failures[position] = outcome
            self._cooldowns.failed(position, request.model, outcome)
            is_available = self._cooldowns.available(request.model)
            following = after_failure(outcome, position, is_available)
            if following is None:
                return self._told(position, request.model) if empty is None else self._answered(*empty)
            self._tell(outcome, self._providers[following])
            position = following

    def _answered(self, position: int, reply: ModelReply) -> ModelReply:
        self._position = position
        return reply if position == PRIMARY else replace(reply, fallback=position)

    async def _asked(
        self, request: ModelRequest, position: int, on_text: Callable[[str], None]
    ) -> ModelReply | ModelFailure:
        """Ask one provider with a request that fits, and with smaller ones where it was too large.

        One is enough where the provider counts what it refuses; some only say that it is too much.
        """
        size = size_of(request)
        gauge = await self._gauges.known(_place(position, request.model), size)
        if gauge.window is not None or self._healing.leaves_out:  # else it goes as it is
            request = await self._fitted(request, position, refused=False)
            size = size_of(request)
        outcome = await self._counted(request, size, position, on_text)
        for _ in range(MAX_SMALLER):
            if isinstance(outcome, ModelReply) or outcome.cause is not Cause.CONTEXT or outcome.delivered:
                break
            smaller = await self._fitted(request, position, refused=is_longer_than_window(outcome))
            if size_of(smaller) >= size and smaller.parameters == request.parameters:
                break
            request, size = smaller, size_of(smaller)
            outcome = await self._counted(request, size, position, on_text)
        if isinstance(outcome, ModelFailure):
            outcome = await self._healed(outcome, request, position, on_text)
        return outcome

    async def _healed(
        self, refusal: ModelFailure, request: ModelRequest, position: int, on_text: Callable[[str], None]
    ) -> ModelReply | ModelFailure:
        """Ask once more without the failed turns that may be what one provider refuses again and again."""
        who = (refusal.provider, refusal.model)
        smaller = self._healing.once_more(who, refusal, request)
        if smaller is None:
            return refusal
        outcome = await self._counted(smaller, size_of(smaller), position, on_text)
        if isinstance(outcome, ModelFailure):
            return outcome if outcome.delivered else replace(refusal, attempts=refusal.attempts + outcome.attempts)
        turns = self._healing.healed(who, request)
        log.warning(
            "failed turns left out: the provider refused them twice with the same words",
            provider=refusal.provider,
            model=refusal.model,
            status=refusal.status,
            turns=turns,
        )
        return replace(outcome, remark=HEALED)

    async def _fitted(self, request: ModelRequest, position: int, *, refused: bool) -> ModelRequest:
        if request.fit is not None:
            request = await request.fit(request, self._who(position, request.model), refused=refused)
        provider = self._providers[position]
        return self._healing.sent((provider.name, request.model or provider.model), request)

    async def who(self, model: str | None) -> RequestedModel:
        """The model that is asked next, as far as sizes go.

        Args:
            model: that the session chose, instead of the configured one.
        """
        position = first_asked(self._position, self._cooldowns.available(model))
        await self._gauges.known(_place(position, model), LOOK_UP_BYTES)
        return self._who(position, model)

    def _who(self, position: int, model: str | None) -> RequestedModel:
        place = _place(position, model)

        async def ask(request: ModelRequest) -> ModelReply | ModelFailure:
            return await self._counted(replace(request, model=place[1]), size_of(request), position, _ignore_piece)

        return RequestedModel(gauge=lambda: self._gauges.of(place), ask=ask)

    async def _counted(
        self, request: ModelRequest, size: int, position: int, on_text: Callable[[str], None]
    ) -> ModelReply | ModelFailure:
        """Ask one provider with a request of so many bytes, and learn how it counts and what it takes."""
        place = _place(position, request.model)
        outcome = await self._providers[position].complete(request, on_text)
        if isinstance(outcome, ModelReply):
            self._gauges.answered(place, size, outcome)
        elif outcome.cause is Cause.CONTEXT:
            self._gauges.refused(place, size, outcome)
            if advice := advice_on_length(request, self._gauges.of(place)):
                outcome = replace(outcome, advice=advice)
        return outcome

    def _tell(self, failed: ModelFailure, following: ModelProvider) -> None:
        times = self._throttle.happened((failed.provider, failed.model, failed.kind))
        if times:
            log.warning(
                "asking the next provider",
                failed=failed.provider,
                model=failed.model,
                kind=failed.kind,
                status=failed.status,
                next=following.name,
                times=times,
            )

    def turn_ended(self, succeeded: bool) -> None:
        """Stay here for the next turn, or begin it at the primary, if this one did not succeed."""
        self._failures.clear()
        self._healing.turn_ended()
        if not succeeded:
            self._position = PRIMARY

    def _told(self, position: int, model: str | None) -> ModelFailure:
        """The failure that ends the turn, with those of the others."""
        last = self._failures[position]
        passed_over = {
            at: said for at, said in self._cooldowns.said(model).items() if at < position or may_fall_back(last)
        }
        others = passed_over | self._failures
        return replace(last, earlier=tuple(others[at] for at in sorted(others) if at != position))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cooldown:
    until: float
    failure: ModelFailure  # that stated it


class Cooldowns:
    """Which providers must not be asked until when, for a model: a limit of one model may not concern another.

    Args:
        providers: how many there are.
        clock: monotonic seconds.
    """

    def __init__(self, providers: int, clock: Callable[[], float]) -> None:
        self._all_available = (True,) * providers
        self._clock = clock
        self._cooldowns: dict[tuple[int, str | None], _Cooldown] = {}  # by position and a request's own model

    def available(self, model: str | None) -> Sequence[bool]:
        """By position, whether the provider may be asked now."""
        if not self._cooldowns:
            return self._all_available
        self._forget()
        return [_place(at, model) not in self._cooldowns for at in range(len(self._all_available))]

    def said(self, model: str | None) -> dict[int, ModelFailure]:
        """By position, the failures of providers in a cooldown: without a request, with the remaining time."""
        self._forget()
        now = self._clock()
        return {
            at: replace(cooldown.failure, attempts=0, retry_after_s=cooldown.until - now)
            for at in range(len(self._all_available))
            if (cooldown := self._cooldowns.get(_place(at, model)))
        }

    def failed(self, position: int, model: str | None, failure: ModelFailure) -> None:
        """Start a cooldown, if the provider said when it is back."""
        if seconds := cooldown_s(failure):
            self._forget()
            self._cooldowns[_place(position, model)] = _Cooldown(until=self._clock() + seconds, failure=failure)

    def answered(self, position: int, model: str | None) -> None:
        """End the cooldown of a provider that answers."""
        if self._cooldowns:
            self._cooldowns.pop(_place(position, model), None)

    def _forget(self) -> None:
        """Drop cooldowns that are over, which bounds their number."""
        now = self._clock()
        self._cooldowns = {place: cooldown for place, cooldown in self._cooldowns.items() if cooldown.until > now}


def is_longer_than_window(refusal: ModelFailure) -> bool:
    """Whether a request that was refused for its length is itself too long, not only the answer that it asks for."""
    return refusal.window is None or refusal.tokens is None or refusal.tokens >= refusal.window


def _ignore_piece(_piece: str) -> None:
    """Of an answer that is for the gateway itself."""


def _place(position: int, model: str | None) -> tuple[int, str | None]:
    return position, model if position == PRIMARY else None


def _directed(request: ModelRequest, position: int, *, has_next: bool) -> ModelRequest:
    """The request as the provider at this position gets it."""
    model = request.model if position == PRIMARY else None
    if model == request.model and has_next == request.has_next:
        return request
    return replace(request, model=model, has_next=has_next)
