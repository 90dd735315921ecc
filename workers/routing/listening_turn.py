"""The caller's end of a turn: its events wait here until the ingress takes them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Generic, TypeVar

from workers.turns import Delta, Ended, GatewayDraining, NumberedEvent, Reasoning, TurnEvent

E = TypeVar("E")


class _EventQueue(ABC, Generic[E]):
    """Events that wait, in order. Text that waits is joined, so a slow caller costs no more than the reply itself."""

    def __init__(self, turn_id: str) -> None:
        self.turn_id = turn_id
        self._events: deque[E] = deque()
        self._pieces: list[str] = []  # text, or reasoning, after the last of the events
        self._kind: type[Delta | Reasoning] = Delta  # of the pieces
        self._waiter: asyncio.Future[None] | None = None
        self._leave: Callable[[], None] | None = None
        self._complete = False  # the end is among the events
        self._over = False  # the caller took it, or went away

    @property
    def ended(self) -> bool:
        """Whether the end was heard, or the caller went away."""
        return self._over or self._complete

    def attach(self, turn_id: str, leave: Callable[[], None]) -> None:
        """The turn's owner has it; ``leave`` ends the caller's interest. A caller who went away leaves at once."""
        self.turn_id = turn_id
        self._leave = leave
        if self._over:
            leave()

    @abstractmethod
    def _queued(self, event: TurnEvent) -> E:
        """An event as the caller takes it."""

    def _put(self, event: TurnEvent) -> None:
        if isinstance(event, Delta | Reasoning):
            if self._kind is not type(event):
                self._join()
                self._kind = type(event)
            self._pieces.append(event.text)
        else:
            self._join()
            self._events.append(self._queued(event))
            self._complete = isinstance(event, Ended)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _join(self) -> None:
        if self._pieces:
            self._events.append(self._queued(self._kind(text="".join(self._pieces))))
            self._pieces.clear()

    async def peek(self, within_s: float) -> E | None:
        """The event that comes next, which stays to be taken; None: none came within so many seconds."""
        if not self._events:
            self._join()
        if not self._events and not self._over:
            with suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._news()
            self._join()
        return self._events[0] if self._events else None

    def _news(self) -> asyncio.Future[None]:
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

    async def __aiter__(self) -> AsyncIterator[E]:
        while not self._over:
            if not self._events:
                self._join()
            if not self._events:
                await self._news()  # every turn has an end, which is an event
                continue
            event = self._events.popleft()
            self._over = self._complete and not self._events
            yield event

    def abandon(self) -> None:
        """The caller went away."""
        if not self._over:
            self._over = True
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)
            if self._leave is not None:
                self._leave()


class ListeningTurn(_EventQueue[TurnEvent]):
    """A :class:`workers.gateway.Turn`: the caller hears the turn that they sent."""

    def __init__(self, turn_id: str) -> None:
        super().__init__(turn_id)
        self.heard = False  # something of the turn came already

    def hear(self, event: TurnEvent) -> None:
        """The next event; what :meth:`workers.sessions.feed.TurnFeed.listen` calls."""
        if self.ended:
            return
        self.heard = self.heard or not isinstance(event, GatewayDraining)
        self._put(event)

    def _queued(self, event: TurnEvent) -> TurnEvent:
        return event


class ReadingTurn(_EventQueue[NumberedEvent]):
    """A :class:`workers.gateway.TurnReading`: a turn is heard again.

    Args:
        principal: whose turn.
        turn_id: which.
        after: the number of the last message that the caller heard.
    """

    def __init__(self, principal: str, turn_id: str, after: int) -> None:
        super().__init__(turn_id)
        self.principal = principal
        self.seq = after  # of the last event that came

    def hear(self, event: NumberedEvent) -> None:
        """The next event; what :meth:`workers.sessions.feed.TurnFeed.read` calls."""
        if self.ended:
            return
        if event.seq != self.seq:
            self._join()
            self.seq = event.seq
        self._put(event.event)

    def _queued(self, event: TurnEvent) -> NumberedEvent:
        return NumberedEvent(seq=self.seq, event=event)
