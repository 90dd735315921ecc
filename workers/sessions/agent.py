"""The agent actor of a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from workers.models.chain import ModelChain, ModelLine
from workers.sessions.actor import AsyncActor
from workers.sessions.agent_config import AgentConfig
from workers.sessions.work import Work

if TYPE_CHECKING:
    from workers.sessions.session import Session


class AgentActor(AsyncActor):
    """The actor of one session: one mailbox, one thing at a time.

    Its line of models begins at the primary and stays at the fallback that a turn succeeded on; a fresh incarnation
    begins anew.
    """

    def __init__(self, session: Session, agent_config: Callable[[], AgentConfig]) -> None:
        super().__init__()
        self._session = session
        self._agency = agent_config
        self._models: ModelChain | None = None
        self._line: ModelLine

    async def on_receive(self, message: Work) -> None:
        """Do what the mail asks for; the next waits."""
        session = self._session
        if message.started or not session.may_begin(message):  # an actor has had it, or gets it again
            return
        agent_config = self._agency()
        if agent_config.models is not self._models:
            self._models, self._line = agent_config.models, agent_config.models.line(session.healing)
        try:
            with agent_config.models.in_use():
                await message.perform(session, agent_config, self._line)
        except BaseException:
            await message.interrupt(session)
            raise
        finally:
            session.done(message)

    def on_failure(self, *_: object) -> None:
        """What is no ``Exception`` ended the actor; a new one takes over the mail that waits."""
        self._session.start_actor()
