"""How a message becomes a turn: on disk before it is acknowledged, and once, however often it is sent."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import structlog

from hermes_actors.wire.failpoints import point
from hermes_actors.wire.refusals import RefusalCode
from workers.runtimes.transcript import brings_results, results_in, waiting_calls
from workers.session_keys import is_bare
from workers.sessions.agent import Resident
from workers.sessions.client_tools import no_such_call
from workers.sessions.command_run import CommandRun, answer, answer_at_once, restart_words
from workers.sessions.commands import Command, command_in
from workers.sessions.feed import TurnFeed
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.resending import Recognised, SameTurn, recognise
from workers.sessions.residents import Residents
from workers.sessions.turn import TurnRun
from workers.sessions.work import Work
from workers.store.shard import StaleFence, StoreFailed, TurnRow
from workers.turn_errors import (
    STORE_FAILED_WORDS,
    cancelled_error,
    cut_error,
    not_done_error,
    store_error,
    unstored_end,
    waiting_error,
)
from workers.turns import Ended, Parked, Refusal, Submission, TurnState

log = structlog.get_logger(__name__)

SHARD_RETRY_AFTER_S = 1.0
MAX_KNOWN_COMMANDS = 1000  # the latest, so that none is done again; commands are not on disk
MAX_BARE = 64  # requests to the model alone that a worker runs at once
MAILBOX_RETRY_AFTER_S = 2.0  # a turn's length is unknown; soon enough to notice, late enough not to hammer

CUT_BEFORE = (
    "A restart or a crash of the gateway cut the turn of this message off. It does not run again, because its tools "
    "may have acted. What to do: say how to go on, in other words."
)

Admit: TypeAlias = Callable[[Submission, OwnedShard], Awaitable[TurnFeed]]


class Admission:
    """Takes messages for the sessions of this worker's shards.

    Args:
        admins: the principals who may restart the gateway.
        on_restart_wanted: called with the key of the session whose message asks for a restart.
    """

    def __init__(
        self, sessions: Residents, *, admins: Collection[str], on_restart_wanted: Callable[[str], None]
    ) -> None:
        self._admins = admins
        self._sessions = sessions
        self._on_restart_wanted = on_restart_wanted
        self._named: dict[tuple[str, str], asyncio.Event] = {}  # (key, Idempotency-Key) being looked up or admitted
        self._commands: OrderedDict[tuple[str, str], TurnFeed] = OrderedDict()  # (key, name): the latest

    def reconfigure(self, admins: Collection[str]) -> None:
        """From the next message on these principals may restart the gateway."""
        self._admins = admins

    async def submit(self, submission: Submission, shard: OwnedShard, *, again: bool) -> TurnFeed:
        """Admit a turn: it is on disk when this returns, and its feed will tell the rest.

        Args:
            submission: the message.
            shard: its shard, owned by this worker.
            again: an owner that died may have had this turn already.

        Raises:
            Refusal: not accepted, nothing is kept; or accepted before, and held back for a time that is not known.
            Parked: it waits for the end of a drain, as the sender wanted.
        """
        try:
            feed = await self._submitted(submission, shard, again=again)
        except StoreFailed as error:
            log.error("turn not admitted", session=submission.key, turn=submission.turn_id, why=str(error))  # noqa: TRY400  # the reason says it all
            raise refusal_of(error) from error
        resident, draining = self._sessions.get(submission.key), self._sessions.draining
        work = None if resident is None else resident.mailbox.items.get(feed.turn_id)
        if resident is not None and resident.mailbox.paused and work is not None and not work.begun:
            if submission.park:
                point("turn.parked")
                raise Parked(feed.turn_id, draining.retry_after_s)
            if draining.is_held:  # the callers before this one were sent away
                raise draining.kept_refusal()
        return feed

    async def _submitted(self, submission: Submission, shard: OwnedShard, *, again: bool) -> TurnFeed:
        command = None if is_bare(submission.key) else command_in(submission.messages)
        if command is not None and command.only_tells:
            return await answer_at_once(command, submission, self._sessions, shard)
        if again and (known := self._known_command((submission.key, submission.turn_id))) is not None:
            return known
        if again and (row := await shard.store.turn(submission.turn_id)) is not None:
            try:
                return await self.feed_of(row, shard)
            except Refusal as refusal:
                refusal.kept = refusal.code == RefusalCode.GATEWAY_DRAINING  # its next owner begins it
                raise
        admit = self._admit if command is None else partial(self._command, command)
        if submission.idempotency_key is not None:
            return await self._named_turn(submission, shard, admit)
        return await admit(submission, shard)

    async def _named_turn(self, submission: Submission, shard: OwnedShard, admit: Admit) -> TurnFeed:
        """The same Idempotency-Key and body give the same turn, running or over; another body is a conflict."""
        handle = _handle(submission)
        while (first := self._named.get(handle)) is not None:
            await first.wait()  # then the turn is known, or it is up to the next who sent it
        settled = self._named[handle] = asyncio.Event()
        try:
            feed = self._known_command(handle)
            if feed is None:
                row = await shard.store.find(*handle)
                feed = await (admit(submission, shard) if row is None else self.feed_of(row, shard))
        finally:
            del self._named[handle]
            settled.set()
        if feed.fingerprint != submission.fingerprint:
            raise Refusal(RefusalCode.IDEMPOTENCY_CONFLICT, "This Idempotency-Key was used with another request.")
        return feed

    async def feed_of(self, row: TurnRow, shard: OwnedShard) -> TurnFeed:
        """The feed of a turn that is on disk: the living one, or one that tells its end."""
        submission = row.submission
        unstored = shard.unstored.end_of(submission)
        feed = self._living(submission)
        if row.state == "queued" and unstored is None and feed is None:
            # An earlier owner left it: it runs once its session is here.
            await self._sessions.activated(submission.key, submission.principal, shard, stateless=submission.stateless)
            row = await shard.store.turn(submission.turn_id) or row
            feed = self._living(submission)
        if feed is None:
            feed = TurnFeed(submission.turn_id, submission.fingerprint)
            why = waiting_error() if row.state == "queued" else cut_error("crash")
            ended = row.ended or unstored or unstored_end(submission.turn_id, row.session_id, "interrupted", why)
            feed.end(replace(ended, replayed=True))
        return feed

    def _living(self, submission: Submission) -> TurnFeed | None:
        """The feed of a turn that runs or waits here."""
        resident = self._sessions.get(submission.key)
        work = None if resident is None else resident.mailbox.items.get(submission.turn_id)
        return None if work is None else work.feed

    # -- commands -------------------------------------------------------------------------------------------------
    def _known_command(self, handle: tuple[str, str]) -> TurnFeed | None:
        """The command that was sent under this name, unless the gateway stopped before it was done."""
        feed = self._commands.get(handle)
        return None if feed is None or (feed.ended is not None and feed.ended.state == "interrupted") else feed

    async def _command(self, command: Command, submission: Submission, shard: OwnedShard) -> TurnFeed:
        """Begin a command, and remember it for who sends it again."""
        _refuse_if_late(submission)
        match command.word:
            case "stop":
                feed = self._stop(command, submission, shard)
            case "restart":
                feed = await self._restart(submission, shard)
            case _:
                feed = await self._mail(command, submission, shard)
        if command.word == "retry" and submission.idempotency_key is None:  # it is on disk, and may be large
            return feed
        self._commands[_handle(submission)] = feed
        if len(self._commands) > MAX_KNOWN_COMMANDS:
            self._commands.popitem(last=False)
        return feed

    def _stop(self, command: Command, submission: Submission, shard: OwnedShard) -> TurnFeed:
        """End the turn that runs. That may take longer than a caller waits to be accepted."""
        feed = TurnFeed(submission.turn_id, submission.fingerprint)

        async def stop() -> None:
            try:
                told = await answer_at_once(command, submission, self._sessions, shard)
                assert told.ended is not None
                feed.end(told.ended)
            finally:
                feed.end(answer(submission, "", "interrupted", "", not_done_error()))  # unless it has its end

        self._sessions.background.start(stop())
        return feed

    async def _restart(self, submission: Submission, shard: OwnedShard) -> TurnFeed:
        """Ask for a planned restart of the gateway, if the sender may; a drain that goes on is not asked for again."""
        allowed = submission.principal in self._admins
        draining = self._sessions.draining.goes_on
        ended = answer(submission, "", "completed", restart_words(allowed=allowed, draining=draining))
        if allowed and not draining:  # as a whole, though its caller goes away: a repeat finds it done
            await asyncio.shield(asyncio.ensure_future(self._want_restart(submission, shard, ended)))
        feed = TurnFeed(submission.turn_id, submission.fingerprint)
        feed.end(ended)
        return feed

    async def _want_restart(self, submission: Submission, shard: OwnedShard, ended: Ended) -> None:
        if submission.idempotency_key is not None:  # its sender may repeat it after the restart
            await shard.store.admit(replace(submission, stateless=True), "", "running")  # in no transcript
            await shard.store.finish(ended, ())
        log.warning("restart asked for in a message", session=submission.key, principal=submission.principal)
        self._on_restart_wanted(submission.key)

    async def _mail(self, command: Command, submission: Submission, shard: OwnedShard) -> TurnFeed:
        """A command that waits for its turn; it is not on disk, what it begins may be."""
        resident = await self._room(submission, shard, parkable=False)
        items = resident.mailbox.items
        if (before := items.get(submission.turn_id)) is not None:  # handed over again meanwhile
            return before.feed
        if submission.idempotency_key is None:
            same = recognise(submission.messages, items.values(), None, now=time.time())
            if isinstance(same, SameTurn):
                return items[same.turn_id].feed
        run = CommandRun(submission, command)
        self._count_in(resident, run)
        return run.feed

    # -- the mailbox ----------------------------------------------------------------------------------------------
    async def _admit(self, submission: Submission, shard: OwnedShard) -> TurnFeed:
        resident = await self._room(submission, shard, parkable=True)
        if (before := resident.mailbox.items.get(submission.turn_id)) is not None:  # handed over again meanwhile
            return before.feed
        place = None
        if not submission.stateless:
            recognised = self._recognised(resident, submission)
            if isinstance(recognised, SameTurn):
                return await self._again(resident, recognised.turn_id, shard)
            if recognised is not None:
                place = recognised.turn_id
                await resident.session.store_unstored()
        return await self._new_turn(resident, submission, place)

    async def _new_turn(self, resident: Resident, submission: Submission, instead_of: str | None) -> TurnFeed:
        mailbox, session = resident.mailbox, resident.session
        feed = TurnFeed(submission.turn_id, submission.fingerprint)
        queued = bool(mailbox.items) or mailbox.paused or instead_of is not None
        run = TurnRun(submission, feed, queued=queued)
        self._count_in(resident, run)  # before its commit, so that the session is neither overfilled nor passivated
        try:  # where nothing is before it, it begins meanwhile: the model may be asked for a turn that is not kept
            state: TurnState = "queued" if queued else "running"
            await session.store.admit(submission, session.session_id, state, instead_of=instead_of)
        except asyncio.CancelledError:
            self._sessions.background.start(self._admitted_alone(resident, run, instead_of))
            raise
        except StoreFailed as error:
            self._not_admitted(resident, run, error)
            raise
        point("turn.admitted")
        _admitted(resident, run, instead_of)
        return feed

    def _recognised(self, resident: Resident, submission: Submission) -> Recognised:
        """What a message repeats. Its ``Idempotency-Key`` says so itself, but not of the results of a client's tools.

        Raises:
            Refusal: ``no_such_call``; no call waits for one of the results that it brings.
        """
        messages, past = submission.messages, resident.session.past
        brings = brings_results(messages)
        if submission.idempotency_key is not None and not brings:
            return None
        last = past[-1] if past else None
        recognised = recognise(messages, resident.mailbox.items.values(), last, now=time.time())
        if recognised is None and brings:
            waiting = waiting_calls(past)
            missing = [call_id for call_id in results_in(messages) if call_id not in waiting]
            if missing:
                raise Refusal(RefusalCode.NO_SUCH_CALL, no_such_call(missing))
        return recognised

    async def _again(self, resident: Resident, turn_id: str, shard: OwnedShard) -> TurnFeed:
        """The feed of a turn whose message came again: it lives, or its end is on disk or owed to it.

        Raises:
            Refusal: ``turn_interrupted``; it was cut, and its message came again before.
        """
        work = resident.mailbox.items.get(turn_id)
        if work is not None:
            return work.feed
        last = resident.session.past[-1]
        last.unheard = False  # its caller hears it now
        if last.state == "interrupted":
            if last.repeated:
                raise Refusal(RefusalCode.TURN_INTERRUPTED, CUT_BEFORE)
            last.repeated = True
        row = await shard.store.turn(turn_id)
        if row is None:
            raise Refusal(RefusalCode.SHARD_UNAVAILABLE, "The session was deleted just now.", SHARD_RETRY_AFTER_S)
        return await self.feed_of(row, shard)

    def _count_in(self, resident: Resident, work: Work) -> None:
        submission = work.submission
        if submission.stateless and submission.idempotency_key is None:
            work.feed.on_abandoned = lambda: resident.cancel(submission.turn_id, cancelled_error())
        self._sessions.touch(resident)
        resident.count_in(work)

    async def _room(self, submission: Submission, shard: OwnedShard, *, parkable: bool) -> Resident:
        """The session, resident and with room in its mailbox; it stays so until the caller awaits something else.

        Raises:
            Refusal: ``mailbox_full``, ``gateway_draining``, ``shard_unavailable``, ``too_late``.
        """
        sessions = self._sessions
        sessions.draining.refuse(parkable=parkable, park=submission.park)
        resident = await sessions.activated(submission.key, submission.principal, shard, stateless=submission.stateless)
        sessions.draining.refuse(parkable=parkable, park=submission.park)  # it may have begun meanwhile
        _refuse_if_late(submission)
        if is_bare(submission.key) and (bare := sum(is_bare(other.session.key) for other in sessions)) > MAX_BARE:
            why = f"{bare - 1} requests to the model alone run in this worker already."
            raise Refusal(RefusalCode.MAILBOX_FULL, why, MAILBOX_RETRY_AFTER_S)
        items = resident.mailbox.items
        if len(items) > sessions.config.mailbox_limit and submission.turn_id not in items:
            why = f"{len(items)} messages of this session run or wait already."
            raise Refusal(RefusalCode.MAILBOX_FULL, why, MAILBOX_RETRY_AFTER_S)
        return resident

    async def _admitted_alone(self, resident: Resident, run: TurnRun, instead_of: str | None) -> None:
        """The caller went away during the commit, which goes on: what it brought to disk is a turn like any other."""
        try:
            row = await resident.session.store.turn(run.turn_id)
        except StoreFailed as error:
            self._not_admitted(resident, run, error)
            return
        if row is None:
            self._not_admitted(resident, run, StoreFailed("it was not stored"))
        else:
            run.feed.abandon()
            _admitted(resident, run, instead_of)

    def _not_admitted(self, resident: Resident, run: TurnRun, error: StoreFailed) -> None:
        session = resident.session
        log.error("message not stored", session=session.key, turn=run.turn_id, why=str(error))
        run.feed.end(unstored_end(run.turn_id, session.session_id, "failed", store_error()))
        if run.started:
            resident.cancel(run.turn_id, store_error())
            run.decided()
        else:
            resident.gone(run)


def _admitted(resident: Resident, run: TurnRun, instead_of: str | None) -> None:
    """A turn is on disk; the one whose place it took is in the transcript no more."""
    if instead_of is not None:
        resident.session.retracted(instead_of)
    resident.stored(run)
    run.decided()


def _handle(submission: Submission) -> tuple[str, str]:
    """By what a message is known that comes again: its session, and its Idempotency-Key or the turn's own id."""
    return submission.key, submission.idempotency_key or submission.turn_id


def _refuse_if_late(submission: Submission) -> None:
    """Begin nothing that was given up: its sender may send it again.

    Raises:
        Refusal: ``too_late``.
    """
    if time.monotonic() > submission.deadline:
        raise Refusal(RefusalCode.TOO_LATE, "the message reached it after its deadline, and was dropped")


def refusal_of(error: StoreFailed) -> Refusal:
    """The refusal of a message whose store failed before anything was promised."""
    if isinstance(error, StaleFence):
        return Refusal(RefusalCode.SHARD_UNAVAILABLE, f"The session is moving ({error}).", SHARD_RETRY_AFTER_S)
    return Refusal(RefusalCode.STORE_FAILED, STORE_FAILED_WORDS)
