"""The caller's end of a turn: its events wait here until the ingress takes them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from workers.turns import Delta, Ended, GatewayDraining, Reasoning, TurnEvent


class ListeningTurn:
    """A :class:`workers.gateway.Turn` made of callbacks: events wait here until the ingress takes them.

    Text that waits is joined, so a caller who reads slowly costs no more than the reply itself.
    """

    def __init__(self, turn_id: str) -> None:
        self.turn_id = turn_id
        self.heard = False  # something of the turn came already
        self._events: deque[TurnEvent] = deque()
        self._pieces: list[str] = []  # text, or reasoning, after the last of the events
        self._kind: type[Delta | Reasoning] = Delta  # of the pieces
        self._waiter: asyncio.Future[None] | None = None
        self._leave: Callable[[], None] | None = None
        self._over = False

    @property
    def ended(self) -> bool:
        """Whether the end was heard, or nobody wants to hear it."""
        return self._over or (bool(self._events) and isinstance(self._events[-1], Ended))

    def attach(self, turn_id: str, leave: Callable[[], None]) -> None:
        """The turn's owner has it, and this is how to leave it; who went away meanwhile leaves at once."""
        self.turn_id = turn_id
        self._leave = leave
        if self._over:
            leave()

    def hear(self, event: TurnEvent) -> None:
        """The next event; what :meth:`workers.sessions.feed.TurnFeed.listen` calls."""
        if self._over:
            return
        self.heard = self.heard or not isinstance(event, GatewayDraining)
        if isinstance(event, Delta | Reasoning):
            if self._kind is not type(event):
                self._join()
                self._kind = type(event)
            self._pieces.append(event.text)
        else:
            self._join()
            self._events.append(event)
        self._wake()

    async def __aiter__(self) -> AsyncIterator[TurnEvent]:
        while not self._over:
            if not self._events:
                self._join()
            if not self._events:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter  # every turn has an end, which is an event
                continue
            event = self._events.popleft()
            self._over = isinstance(event, Ended)
            yield event

    def _join(self) -> None:
        if self._pieces:
            self._events.append(self._kind(text="".join(self._pieces)))
            self._pieces.clear()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def abandon(self) -> None:
        if not self._over:
            self._over = True
            self._wake()
            if self._leave is not None:
                self._leave()
