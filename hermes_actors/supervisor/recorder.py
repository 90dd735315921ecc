"""Registry effects, in the supervisor actor's thread: what they record is durable before their answers leave."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, assert_never

import structlog

from hermes_actors.core import effects as core
from hermes_actors.core.drain.plan import shown as plan_shown
from hermes_actors.core.operators.views import session_line, session_shown, status
from hermes_actors.core.pool.policy import restart_after
from hermes_actors.core.sessions.lives import strikes_kept_since
from hermes_actors.core.sessions.marks import told
from hermes_actors.core.state import NEVER_RESTARTED, SessionEntry
from hermes_actors.operations.plain import parts
from hermes_actors.operations.requests import ResetSession, ResumeSession, SuspendSession
from hermes_actors.operations.results import ProcessFacts, RegistryFacts, SessionsListed, StoredFacts, StrikesCleared
from hermes_actors.records.database import RegistryFailed
from hermes_actors.records.ledger_file import LedgerNotWritten
from hermes_actors.records.rebuilding import Rebuilding
from hermes_actors.records.registry import BadCursor, Registry
from hermes_actors.supervisor.marking import Marking
from hermes_actors.wire import messages as wire
from hermes_actors.wire.failpoints import point
from hermes_actors.wire.records import Lost
from hermes_actors.wire.refusals import RefusalCode

NAMED = 1000  # sessions in a reply
LOSSES_SHOWN = 20  # in the status, the latest
MOST_LIVES = 50  # looked back at for strikes that no start has reckoned with

log = structlog.get_logger(__name__)


class NotWritable(Exception):
    """The disk cannot be written, and others rely on what was to be. Nothing was done; it is to be decided anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """A message for a worker that a registry effect made."""

    slot: int
    generation: int
    message: Any


Outgoing = core.OutwardEffect | Tell


class Recorder:
    """Registry effects. What they answer leaves only after the commit.

    Args:
        registry: where they are recorded.
        marking: marks and strikes, on the same registry.
        facts: what the status says of the process itself.
    """

    def __init__(self, registry: Registry, marking: Marking, facts: ProcessFacts) -> None:
        self._registry = registry
        self._marking = marking
        self._rebuilding = Rebuilding(registry, lambda: marking.threshold)
        self._facts = facts
        self._fault: str | None = None  # why the registry is not written at this moment

    def record(self, effects: Sequence[core.Effect]) -> list[Outgoing]:
        """Do the registry effects among these, durable when this returns; their answers stand where they stood.

        While the disk cannot be written, what would write is refused, and what nobody waits for is left out.

        Raises:
            NotWritable: the disk cannot be written, and something is among these that nobody can do without.
            RegistryFailed: the registry is damaged.
        """
        before = self._registry.writes
        if any(isinstance(effect, core.RecordCuts) for effect in effects):
            self._registry.wait_for_lock()  # this is tried once
        try:
            outgoing = [out for effect in effects if (out := self._outcome(effect)) is not None]
            self._marking.commit()
        except LedgerNotWritten as error:
            self._marking.rollback()
            raise NotWritable(str(error)) from error
        except RegistryFailed as error:
            if not error.is_short_of_space:
                raise
            self._fail(error)
            if any(isinstance(effect, _INDISPENSABLE) for effect in effects):
                raise NotWritable(str(error)) from error
            return [out for effect in effects if (out := self._outcome_without_writing(effect)) is not None]
        if self._fault is not None and self._registry.writes > before:
            log.info("the registry is written again")
            self._registry.wait_for_lock()
            self._fault = None
        return outgoing

    def _outcome(self, effect: core.Effect) -> Outgoing | None:
        return self._record(effect) if isinstance(effect, core.RegistryEffect) else effect

    def _outcome_without_writing(self, effect: core.Effect) -> Outgoing | None:
        """The answer to what only reads, and the refusal of what would write."""
        before = self._registry.writes
        try:
            outcome = self._outcome(effect)
            wrote = self._registry.writes > before
        except RegistryFailed as error:
            if not error.is_short_of_space:
                raise
            wrote = True
        self._marking.rollback()
        return _refused(effect) if wrote else outcome

    def _fail(self, error: RegistryFailed) -> None:
        self._marking.rollback()
        self._registry.wait_for_lock(0.0)  # whoever has it that long has it for longer; others want to be served
        if self._fault is None:
            log.error("the registry cannot be written; what would write to it is refused", why=str(error))
        self._fault = str(error)

    def _record(self, effect: core.RegistryEffect) -> Outgoing | None:
        """Do one effect in the open transaction; its answer, if it has one."""
        match effect:
            case core.CommitTable():
                self._registry.write_owners(effect.owners)
                return None
            case core.TouchSessions():
                self._registry.touch(effect.active, time.time())
                self._registry.losses.reached(effect.turns)
                return None
            case core.RecordOpened():
                since, lost = self._rebuilding.opened(effect.shard, effect.fence, effect.found)
                return _reckoned(effect, since, lost)
            case core.RecordAttested():
                return _reckoned(effect, self._rebuilding.attested(effect.shard, effect.latest))
            case core.ActivateSession():
                return self._activate(effect)
            case core.ForgetSession():
                return self._forget(effect)
            case core.RenameSession():
                return self._activated(effect, self._marking.reset(effect.key))
            case core.RestoreSession():
                return self._activated(effect, self._marking.resume(effect.key))
            case core.RecordFallback():
                return self._fall_back(effect)
            case core.PageForWorker():
                return self._page_for_worker(effect)
            case core.PageForOperator():
                return self._page_for_operator(effect)
            case core.ReplyStatus():
                return self._status(effect)
            case core.ReplySession():
                return self._session(effect)
            case _:
                return self._reckon(effect)

    # -- sessions ---------------------------------------------------------------------------------------------------
    def _activate(self, effect: core.ActivateSession) -> Tell:
        entry = self._registry.session(effect.key)
        if effect.create:
            if entry is None:
                entry = self._registry.add(effect.key, effect.principal, effect.shard, time.time())
            else:
                entry = self._marking.spoken_to(entry)
        return self._activated(effect, entry)

    def _activated(
        self, effect: core.ActivateSession | core.RenameSession | core.RestoreSession, entry: SessionEntry | None
    ) -> Tell:
        message: wire.Activated | wire.Refused
        if entry is None:
            restoring = isinstance(effect, core.RestoreSession)
            why = f"{effect.key} has no earlier transcript" if restoring else f"there is no session {effect.key!r}"
            message = wire.Refused(request=effect.request, code=RefusalCode.NOT_FOUND, why=why)
        else:
            marks = entry.marks
            interrupted, fresh, suspended = told(marks)
            lost = self._registry.losses.untold(entry)
            message = wire.Activated(
                request=effect.request,
                session_id=entry.session_id,
                created_at=entry.created_at,
                resume=interrupted,
                fresh=fresh,
                strikes=self._marking.strikes(effect.key),
                suspended=suspended,
                lost=None if lost is None else Lost(lost.what, lost.at, lost.until),
                former_id=marks.former_id,
            )
        return Tell(slot=effect.slot, generation=effect.generation, message=message)

    def _forget(self, effect: core.ForgetSession) -> Tell:
        self._registry.forget(effect.key)
        self._marking.forget(effect.key)
        recorded = wire.Recorded(request=effect.request)
        return Tell(slot=effect.slot, generation=effect.generation, message=recorded)

    def _fall_back(self, effect: core.RecordFallback) -> core.SendRestartActor | None:
        entry = self._registry.session(effect.key)
        before = NEVER_RESTARTED if entry is None else entry.actor  # a stateless conversation has no entry
        after = restart_after(before, effect.turn_id, effect.reason, time.time())
        if after is None:
            return None
        self._registry.write_actor(effect.key, after)
        return core.SendRestartActor(
            slot=effect.slot, generation=effect.generation, key=effect.key, reason=effect.reason
        )

    # -- marks and strikes ------------------------------------------------------------------------------------------
    def _reckon(self, effect: core.MarkingEffect) -> Outgoing | None:
        marking, chronicle = self._marking, self._registry.chronicle
        match effect:
            case core.RecordRecovered():
                marking.cut(effect.cuts, "crash")
                marking.suspend_stuck(effect.shard, effect.shards)
                return _recorded(effect)
            case core.RecordSucceeded():
                marking.succeeded(effect.key, effect.turn_id)
                return _recorded(effect)
            case core.ProveWritable():
                marking.prove_writable()
            case core.RecordStopBegan():
                chronicle.reached("stop_began_at", effect.at)
            case core.RecordStopCancelled():
                chronicle.goes_on()
            case core.RecordCuts():
                point("seal.answered")
                marking.cut(effect.cuts, effect.reason)
                chronicle.reached("stop_began_at", effect.since)  # unless that could be written before
                if effect.drop_idle:
                    marking.drop_idle(effect.busy, effect.unknown, effect.shards, cut_since=effect.since)
            case core.SettleStart():
                since = strikes_kept_since(chronicle.lives(MOST_LIVES))
                marking.drop_idle(effect.busy, effect.unread, effect.shards, cut_since=since)
                chronicle.reached("settled_at", time.time())
            case core.NoteReady():
                chronicle.reached("ready_at", time.time())
            case core.ChangeSession():
                changes = {
                    SuspendSession: marking.suspend,
                    ResumeSession: marking.resume,
                    ResetSession: marking.reset,
                }
                changes[type(effect.change)](effect.key)
                return effect.then
            case core.ClearStrikes():
                cleared = marking.clear(None if effect.key is None else [effect.key])
                done = StrikesCleared(cleared=tuple(cleared))
                return core.Reply(client=effect.client, request=effect.request, result=done)
            case core.ReplyDrained():
                stuck = [key for key in effect.cut if marking.strikes(key) >= marking.threshold]
                drained = replace(effect.drained, suspended=tuple(stuck[:NAMED]))
                return core.Reply(client=effect.client, request=effect.request, result=drained)
            case core.ReplyPlan():
                planned = plan_shown(effect.plan, marking.strikes, marking.threshold)
                return core.Reply(client=effect.client, request=effect.request, result=planned)
            case _:
                assert_never(effect)
        return None

    # -- answers ----------------------------------------------------------------------------------------------------
    def _page_for_worker(self, effect: core.PageForWorker) -> Outgoing:
        try:
            entries, cursor = self._registry.page(effect.principal, effect.after, effect.limit)
        except BadCursor as error:
            return core.SendRefused(
                slot=effect.slot,
                generation=effect.generation,
                request=effect.request,
                code=RefusalCode.BAD_REQUEST,
                why=str(error),
            )
        page = wire.SessionPage(request=effect.request, sessions=[_plain(entry) for entry in entries], next=cursor)
        return Tell(slot=effect.slot, generation=effect.generation, message=page)

    def _page_for_operator(self, effect: core.PageForOperator) -> core.Reply:
        client, request = effect.client, effect.request
        try:
            entries, cursor = self._registry.page(None, effect.after, effect.limit)
        except BadCursor as error:
            return core.Reply(client=client, request=request, error=RefusalCode.BAD_REQUEST, why=f"after: {error}")
        lines = (session_line(entry, effect.owners, effect.up, self._marking.strikes(entry.key)) for entry in entries)
        return core.Reply(client=client, request=request, result=SessionsListed(sessions=tuple(lines), next=cursor))

    def _session(self, effect: core.ReplySession) -> Outgoing | None:
        entry = self._registry.session(effect.entry.key) or effect.entry
        if effect.changed and entry == effect.entry and self._fault is not None:
            return _refused(effect)
        strikes = self._marking.strikes(entry.key)
        shown = session_shown(entry, effect.owners, effect.up, strikes, effect.known)
        return core.Reply(client=effect.client, request=effect.request, result=shown)

    def _status(self, effect: core.ReplyStatus) -> core.Reply:
        standing = self._registry.standing()
        stored = StoredFacts(
            **parts(self._facts),
            suspended=standing["suspended"],
            resume_pending=standing["resume_pending"],
            sessions=self._registry.count(),
            ledger=self._marking.facts(),
            registry=RegistryFacts(fault=self._fault),
            losses=self._registry.losses.latest(LOSSES_SHOWN),
        )
        return core.Reply(client=effect.client, request=effect.request, result=status(effect.state, stored, effect.now))


_INDISPENSABLE = (core.CommitTable, core.RecordCuts, core.ProveWritable)  # nobody may act before they are durable


def _refused(effect: core.Effect) -> Outgoing | None:
    why = "the registry cannot be written; the log says why"
    match effect:
        case core.AnswersWorker():
            return core.SendRefused(
                slot=effect.slot,
                generation=effect.generation,
                request=effect.request,
                code=RefusalCode.STORE_FAILED,
                why=why,
            )
        case core.AnswersOperator():
            return core.Reply(client=effect.client, request=effect.request, error=RefusalCode.STORE_FAILED, why=why)
        case _:  # nobody waits for it
            return None


def _recorded(effect: core.RecordRecovered | core.RecordSucceeded) -> Tell:
    return Tell(slot=effect.slot, generation=effect.generation, message=wire.Recorded(request=effect.request))


def _reckoned(effect: core.RecordOpened | core.RecordAttested, since: int | None, lost: str | None = None) -> Tell:
    reckoned = wire.Reckoned(request=effect.request, since=since, lost=lost)
    return Tell(slot=effect.slot, generation=effect.generation, message=reckoned)


def _plain(entry: SessionEntry) -> dict[str, Any]:
    return {
        "key": entry.key,
        "session_id": entry.session_id,
        "created_at": entry.created_at,
        "last_active_at": entry.last_active_at,
    }
