"""The sessions that are resident in a worker: activation, passivation, deletion, stop."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial

import structlog

from hermes_actors.background import Background
from hermes_actors.config.model import SessionsConfig
from hermes_actors.wire.messages import Sealed
from workers.gateway import SessionView, TranscriptPage
from workers.session_keys import conversation_transcript
from workers.sessions.agent_config import AgentConfig
from workers.sessions.backlog import Backlog
from workers.sessions.drain import CUT_TIMEOUT_S, Draining, all_quiet, spare_waiting, wind_down
from workers.sessions.feed import TurnFeed
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.passivation import whom_to_passivate
from workers.sessions.reading import describe, page
from workers.sessions.registry import SessionRecord, SessionRegistry
from workers.sessions.session import Session
from workers.sessions.turn import TurnRun
from workers.sessions.work import Stage, Work
from workers.store.shard import StoreFailed
from workers.tools.toolbox import Toolbox
from workers.turn_errors import cancelled_error, deleted_error, evicted_error, not_evicted_error
from workers.turns import Ended, Refusal, Submission, TurnError

log = structlog.get_logger(__name__)

RESTART_TIMEOUT_S = 5.0  # how long a session's mail waits for the restart of its actor after a fallback
STATELESS_TTL_S = 60.0  # how long the agent of a stateless conversation waits for a follow-up
CLOSE_TIMEOUT_S = 10.0  # a session's tool servers end well before; the worker's own end kills what does not


class Sessions:
    """All resident sessions of a worker, the longest idle first.

    Args:
        new_toolbox: makes the tools of a session, by its key.
        on_stateless_end: told when a stateless turn is over, so that its follow-up finds its agent.
        on_fell_back: told of a session whose turn succeeded on a fallback (turn id, provider, model), so that the
            supervisor decides on its actor.
        on_drained: told when a drain, by its number, has nothing left to wait for.
    """

    def __init__(
        self,
        config: SessionsConfig,
        *,
        agent_config: AgentConfig,
        registry: SessionRegistry,
        new_toolbox: Callable[[str], Toolbox],
        on_stateless_end: Callable[[str, TurnRun, Ended], None],
        on_fell_back: Callable[[Session, str, str, str], None],
        on_drained: Callable[[int], None],
    ) -> None:
        self.config = config
        self.agent_config = agent_config
        self._registry = registry
        self._new_toolbox = new_toolbox
        self._on_stateless_end = on_stateless_end
        self._on_fell_back = on_fell_back
        self._resident: OrderedDict[str, Session] = OrderedDict()
        self.backlog = Backlog()  # of sessions that are not in memory
        self._ending: dict[str, asyncio.Event] = {}  # sessions that are being evicted or deleted
        self.draining = Draining(self, on_drained)
        self._stopping = False
        self.feeds: dict[str, TurnFeed] = {}  # of turns that run or wait, by turn id
        self.background = Background()
        self.turns_ended = 0
        self.active: dict[str, float] = {}  # sessions that were active since the last heartbeat, wall-clock

    def __iter__(self) -> Iterator[Session]:
        """Those in memory."""
        return iter(list(self._resident.values()))

    # -- figures --------------------------------------------------------------------------------------------------
    @property
    def resident(self) -> int:
        """Sessions in memory."""
        return len(self._resident)

    @property
    def running(self) -> int:
        """Turns that run."""
        return sum(run.started for session in self._resident.values() for run in session.runs.values())

    @property
    def pending(self) -> int:
        """Turns that run or wait."""
        return len(self.feeds)

    @property
    def waiting(self) -> int:
        """Turns that have not begun, those of sessions that are not in memory too."""
        return len(self.backlog) + sum(not run.begun for session in self for run in session.runs.values())

    # -- turns ----------------------------------------------------------------------------------------------------
    def refuse_if_stopping(self) -> None:
        """Nothing begins any more once a stop began.

        Raises:
            Refusal: ``gateway_draining``.
        """
        if self._stopping:
            raise self.draining.refusal(parkable=False)

    def is_held_back(self, key: str, turn_id: str) -> bool:
        """Whether a turn waits for the end of a drain."""
        session = self._resident.get(key)
        run = None if session is None else session.runs.get(turn_id)
        return session is not None and session.paused and run is not None and not run.begun

    def expect(self, session: Session, submission: Submission, *, queued: bool) -> TurnRun:
        """Count a turn in."""
        feed = TurnFeed(submission.turn_id, submission.fingerprint)
        run = TurnRun(submission, feed, queued=queued)
        self.count_in(session, run)
        return run

    def count_in(self, session: Session, run: Work) -> None:
        """Count a turn or a command in, which its actor will get."""
        submission, feed = run.submission, run.feed
        if submission.stateless and submission.idempotency_key is None:
            feed.on_abandoned = lambda: session.cancel(submission.turn_id, cancelled_error())
        session.expect(run)
        self.feeds[submission.turn_id] = feed
        self._touch(session)

    def unexpect(self, session: Session, run: Work) -> None:
        """Count a turn out."""
        session.unexpect(run)
        if self.feeds.get(run.submission.turn_id) is run.feed:  # not begun anew meanwhile
            del self.feeds[run.submission.turn_id]
        self.draining.done(run)

    def _done(self, session: Session, run: Work) -> None:
        """The actor is through with a turn."""
        self.unexpect(session, run)
        self.turns_ended += run.started
        self._touch(session)
        if session.stateless:
            asyncio.get_running_loop().call_later(STATELESS_TTL_S, self._passivate_stateless, session)

    def _touch(self, session: Session) -> None:
        session.active_at = time.monotonic()
        if self._resident.get(session.key) is session:
            self._resident.move_to_end(session.key)
        if not session.stateless:
            self.active[session.key] = time.time()

    # -- what an earlier owner left -------------------------------------------------------------------------------
    def seal(self, request: int) -> Sealed:
        """Answer a :class:`hermes_actors.wire.messages.Seal`."""
        return self.draining.seal(request, self.backlog.sessions)

    async def resume(self, shard: OwnedShard, key: str | None = None) -> None:
        """Activate the sessions with inherited turns, or this one if it has any, so that they run."""
        for first in self.backlog.first_of_each(shard.number, key):
            if self._stopping or self.draining.goes_on:  # the end of the drain, or the next owner, resumes them
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
    async def activated(self, key: str, principal: str, shard: OwnedShard, *, stateless: bool) -> Session:
        """The session of a key, resident; it stays so until the caller awaits something else.

        Raises:
            Refusal: the supervisor does not answer, or a stop began.
            StoreFailed: its transcript cannot be read.
        """
        while True:
            if (end := self._ending.get(key)) is not None:
                await end.wait()
                continue
            session = self._resident.get(key)
            if session is None:
                session = Session(
                    key,
                    shard,
                    stateless=stateless,
                    agent_config=lambda: self.agent_config,
                    registry=self._registry,
                    on_done=self._done,
                )
                session.paused = self.draining.goes_on
                session.ready = asyncio.create_task(self._activate(session, principal))
                self._resident[key] = session
                self.passivate()
            if session.ready is None:
                return session
            session.wanted += 1  # or it might be put to sleep before this caller's turn
            try:
                await asyncio.shield(session.ready)
            finally:
                session.wanted -= 1

    async def present(self, key: str) -> Session | None:
        """The session of a key where it is resident, or is just being activated; nothing wakes for this."""
        session = self._resident.get(key)
        if session is not None:
            await session.activation_over()
        return self._resident.get(key)

    async def prompts(self, key: str) -> tuple[str, ...]:
        """The commands for prompts that a session has, as far as they are known; nothing wakes for this."""
        session = self._resident.get(key)
        if session is not None and session.ready is None:
            return session.toolbox.prompts
        toolbox = self._new_toolbox(key)
        prompts = toolbox.prompts
        await toolbox.close()
        return prompts

    async def _activate(self, session: Session, principal: str) -> None:
        try:
            if session.stateless:
                session.session_id = conversation_transcript(session.key)
                session.created_at = time.time()
                session.on_ended = lambda run, ended: self._on_stateless_end(session.key, run, ended)
            else:
                await session.find(principal)
                await session.catch_up()
                session.model = await session.store.chosen_model(session.key)
            self.refuse_if_stopping()  # it may have begun meanwhile
            session.on_fell_back = self._fell_back
            session.toolbox = self._new_toolbox(session.key)
            session.start_actor()
            for submission in self.backlog.claim(session.shard.number, session.key):
                session.mail(self.expect(session, submission, queued=True))
        except BaseException:
            self._resident.pop(session.key, None)
            raise
        session.ready = None

    # -- restart after a fallback ---------------------------------------------------------------------------------
    def _fell_back(self, session: Session, turn_id: str, provider: str, model: str) -> None:
        """Hold the session's mail until the supervisor has decided; if it does not, the actor goes on as it is."""
        session.held = True
        asyncio.get_running_loop().call_later(RESTART_TIMEOUT_S, self._restart_overdue, session, session.actor)
        self._on_fell_back(session, turn_id, provider, model)

    def restart_actor(self, key: str) -> None:
        """The supervisor wants a fresh actor for a session. One that went on meanwhile, or sleeps, needs none."""
        session = self._resident.get(key)
        if session is not None and session.held:
            session.restart_actor()

    def _restart_overdue(self, session: Session, actor: object) -> None:
        if session.held and session.actor is actor:
            log.warning("no restart came after a fallback", session=session.key, seconds=RESTART_TIMEOUT_S)
            session.resume_actor()

    # -- passivation, deletion, stop ------------------------------------------------------------------------------
    def passivate(self) -> None:
        """Put the idle to sleep, and the longest idle where there are too many; called now and then."""
        keys = whom_to_passivate(
            ((key, session.active_at, session.busy) for key, session in self._resident.items()),
            count=len(self._resident),
            now=time.monotonic(),
            idle_ttl_s=self.config.idle_ttl_seconds,
            limit=self.config.max_resident_per_worker,
        )
        for key in keys:
            self.background.start(self._close(self._resident.pop(key)))

    def _passivate_stateless(self, session: Session) -> None:
        """Its client may never come back, and its tool servers are processes."""
        idle_s = time.monotonic() - session.active_at
        if self._resident.get(session.key) is session and not session.busy and idle_s >= STATELESS_TTL_S:
            self.background.start(self._close(self._resident.pop(session.key)))

    async def _close(self, session: Session) -> None:
        """End a session's actor and connections. All its state is on disk."""
        session.actor.stop(block=False)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await session.toolbox.close()
        except TimeoutError:
            log.warning("tool servers slow to close", session=session.key, seconds=CLOSE_TIMEOUT_S)

    async def evict(self, key: str) -> None:
        """Cancel what runs in a session and forget it; what waits is kept, and begins in the state read anew."""
        async with self._alone(key):
            if (session := self._resident.get(key)) is None:
                return
            await session.activation_over()
            waiting = spare_waiting(session, not_evicted_error())
            await self._evict(key, evicted_error())
            self.backlog.add(
                session.shard.number, key, [run.submission for run in waiting if run.stage >= Stage.ADMITTED]
            )
        self.background.start(self.resume(session.shard, key))

    async def delete(self, key: str, shard: OwnedShard) -> None:
        """Cancel what runs in a session, drop its transcript, then its name. What is sent meanwhile begins a new one.

        Raises:
            Refusal: ``session_not_found``; ``shard_unavailable``.
            StoreFailed: it could not be deleted.
        """
        async with self._alone(key):
            await self._session_id(key, shard)
            await self._evict(key, deleted_error())
            await shard.store.delete(key)
            self.backlog.drop(shard.number, key)
            await self._registry.forget(key, shard)
            self.active.pop(key, None)

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        """End a session: what is sent to it waits, and then finds what is left of it."""
        while (other := self._ending.get(key)) is not None:
            await other.wait()
        over = self._ending[key] = asyncio.Event()
        try:
            yield
        finally:
            del self._ending[key]
            over.set()

    async def _evict(self, key: str, why: TurnError) -> None:
        session = self._resident.get(key)
        if session is None:
            return
        await session.activation_over()
        for turn_id in list(session.runs):
            session.cancel(turn_id, why)
        session.held = False
        session.unpause()
        await all_quiet([session], CUT_TIMEOUT_S)
        if self._resident.get(key) is session:
            del self._resident[key]
            await self._close(session)

    async def stop(self, reason: str) -> None:
        """Admit nothing more and interrupt what runs; what waits stays on disk as queued.

        What is interrupted here and not by the supervisor's order has no mark yet: it stays on disk as running, and its
        next owner tells of it.
        """
        self._stopping = True
        await wind_down(list(self), reason, unrecorded=True)

    async def release(self, shard: OwnedShard) -> None:
        """Let go of a shard: interrupt what runs in its sessions and forget them; its next owner runs what waits."""
        self.backlog.drop(shard.number)
        going = [session for session in self._resident.values() if session.shard.number == shard.number]
        for session in going:
            await session.activation_over()
        await wind_down(going, "moved", unrecorded=False)
        for session in going:
            if self._resident.get(session.key) is session:
                del self._resident[session.key]
                self.background.start(self._close(session))

    async def close(self) -> None:
        """End all actors and connections."""
        self._stopping = True
        for session in self:
            if session.ready is None:
                self.background.start(self._close(session))
        self._resident.clear()
        await self.background.finish(CLOSE_TIMEOUT_S)

    # -- for people -----------------------------------------------------------------------------------------------
    async def describe(self, key: str, shard: OwnedShard) -> SessionView:
        """See :func:`workers.sessions.reading.describe`."""
        return await describe(self._resident.get(key), key, shard.store, partial(self._session_id, key, shard))

    async def messages(self, key: str, shard: OwnedShard, after: int, limit: int) -> TranscriptPage:
        """A page of a session's transcript.

        Raises:
            Refusal: ``session_not_found``.
            StoreFailed: the disk does not answer.
        """
        return await page(shard.store, await self._session_id(key, shard), after, limit)

    async def record(self, key: str, shard: OwnedShard) -> SessionRecord:
        """A session as the registry has it; it goes on sleeping.

        Raises:
            Refusal: ``session_not_found``; ``shard_unavailable``.
        """
        return await self._registry.activate(key, "", shard, create=False)

    async def _session_id(self, key: str, shard: OwnedShard) -> str:
        session = self._resident.get(key)
        if session is not None and session.ready is None:
            return session.session_id
        return (await self.record(key, shard)).session_id
