"""What the mailbox of an agent actor holds: a turn, or a command that waits for its turn."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from workers.models.chain import ModelLine
from workers.sessions.agent_config import AgentConfig
from workers.sessions.feed import TurnFeed
from workers.tools.toolbox import Aborted
from workers.turns import Submission, TurnError, TurnState

if TYPE_CHECKING:
    from workers.sessions.session import Session


class Stage(IntEnum):
    """How far a piece of work has come; it only ever goes on.

    ::

        EXPECTED ─▶ ADMITTED ─▶ MAILED ─▶ STARTED ─▶ ENDING
            └───────────┴──────────┴─ its feed ends: it is left to its next owner, and does not start here
    """

    EXPECTED = 0  # counted in; what there is to store of it is on its way to disk
    ADMITTED = 1  # its turn may come
    MAILED = 2  # in the mailbox of the actor, or of the incarnation to come
    STARTED = 3
    ENDING = 4  # its end is on its way to disk: no cut changes it any more


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOff:
    """A piece of work must end now, whatever it waits for."""

    state: TurnState  # cancelled | interrupted
    error: TurnError
    stays: bool = False  # the worker goes on: what the turn's tools still do is to end
    unrecorded: bool = False  # no mark was made of the cut: on disk the turn stays as it is, for its next owner to tell


class Work(ABC):
    """A piece of work, from the moment that it is counted in to its end."""

    def __init__(self, submission: Submission, feed: TurnFeed) -> None:
        self.submission = submission
        self.feed = feed
        self.stage = Stage.EXPECTED
        self.since = time.time()  # it was counted in, or started

    @property
    def started(self) -> bool:
        """Whether an actor took it up."""
        return self.stage >= Stage.STARTED

    @property
    def begun(self) -> bool:
        """Whether it runs, or is on disk as running: a drain waits for it."""
        return self.started

    @property
    def aborted(self) -> Aborted:
        """What its stop meant for the servers of its tools."""
        return Aborted()

    def start(self) -> None:
        """An actor takes it up."""
        self.stage = Stage.STARTED
        self.since = time.time()

    @abstractmethod
    def cut(self, cutoff: CutOff) -> None:
        """End it now, or as soon as its turn comes."""

    @abstractmethod
    def seal(self) -> bool:
        """Have its end wait for a cut, which it then is; whether there is a turn that had not come to its end yet."""

    @abstractmethod
    def unseal(self) -> None:
        """No cut comes: let it end by itself."""

    @abstractmethod
    def leave(self, session_id: str) -> None:
        """Do not start."""

    @abstractmethod
    def send_away(self, session_id: str) -> None:
        """It may start much later: nobody shall wait for it."""

    @abstractmethod
    async def perform(self, session: Session, agent_config: AgentConfig, line: ModelLine) -> None:
        """Do it; what fails is told, and is never the actor's failure."""

    @abstractmethod
    async def interrupt(self, session: Session) -> None:
        """The actor dies of it."""
