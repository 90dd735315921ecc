"""The sessions that are resident in a worker: activation, admission of turns, passivation, stop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from typing import Any, Protocol

import orjson
import structlog

from hermes_actors.config.model import SessionsConfig
from workers.agents.agent import Agency, TurnRun, unstored_end
from workers.agents.failures import cut_error
from workers.agents.feed import TurnFeed
from workers.agents.machine import CutOff
from workers.agents.passivation import whom_to_passivate
from workers.agents.session import OwnedShard, Session
from workers.store.shard import StaleFence, StoreFailed, TurnRow
from workers.tools.toolbox import Toolbox
from workers.turns import Ended, Refusal, Submission

log = structlog.get_logger(__name__)

MAILBOX_RETRY_AFTER_S = 2.0  # a turn's length is unknown; soon enough to notice, late enough not to hammer
SHARD_RETRY_AFTER_S = 1.0
DRAINING_RETRY_AFTER_S = 5.0  # about a planned restart
CUT_TIMEOUT_S = 5.0  # for a cancelled turn to commit its end
CLOSE_TIMEOUT_S = 10.0  # a session's tool servers end well before; the worker's own end kills what does not


class Names(Protocol):
    """Who knows which transcript a session key points to: the supervisor's registry."""

    async def activate(self, key: str, principal: str, shard: OwnedShard, *, create: bool) -> tuple[str, float]:
        """The session id of a key, and when it was made (seconds since the epoch).

        Raises:
            Refusal: ``session_not_found`` where it may not be made; ``shard_unavailable``.
        """

    async def forget(self, key: str, shard: OwnedShard) -> None:
        """Drop the key.

        Raises:
            Refusal: ``shard_unavailable``.
        """


class Sessions:
    """All resident sessions of a worker, the longest idle first.

    Args:
        new_toolbox: makes the tools of a session, by its key.
        on_stateless_end: told when a stateless turn is over, so that its follow-up finds its agent.
    """

    def __init__(
        self,
        config: SessionsConfig,
        *,
        agency: Agency,
        names: Names,
        new_toolbox: Callable[[str], Toolbox],
        on_stateless_end: Callable[[str, TurnRun, Ended], None],
    ) -> None:
        self._config = config
        self._agency = agency
        self._names = names
        self._new_toolbox = new_toolbox
        self._on_stateless_end = on_stateless_end
        self._resident: OrderedDict[str, Session] = OrderedDict()
        self._feeds: dict[str, TurnFeed] = {}  # of running and waiting turns, by turn id
        self._named: dict[tuple[str, str], TurnFeed | asyncio.Future[TurnFeed]] = {}  # by (key, Idempotency-Key)
        self._inherited: dict[int, dict[str, list[TurnRow]]] = {}  # by shard and session key
        self._background: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._hurry = asyncio.Event()
        self.turns_ended = 0
        self.active: dict[str, float] = {}  # sessions that were active since the last heartbeat, wall-clock

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
        return len(self._feeds)

    # -- admission ------------------------------------------------------------------------------------------------
    async def submit(self, submission: Submission, shard: OwnedShard, *, again: bool) -> TurnFeed:
        """Admit a turn: it is on disk when this returns, and its feed will tell the rest.

        Args:
            submission: the message.
            shard: its shard, owned by this worker.
            again: an owner that died may have had this turn already.

        Raises:
            Refusal: not accepted; nothing is kept.
        """
        try:
            if again and (known := await self._known(submission, shard)) is not None:
                return known
            if submission.idempotency_key is not None:
                return await self._submit_named(submission, shard, submission.idempotency_key)
            return await self._admit(submission, shard)
        except StaleFence as error:
            raise Refusal("shard_unavailable", f"The session is moving ({error}).", SHARD_RETRY_AFTER_S) from error
        except StoreFailed as error:
            log.error("turn not admitted", session=submission.key, turn=submission.turn_id, why=str(error))  # noqa: TRY400  # the reason says it all
            raise Refusal("store_failed", f"The message could not be stored: {error}.") from error

    async def _known(self, submission: Submission, shard: OwnedShard) -> TurnFeed | None:
        row = await shard.store.turn(submission.turn_id)
        return None if row is None else await self._feed_of(row, shard)

    async def _submit_named(self, submission: Submission, shard: OwnedShard, name: str) -> TurnFeed:
        """The same Idempotency-Key and body give the same turn, running or over; another body is a conflict."""
        handle = (submission.key, name)
        known = self._named.get(handle)
        if known is None:
            admitted: asyncio.Future[TurnFeed] = asyncio.get_running_loop().create_future()
            self._named[handle] = admitted
            try:
                row = await shard.store.find(*handle)
                feed = await (self._admit(submission, shard) if row is None else self._feed_of(row, shard))
            except BaseException as error:
                del self._named[handle]
                admitted.set_exception(error if isinstance(error, Exception) else Refusal("store_failed", "cut off"))
                admitted.exception()  # taken: nobody may be waiting
                raise
            admitted.set_result(feed)
            if feed.ended is None:
                self._named[handle] = feed
            else:
                del self._named[handle]
        else:
            feed = known if isinstance(known, TurnFeed) else await asyncio.shield(known)
        if feed.fingerprint != submission.fingerprint:
            raise Refusal("idempotency_conflict", "This Idempotency-Key was used with another request.")
        return feed

    async def _feed_of(self, row: TurnRow, shard: OwnedShard) -> TurnFeed:
        """The feed of a turn that is on disk: the living one, or one that tells its end."""
        turn_id = row.submission.turn_id
        if row.state == "queued" and turn_id not in self._feeds:
            await self._with_inheritance(row, shard)
        feed = self._feeds.get(turn_id)
        if feed is None:
            feed = TurnFeed(turn_id, row.submission.fingerprint)
            ended = row.ended or unstored_end(turn_id, row.session_id, "interrupted", cut_error("crash"))
            feed.end(replace(ended, replayed=True))
        return feed

    async def _admit(self, submission: Submission, shard: OwnedShard) -> TurnFeed:
        self._refuse_if_stopping()
        session = await self._session(submission.key, submission.principal, shard, stateless=submission.stateless)
        self._refuse_if_stopping()  # it may have begun meanwhile
        if len(session.runs) > self._config.mailbox_limit:
            why = f"{len(session.runs)} messages of this session run or wait already."
            raise Refusal("mailbox_full", why, MAILBOX_RETRY_AFTER_S)
        run = self._expect(session, submission, queued=bool(session.runs))
        try:
            await session.store.admit(submission, session.session_id, "queued" if run.queued else "running")
        except BaseException:
            self._unexpect(session, run)
            raise
        session.actor.tell(run)
        return run.feed

    def _refuse_if_stopping(self) -> None:
        if self._stopping:
            raise Refusal("gateway_draining", "The gateway is stopping.", DRAINING_RETRY_AFTER_S)

    def _expect(self, session: Session, submission: Submission, *, queued: bool) -> TurnRun:
        """Count a turn in before its commit, so that the session is neither overfilled nor put to sleep meanwhile."""
        feed = TurnFeed(submission.turn_id, submission.fingerprint)
        if submission.stateless and submission.idempotency_key is None:
            feed.on_abandoned = lambda: session.cancel(submission.turn_id)
        run = TurnRun(submission, feed, queued=queued)
        session.expect(run)
        self._feeds[submission.turn_id] = feed
        self._touch(session)
        return run

    def _unexpect(self, session: Session, run: TurnRun) -> None:
        session.unexpect(run)
        self._feeds.pop(run.submission.turn_id, None)
        if run.submission.idempotency_key is not None:
            self._named.pop((session.key, run.submission.idempotency_key), None)

    # -- what an earlier owner left -------------------------------------------------------------------------------
    def inherit(self, shard: OwnedShard, rows: Iterable[TurnRow]) -> None:
        """Turns that an earlier owner admitted and never began run first when their session is activated."""
        by_key = self._inherited[shard.number] = {}
        for row in rows:
            by_key.setdefault(row.submission.key, []).append(row)

    async def resume(self, shard: OwnedShard) -> None:
        """Activate the sessions with inherited turns, so that they run."""
        for rows in list(self._inherited.get(shard.number, {}).values()):
            await self._with_inheritance(rows[0], shard)

    async def _with_inheritance(self, row: TurnRow, shard: OwnedShard) -> None:
        submission = row.submission
        try:
            await self._session(submission.key, submission.principal, shard, stateless=submission.stateless)
        except (Refusal, StoreFailed) as error:  # the next message of the session, or the next owner, tries again
            log.error("queued turns not resumed", session=submission.key, why=str(error))  # noqa: TRY400  # says it all

    # -- activation -----------------------------------------------------------------------------------------------
    async def _session(self, key: str, principal: str, shard: OwnedShard, *, stateless: bool) -> Session:
        session = self._resident.get(key)
        if session is None:
            session = Session(key, shard, stateless=stateless, agency=self._agency, on_done=self._done)
            session.ready = asyncio.create_task(self._activate(session, principal))
            self._resident[key] = session
            self.passivate()
        if session.ready is not None:
            await asyncio.shield(session.ready)
        return session

    async def _activate(self, session: Session, principal: str) -> None:
        try:
            if session.stateless:
                session.session_id = f"conv_{session.key.rpartition(':')[2]}"
                session.created_at = time.time()
                session.on_ended = lambda run, ended: self._on_stateless_end(session.key, run, ended)
            else:
                session.session_id, session.created_at = await self._names.activate(
                    session.key, principal, session.shard, create=True
                )
                session.past = await session.store.transcript(session.session_id)
            session.toolbox = self._new_toolbox(session.key)
            session.start_actor()
            for row in self._inherited.get(session.shard.number, {}).pop(session.key, ()):
                session.actor.tell(self._expect(session, row.submission, queued=True))
        except BaseException:
            self._resident.pop(session.key, None)
            raise
        session.ready = None

    def _touch(self, session: Session) -> None:
        session.active_at = time.monotonic()
        self._resident.move_to_end(session.key)
        if not session.stateless:
            self.active[session.key] = time.time()

    def _done(self, session: Session, run: TurnRun) -> None:
        """The actor is through with a turn; where the actor died of it, the turn gets its end here."""
        self._unexpect(session, run)
        self.turns_ended += 1
        self._touch(session)
        if run.started and run.feed.ended is None:
            self._in_background(self._interrupt(session, run))

    async def _interrupt(self, session: Session, run: TurnRun) -> None:
        turn_id = run.submission.turn_id
        ended = unstored_end(turn_id, session.session_id, "interrupted", cut_error("crash"))
        try:
            await session.store.finish(ended, run.closing())
        except StoreFailed as error:
            log.error("interrupted turn not stored", session=session.key, turn=turn_id, why=str(error))  # noqa: TRY400  # the reason says it all
        run.feed.end(ended)

    # -- passivation and stop -------------------------------------------------------------------------------------
    def passivate(self) -> None:
        """Put the idle to sleep, and the longest idle where there are too many; called now and then."""
        keys = whom_to_passivate(
            ((key, session.active_at, session.busy) for key, session in self._resident.items()),
            count=len(self._resident),
            now=time.monotonic(),
            idle_ttl_s=self._config.idle_ttl_seconds,
            limit=self._config.max_resident_per_worker,
        )
        for key in keys:
            self._in_background(self._close(self._resident.pop(key)))

    async def _close(self, session: Session) -> None:
        """End a session's actor and connections. All its state is on disk."""
        session.actor.stop(block=False)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await session.toolbox.close()
        except TimeoutError:
            log.warning("tool servers slow to close", session=session.key, seconds=CLOSE_TIMEOUT_S)

    async def evict(self, key: str) -> None:
        """Cancel what runs in a session and put it to sleep, now."""
        session = self._resident.get(key)
        if session is None:
            return
        if session.ready is not None:
            await asyncio.shield(session.ready)
        for turn_id in list(session.runs):
            session.cancel(turn_id)
        await session.quiet.wait()
        if self._resident.pop(key, None) is not None:
            await self._close(session)

    async def stop(self, grace_s: float, reason: str) -> None:
        """Admit nothing more, let running turns end and interrupt the rest; waiting ones stay on disk as queued."""
        self._stopping = True
        runs = []
        for session in self._resident.values():
            head, *waiting = session.runs.values() or (None,)
            if head is not None:
                runs.append(head)
            for run in waiting:
                run.leave(session.session_id)
        await self._all_quiet_or_hurry(grace_s)
        error = cut_error(reason)
        for run in runs:
            run.cut(CutOff(state="interrupted", error=error))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CUT_TIMEOUT_S):
                await self._all_quiet()

    async def close(self) -> None:
        """End all actors and connections."""
        sessions = list(self._resident.values())
        self._resident.clear()
        await asyncio.gather(*(self._close(session) for session in sessions if session.ready is None))
        if self._background:
            await asyncio.wait(self._background, timeout=CLOSE_TIMEOUT_S)

    def hurry(self) -> None:
        """Wait no longer for the turns that run."""
        self._hurry.set()

    async def _all_quiet(self) -> None:
        for session in list(self._resident.values()):
            await session.quiet.wait()

    async def _all_quiet_or_hurry(self, timeout_s: float) -> None:
        """Wait until no turn runs, at most so long, and not at all once there is hurry."""
        quiet = asyncio.ensure_future(self._all_quiet())
        hurry = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait((quiet, hurry), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        quiet.cancel()
        hurry.cancel()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # -- for people -----------------------------------------------------------------------------------------------
    async def describe(self, key: str, shard: OwnedShard) -> dict[str, Any]:
        """What is known of a session here, as plain data.

        Raises:
            Refusal: ``session_not_found``.
        """
        session = self._resident.get(key)
        turns = await shard.store.counts(key)
        if session is None and not any(turns.values()):
            raise Refusal("session_not_found", f"There is no session {key}.")
        resident = session is not None and session.ready is None
        return {
            "key": key,
            "state": "passivated" if session is None else "busy" if session.busy else "idle",
            "session_id": session.session_id if session is not None and resident else None,
            "turns": turns,
        }

    async def messages(self, key: str, shard: OwnedShard, after: int, limit: int) -> dict[str, Any]:
        """A page of a session's transcript, oldest first, and the cursor of the next.

        Raises:
            Refusal: ``session_not_found``.
        """
        session_id = await self._session_id(key, shard)
        rows = await shard.store.page(session_id, after, limit + 1)
        page = [{"seq": row.seq, "turn_id": row.turn_id, "message": orjson.loads(row.body)} for row in rows[:limit]]
        return {"messages": page, "next": page[-1]["seq"] if len(rows) > limit else None}

    async def delete(self, key: str, shard: OwnedShard) -> None:
        """Cancel what runs in a session, drop its transcript, then its name.

        Raises:
            Refusal: ``session_not_found``.
        """
        await self._session_id(key, shard)
        await self.evict(key)
        await shard.store.delete(key)
        await self._names.forget(key, shard)
        self.active.pop(key, None)

    async def _session_id(self, key: str, shard: OwnedShard) -> str:
        session = self._resident.get(key)
        if session is not None and session.ready is None:
            return session.session_id
        session_id, _ = await self._names.activate(key, "", shard, create=False)
        return session_id
