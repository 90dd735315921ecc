"""What the agents of a worker work with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from workers.models.chain import ModelChain


class Agency:
    """What the agents of a worker work with, as one configuration says. A turn keeps to the one it began with.

    Args:
        models: closed when the agency is retired and its last turn is over.
        max_turns: model calls in one turn.
        system_prompt: of every conversation.
        resume_fresh_s: how old a cut may be whose work the model is asked to take up again.
        stuck_threshold: how many cuts in a row suspend a session.
    """

    def __init__(
        self,
        models: ModelChain,
        *,
        max_turns: int,
        system_prompt: str | None,
        resume_fresh_s: float,
        stuck_threshold: int,
    ) -> None:
        self.models = models
        self.max_turns = max_turns
        self.system_prompt = system_prompt
        self.resume_fresh_s = resume_fresh_s
        self.stuck_threshold = stuck_threshold
        self._turns = 0
        self._no_turn = asyncio.Event()
        self._no_turn.set()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While a turn uses it."""
        self._turns += 1
        self._no_turn.clear()
        try:
            yield
        finally:
            self._turns -= 1
            if not self._turns:
                self._no_turn.set()

    async def retire(self) -> None:
        """Another one has taken over: close the models once the last turn that asks them is over."""
        await self._no_turn.wait()
        await self.models.close()
