"""A session in memory: its mailbox, and the actor that owns it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import pykka

from workers.models.chain import ModelChain, ModelLine
from workers.sessions.actor import LoopActor, deliver
from workers.sessions.agent_config import AgentConfig
from workers.sessions.item import CutOff
from workers.sessions.mailbox import (
    Action,
    Arrived,
    Begin,
    Cancelled,
    Event,
    Gate,
    Gone,
    Leave,
    Mailbox,
    Mark,
    Released,
    SendAway,
    Stop,
    Stored,
    Tell,
    Unseal,
)
from workers.sessions.session import Session
from workers.sessions.work import Work
from workers.turns import TurnError


@dataclass(frozen=True, slots=True)
class Died:
    """What the actor performed raised this, which is no failure of a turn: the actor dies of it."""

    error: BaseException


class AgentActor(LoopActor):
    """The actor of one session. It alone changes the session's mailbox, and performs one thing at a time.

    Its line of models starts at the primary and stays at the fallback that a turn succeeded on; a fresh incarnation
    starts at the primary again.
    """

    def __init__(self, resident: Resident) -> None:
        super().__init__()
        self._resident = resident
        self._mailbox = resident.mailbox
        self._models: ModelChain | None = None
        self._line: ModelLine
        self._task: asyncio.Task[None] | None = None  # the loop itself holds tasks only weakly

    def on_start(self) -> None:
        """Go on with the mailbox of the incarnation before."""
        self.on_receive(Released())

    def on_receive(self, event: Event[Work] | Died) -> None:
        """Do what an event asks for."""
        if isinstance(event, Died):
            raise event.error
        for action in self._mailbox.feed(event):
            self._do(action)
        self._resident.looked_at()

    def on_failure(self, *_: object) -> None:
        """A new actor goes on with what waits."""
        self._resident.start_actor()

    def _do(self, action: Action[Work]) -> None:
        session = self._resident.session
        match action:
            case Begin():
                action.item.since = time.time()
                self._task = asyncio.get_running_loop().create_task(self._perform(action.item))
            case Stop():
                action.item.stop()
            case Unseal():
                action.item.unseal()
            case Leave():
                action.item.leave(session.session_id, action.why)
            case SendAway():
                action.item.send_away(session.session_id)
            case Tell():
                action.item.feed.draining(action.told)
            case Mark():
                session.was_cut(action.mark)
            case _:
                assert_never(action)

    async def _perform(self, work: Work) -> None:
        resident = self._resident
        agent_config = resident.agent_config()
        if agent_config.models is not self._models:
            self._models, self._line = agent_config.models, agent_config.models.line(resident.session.healing)
        try:
            with agent_config.models.in_use():
                if resident.session.marks:
                    await resident.session.reread_marks()
                while (instead := await work.perform(resident.session, agent_config, self._line)) is not None:
                    work = instead
                    resident.tell(Arrived(item=work))
        except BaseException as error:  # noqa: BLE001  # it ends this actor, and neither the loop nor the session
            try:
                await work.interrupt(resident.session)
            finally:
                if self.actor_ref.is_alive():
                    self.actor_ref.tell(Died(error))
                resident.gone(work)
        else:
            resident.gone(work)


class Resident:
    """A session in memory, as other parts of the worker see it: they read its mailbox, and tell its actor of changes.

    Args:
        session: its conversation.
        agent_config: the present configuration of agents.
        paused: a drain goes on.
        on_gone: called with work that is finished or could not be stored.
    """

    __slots__ = (
        "_on_gone",
        "active_at",
        "actor",
        "agent_config",
        "mailbox",
        "quiet",
        "ready",
        "session",
        "wanted",
    )

    def __init__(
        self,
        session: Session,
        *,
        agent_config: Callable[[], AgentConfig],
        paused: bool,
        on_gone: Callable[[Resident, Work], None],
    ) -> None:
        self.session = session
        self.agent_config = agent_config
        self.mailbox: Mailbox[Work] = Mailbox(Gate.PAUSED if paused else Gate.OPEN)
        self.actor: pykka.ActorRef[AgentActor]
        self.active_at = time.monotonic()
        self.ready: asyncio.Task[None] | None = None  # while it is being activated
        self.wanted = 0  # callers that wait for that
        self.quiet = asyncio.Event()  # set while its mailbox is empty
        self.quiet.set()
        self._on_gone = on_gone
        self.start_actor()

    @property
    def busy(self) -> bool:
        """Whether it is being activated, or was for a turn that comes, or a turn runs or waits."""
        return bool(self.mailbox.items) or self.wanted > 0 or self.ready is not None

    async def activation_over(self) -> None:
        """Return when it is not being activated any more, however that went."""
        if self.ready is not None:
            await asyncio.wait((self.ready,))

    def start_actor(self) -> None:
        """Start an actor: the first, or one that goes on with the mailbox of one that died."""
        self.actor = AgentActor.start(self)

    def restart_actor(self) -> None:
        """Replace the actor by a fresh one. Mailbox, tools and transcript are the session's."""
        self.actor.stop(block=False)
        self.start_actor()

    def stop_actor(self) -> None:
        """End the actor, for good."""
        self.actor.stop(block=False)

    def tell(self, event: Event[Work]) -> None:
        """Tell the actor; it has done what the event asks for when this returns, unless it is just doing something.

        A session that was closed has no actor, and nothing changes in it any more.
        """
        try:
            deliver(self.actor, event)
        except pykka.ActorDeadError:
            return

    def looked_at(self) -> None:
        """The actor may have changed the mailbox."""
        if self.mailbox.items:
            self.quiet.clear()
        else:
            self.quiet.set()

    def count_in(self, work: Work) -> None:
        """Count work in."""
        self.tell(Arrived(item=work))

    def stored(self, work: Work) -> None:
        """It is on disk; what was counted in before it goes first."""
        self.tell(Stored(turn_id=work.turn_id))

    def gone(self, work: Work) -> None:
        """It could not be stored, or is finished."""
        self.tell(Gone(turn_id=work.turn_id))
        self._on_gone(self, work)

    def cancel(self, turn_id: str, why: TurnError) -> None:
        """End a turn that no caller wants any more."""
        self.tell(Cancelled(turn_id=turn_id, cutoff=CutOff(state="cancelled", error=why)))
