"""What an agent actor performs: a turn, or a command that waits for its turn."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

from workers.models.chain import ModelLine
from workers.sessions.agent_config import AgentConfig
from workers.sessions.feed import TurnFeed
from workers.sessions.item import Item
from workers.sessions.session import Session
from workers.tools.toolbox import Aborted
from workers.turns import Submission, TurnError


class Work(Item, ABC):
    """A piece of work, from the moment that it is counted in to its end."""

    def __init__(self, submission: Submission, feed: TurnFeed, *, queued: bool, stored: bool = False) -> None:
        super().__init__(submission.turn_id, queued=queued, stored=stored)
        self.submission = submission
        self.feed = feed
        self.sent = submission.messages  # as its caller sent them
        self.since = time.time()  # when it was counted in, or started

    @property
    def caller_left(self) -> bool:
        """Whether the connections of all its callers are gone."""
        return self.feed.caller_left

    @property
    def aborted(self) -> Aborted:
        """What its stop meant for the servers of its tools."""
        return Aborted()

    @abstractmethod
    def stop(self) -> None:
        """End it: it runs, and has a cutoff now."""

    def unseal(self) -> None:
        """Let its end go on: it is sealed no longer."""

    @abstractmethod
    def leave(self, session_id: str, why: TurnError | None = None) -> None:
        """Tell its caller that it does not begin here.

        Args:
            session_id: of the transcript that it belongs to.
            why: None: the usual reason.
        """

    def send_away(self, session_id: str) -> None:
        """Tell its caller not to wait, for it may begin much later; a command does not: it is left."""

    @abstractmethod
    async def perform(self, session: Session, agent_config: AgentConfig, line: ModelLine) -> Work | None:
        """Do it, and tell its caller of its end; a failure is in that end, and is never the actor's failure.

        Returns:
            A turn that takes its place, so that it is not over yet.
        """

    @abstractmethod
    async def interrupt(self, session: Session) -> None:
        """Tell its caller that it ends because the actor dies of it."""
