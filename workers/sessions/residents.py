"""The sessions that are resident in a worker: activation, passivation, deletion, stop."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Literal

import structlog

from hermes_actors.background import Background
from hermes_actors.config.model import SessionsConfig
from hermes_actors.wire.messages import Seal, Sealed
from workers.session_keys import is_bare
from workers.sessions.agent import Resident
from workers.sessions.agent_config import AgentConfig
from workers.sessions.backlog import Backlog
from workers.sessions.drain import CUT_TIMEOUT_S, Draining, all_quiet, wind_down
from workers.sessions.feed import TurnFeed
from workers.sessions.item import CutOff, Stage
from workers.sessions.mailbox import Closed, FellBack, Gate, Released
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.passivation import which_to_passivate
from workers.sessions.registry import SessionRecord, SessionRegistry
from workers.sessions.session import Session
from workers.sessions.turn import TurnRun
from workers.sessions.work import Work
from workers.store.shard import StoreFailed
from workers.tools.toolbox import NoTools, Toolbox
from workers.turn_errors import deleted_error, evicted_error, not_evicted_error
from workers.turns import Ended, Refusal, Submission

log = structlog.get_logger(__name__)

RESTART_TIMEOUT_S = 5.0  # how long a session's mail waits for the restart of its actor after a fallback
STATELESS_TTL_S = 60.0  # how long the agent of a stateless conversation waits for a follow-up
CLOSE_TIMEOUT_S = 10.0  # a session's tool servers end well before; the worker's own end kills what does not


class Residents:
    """All resident sessions of a worker, the longest idle first.

    Args:
        new_toolbox: makes the tools of a session, by its key.
        on_stateless_end: called when a stateless turn is over, so that its follow-up finds its agent.
        on_fell_back: called with a session whose turn succeeded on a fallback (turn id, provider, model), so that the
            supervisor decides on its actor.
        on_drained: called with the number of a drain that has nothing left to wait for.
    """

    def __init__(
        self,
        config: SessionsConfig,
        *,
        agent_config: AgentConfig,
        registry: SessionRegistry,
        new_toolbox: Callable[[str], Toolbox],
        on_stateless_end: Callable[[str, Submission, TurnFeed, Ended], None],
        on_fell_back: Callable[[Session, str, str, str], None],
        on_drained: Callable[[int], None],
    ) -> None:
        self.config = config
        self.agent_config = agent_config
        self.registry = registry
        self._new_toolbox = new_toolbox
        self._on_stateless_end = on_stateless_end
        self._on_fell_back = on_fell_back
        self._resident: OrderedDict[str, Resident] = OrderedDict()
        self.backlog = Backlog()  # of sessions that are not in memory
        self._ending: dict[str, asyncio.Event] = {}  # sessions that are being evicted or deleted
        self.draining = Draining(self, on_drained)
        self.background = Background()
        self.turns_ended = 0
        self._active: dict[str, float] = {}  # sessions that were active since the last heartbeat, wall-clock

    def reconfigure(self, config: SessionsConfig, agent_config: AgentConfig) -> None:
        """Apply a new configuration; a turn that runs ends with the one it began with."""
        self.config = config
        self.agent_config = agent_config

    def take_active(self) -> dict[str, float]:
        """The sessions that were active since the last call, with the time in seconds since the epoch."""
        active, self._active = self._active, {}
        return active

    def __iter__(self) -> Iterator[Resident]:
        """Those in memory."""
        return iter(list(self._resident.values()))

    def get(self, key: str) -> Resident | None:
        """The session of a key, where it is in memory."""
        return self._resident.get(key)

    # -- figures --------------------------------------------------------------------------------------------------
    @property
    def resident(self) -> int:
        """Sessions in memory."""
        return len(self._resident)

    @property
    def running(self) -> int:
        """Turns that run."""
        return sum(resident.mailbox.running is not None for resident in self._resident.values())

    @property
    def pending(self) -> int:
        """Turns that run or wait."""
        return sum(len(resident.mailbox.items) for resident in self._resident.values())

    @property
    def waiting(self) -> int:
        """Turns that have not begun, those of sessions that are not in memory too."""
        here = sum(not work.begun for resident in self._resident.values() for work in resident.mailbox.items.values())
        return len(self.backlog) + here

    def touch(self, resident: Resident) -> None:
        """A session is active: it is the last to be passivated."""
        resident.active_at = time.monotonic()
        key = resident.session.key
        if self._resident.get(key) is resident:
            self._resident.move_to_end(key)
        if not resident.session.stateless:
            self._active[key] = time.time()

    def _gone(self, resident: Resident, work: Work) -> None:
        """Work is finished, or could not be stored."""
        self.draining.done(work.turn_id)
        if not work.started:
            return
        self.turns_ended += 1
        self.touch(resident)
        if is_bare(resident.session.key):
            self.background.start(self._close(self._resident.pop(resident.session.key)))
        elif resident.session.stateless:
            asyncio.get_running_loop().call_later(STATELESS_TTL_S, self._passivate_stateless, resident)

    # -- what an earlier owner left -------------------------------------------------------------------------------
    def seal(self, order: Seal) -> Sealed:
        """Answer a :class:`hermes_actors.wire.messages.Seal`."""
        return self.draining.seal(order, self.backlog.sessions)

    async def resume(self, shard: OwnedShard, key: str | None = None) -> None:
        """Activate the sessions with inherited turns, or this one if it has any, so that they run."""
        for first in self.backlog.first_of_each(shard.number, key):
            if self.draining.begins_nothing:  # the end of the drain, or the next owner, resumes them
                return
            if (end := self._ending.get(first.key)) is not None:
                await end.wait()
            if not self.backlog.has(shard.number, first.key):  # begun or deleted meanwhile
                continue
            try:
                await self.activated(first.key, first.principal, shard, stateless=first.stateless)
            except (Refusal, StoreFailed) as error:  # tried again soon
                log.error("queued turns not resumed", session=first.key, why=str(error))  # noqa: TRY400  # says it all

    # -- activation -----------------------------------------------------------------------------------------------
    async def activated(self, key: str, principal: str, shard: OwnedShard, *, stateless: bool) -> Resident:
        """The session of a key, resident; it stays so until the caller awaits something else.

        Raises:
            Refusal: the supervisor does not answer, or a stop began.
            StoreFailed: its transcript cannot be read.
        """
        while True:
            if (end := self._ending.get(key)) is not None:
                await end.wait()
                continue
            resident = self._resident.get(key)
            if resident is None:
                resident = self._resident[key] = self._new(key, shard, stateless=stateless)
                resident.ready = asyncio.create_task(self._activate(resident, principal))
                self.passivate()
            if resident.ready is None:
                return resident
            resident.wanted += 1  # or it might be passivated before this caller's turn
            try:
                await asyncio.shield(resident.ready)
            finally:
                resident.wanted -= 1

    def _new(self, key: str, shard: OwnedShard, *, stateless: bool) -> Resident:
        session = Session(
            key,
            shard,
            stateless=stateless,
            registry=self.registry,
            on_fell_back=partial(self._fell_back, key),
            on_ended=partial(self._on_stateless_end, key) if stateless else None,
        )
        return Resident(
            session, agent_config=lambda: self.agent_config, paused=self.draining.goes_on, on_gone=self._gone
        )

    async def present(self, key: str) -> Resident | None:
        """The session of a key where it is resident, or is just being activated; one that is not stays so."""
        resident = self._resident.get(key)
        if resident is not None:
            await resident.activation_over()
        return self._resident.get(key)

    async def prompts(self, key: str) -> tuple[str, ...]:
        """The commands for prompts that a session has, as far as they are known, also where it is not in memory."""
        resident = self._resident.get(key)
        if resident is not None and resident.ready is None:
            return resident.session.toolbox.prompts
        toolbox = self._new_toolbox(key)
        prompts = toolbox.prompts
        await toolbox.close()
        return prompts

    async def _activate(self, resident: Resident, principal: str) -> None:
        session = resident.session
        try:
            if not session.stateless:
                await session.find(principal)
                await session.catch_up()
                session.model = await session.store.chosen_model(session.key)
            self.draining.refuse_if_stopping()  # it may have begun meanwhile
            session.toolbox = NoTools() if is_bare(session.key) else self._new_toolbox(session.key)
            for submission in self.backlog.claim(session.shard.number, session.key):
                feed = TurnFeed(submission.turn_id, submission.fingerprint)
                feed.abandon()  # its callers were those of an earlier owner
                resident.count_in(TurnRun(submission, feed, queued=True, stored=True))
            if resident.mailbox.items:
                self.touch(resident)
        except BaseException:
            self._resident.pop(session.key, None)
            resident.stop_actor()
            raise
        resident.ready = None

    # -- restart after a fallback ---------------------------------------------------------------------------------
    def _fell_back(self, key: str, turn_id: str, provider: str, model: str) -> None:
        """Hold the session's mail until the supervisor has decided; if it does not, the actor goes on as it is."""
        if (resident := self._resident.get(key)) is None or is_bare(key):  # it is closed, now or soon
            return
        resident.tell(FellBack())
        asyncio.get_running_loop().call_later(RESTART_TIMEOUT_S, self._restart_overdue, resident, resident.actor)
        self._on_fell_back(resident.session, turn_id, provider, model)

    def restart_actor(self, key: str) -> None:
        """Restart the actor of a session, as the supervisor wants; unless it went on meanwhile or was passivated."""
        resident = self._resident.get(key)
        if resident is not None and Gate.HELD in resident.mailbox.gate:
            resident.restart_actor()

    def _restart_overdue(self, resident: Resident, actor: object) -> None:
        if Gate.HELD in resident.mailbox.gate and resident.actor is actor:
            log.warning("no restart came after a fallback", session=resident.session.key, seconds=RESTART_TIMEOUT_S)
            resident.tell(Released())

    # -- passivation, deletion, stop ------------------------------------------------------------------------------
    def passivate(self) -> None:
        """Passivate the idle, and the longest idle where there are too many; called now and then."""
        keys = which_to_passivate(
            ((key, resident.active_at, resident.busy) for key, resident in self._resident.items()),
            count=len(self._resident),
            now=time.monotonic(),
            idle_ttl_s=self.config.idle_ttl_seconds,
            limit=self.config.max_resident_per_worker,
        )
        for key in keys:
            self.background.start(self._close(self._resident.pop(key)))

    def _passivate_stateless(self, resident: Resident) -> None:
        """Its client may never come back, and its tool servers are processes."""
        key, idle_s = resident.session.key, time.monotonic() - resident.active_at
        if self._resident.get(key) is resident and not resident.busy and idle_s >= STATELESS_TTL_S:
            self.background.start(self._close(self._resident.pop(key)))

    async def _close(self, resident: Resident) -> None:
        """End a session's actor and connections. All its state is on disk."""
        resident.stop_actor()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await resident.session.toolbox.close()
        except TimeoutError:
            log.warning("tool servers slow to close", session=resident.session.key, seconds=CLOSE_TIMEOUT_S)

    async def evict(self, key: str) -> None:
        """Cancel what runs in a session and forget it; what waits is kept, and begins once its state is read again."""
        async with self.alone(key):
            if (resident := self._resident.get(key)) is None:
                return
            await resident.activation_over()
            waiting = list(resident.mailbox.items.values())
            spare: Literal["spare", "cut"] = "cut" if resident.session.stateless else "spare"
            cutoff = CutOff(state="cancelled", error=evicted_error())
            await self._evict(key, Closed(cutoff=cutoff, waiting=spare, why=not_evicted_error()))
            left = [work.submission for work in waiting if work.left and work.stage is Stage.WAITING]
            self.backlog.add(resident.session.shard.number, key, left)
        self.background.start(self.resume(resident.session.shard, key))

    async def delete(self, key: str, shard: OwnedShard) -> None:
        """Cancel what runs in a session, drop its transcript, then its name. What is sent meanwhile begins a new one.

        Raises:
            Refusal: ``session_not_found``; ``shard_unavailable``.
            StoreFailed: it could not be deleted.
        """
        async with self.alone(key):
            await self.session_id(key, shard)
            cutoff = CutOff(state="cancelled", error=deleted_error())
            await self._evict(key, Closed(cutoff=cutoff, waiting="cut"))
            await shard.store.delete(key)
            self.backlog.drop(shard.number, key)
            await self.registry.forget(key, shard)
            self._active.pop(key, None)

    @asynccontextmanager
    async def alone(self, key: str) -> AsyncIterator[None]:
        """Change a session: what is sent to it waits, and then finds what is left of it."""
        while (other := self._ending.get(key)) is not None:
            await other.wait()
        over = self._ending[key] = asyncio.Event()
        try:
            yield
        finally:
            del self._ending[key]
            over.set()

    async def _evict(self, key: str, closed: Closed) -> None:
        resident = self._resident.get(key)
        if resident is None:
            return
        await resident.activation_over()
        resident.tell(closed)
        await all_quiet([resident], CUT_TIMEOUT_S)
        if self._resident.get(key) is resident:
            del self._resident[key]
            await self._close(resident)

    async def stop(self, reason: str) -> None:
        """Admit nothing more and interrupt what runs; what waits stays on disk as queued.

        What is interrupted here and not by the supervisor's order has no mark yet: it stays on disk as running, and its
        next owner reports it.
        """
        self.draining.stop()
        await wind_down(list(self), reason, unrecorded=True)

    async def release(self, shard: OwnedShard) -> None:
        """Give a shard up: interrupt what runs in its sessions and forget them; its next owner runs what waits."""
        self.backlog.drop(shard.number)
        going = [resident for resident in self if resident.session.shard.number == shard.number]
        for resident in going:
            await resident.activation_over()
        await wind_down(going, "moved", unrecorded=False)
        for resident in going:
            if self._resident.get(resident.session.key) is resident:
                del self._resident[resident.session.key]
                self.background.start(self._close(resident))

    async def close(self) -> None:
        """End all actors and connections."""
        self.draining.stop()
        for resident in self:
            if resident.ready is None:
                self.background.start(self._close(resident))
        self._resident.clear()
        await self.background.finish(CLOSE_TIMEOUT_S)

    async def record(self, key: str, shard: OwnedShard) -> SessionRecord:
        """A session as the registry has it; it goes on sleeping.

        Raises:
            Refusal: ``session_not_found``; ``shard_unavailable``.
        """
        return await self.registry.activate(key, "", shard, create=False)

    async def session_id(self, key: str, shard: OwnedShard) -> str:
        """The id of the transcript that a session goes on with.

        Raises:
            Refusal: ``session_not_found``; ``shard_unavailable``.
        """
        resident = self._resident.get(key)
        if resident is not None and resident.ready is None:
            return resident.session.session_id
        return (await self.record(key, shard)).session_id
