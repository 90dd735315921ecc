"""Marks and strikes, changed together: marks in the registry, strikes in the ledger, the reasons in the chronicle.

Changes gather until :meth:`Marking.commit`: the registry first, then the ledger. A kill between the two costs nothing:
a cut turn that is found again strikes once, and a session that is suspended already is suspended again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path

import structlog

from hermes_actors.core.sessions import ledger as strikes
from hermes_actors.core.sessions import marks
from hermes_actors.core.sessions.ledger import Cause
from hermes_actors.core.sessions.lives import Incident, What
from hermes_actors.core.sessions.marks import Standing
from hermes_actors.core.state import SessionEntry
from hermes_actors.operations.results import LedgerFacts
from hermes_actors.records.ledger_file import LedgerFile, LedgerNotWritten, LedgerUnusable
from hermes_actors.records.registry import Registry
from hermes_actors.records.session_ids import new_session_id
from hermes_actors.wire.records import CutTurn
from hermes_actors.wire.sharding import shard_of

log = structlog.get_logger(__name__)


class Marking:
    """How sessions stand. Used by one thread at a time.

    Args:
        registry: where marks and reasons are.
        file: where strikes are.
        threshold: how many strikes suspend, at this moment.
        now: seconds since the epoch.
    """

    def __init__(
        self, registry: Registry, file: LedgerFile, threshold: Callable[[], int], now: Callable[[], float] = time.time
    ) -> None:
        self._registry = registry
        self._file = file
        self._threshold = threshold
        self._now = now
        self._ledger = strikes.absolve(file.ledger, self._left_over(file.ledger))
        self._recorded = self._ledger  # as it goes with what the registry has
        self._not_written: str | None = None

    def _left_over(self, ledger: strikes.Ledger) -> list[str]:
        """Strikes of sessions that are clear, or gone: of a success that was recorded in the registry only.

        A registry that lost sessions may get them back from the shard files, so they keep their strikes for now.
        """
        entries = {key: self._registry.session(key) for key in ledger.entries}
        lost = self._registry.behind is not None
        return [
            key
            for key, entry in entries.items()
            if (entry is None and not lost) or (entry is not None and entry.marks.standing is Standing.CLEAR)
        ]

    # -- what happens -----------------------------------------------------------------------------------------------
    def cut(self, cuts: Iterable[CutTurn], cause: Cause) -> None:
        """Running turns were cut: a strike and a mark for each session, once, however often it is told.

        One that was reset since, while nobody ran it, begins with neither.
        """
        at = self._now()
        found = [(turn, entry) for turn in cuts if (entry := self._registry.session(turn.key)) is not None]
        known = [(turn, entry) for turn, entry in found if turn.session_id in (None, entry.session_id)]
        struck = [turn for turn, entry in known if entry.marks.standing is not Standing.SUSPENDED]
        self._ledger = strikes.cut(self._ledger, struck, cause, at)
        for turn, entry in known:
            after = marks.cut(entry.marks, cause, turn.turn_id, at)
            if after is not entry.marks:  # else the history has this cut already, with the mark
                self._registry.write_marks(turn.key, entry.session_id, after)
                self._tell(entry, "cut", reason=cause, turn_id=turn.turn_id)

    def suspend_stuck(self, shard: int, shards: int) -> tuple[str, ...]:
        """Suspend the sessions of a shard that have too many strikes; their keys.

        The shard is one that nobody serves yet: elsewhere a session may be about to succeed.
        """
        ledger, keys = strikes.suspended_at(self._ledger, self._threshold(), lambda key: shard_of(key, shards) == shard)
        for key in keys:
            entry = self._registry.session(key)
            # It may have been deleted meanwhile, or an earlier life recorded this and died before the ledger did.
            if entry is not None and entry.marks.standing is not Standing.SUSPENDED:
                reason = self._ledger.entries[key].causes[-1]
                self._registry.write_marks(key, entry.session_id, marks.stuck(entry.marks, reason, self._now()))
                self._tell(entry, "suspended", reason=reason)
                log.warning("session suspended", session=key, strikes=self._ledger.count(key), last=reason)
        self._ledger = ledger
        return keys

    def drop_idle(self, busy: AbstractSet[str], unknown: AbstractSet[int], shards: int, *, cut_since: float) -> None:
        """The supervisor stops, or has started: who has no turn that runs or waits loses its strikes, never its mark.

        Args:
            busy: keys of the sessions that have.
            unknown: shards of which nobody could tell; what belongs there keeps its strikes.
            shards: how many there are in all.
            cut_since: strikes from then on are kept, in seconds since the epoch.
        """
        unheard = {key for key in self._ledger.entries if shard_of(key, shards) in unknown}
        before = self._ledger
        self._ledger = strikes.drop_idle(
            before, busy | unheard, threshold=self._threshold(), now=self._now(), cut_since=cut_since
        )
        for key in before.entries.keys() - self._ledger.entries.keys():
            entry = self._registry.session(key)
            if entry is not None and self._registry.chronicle.latest_of(key) != "idle":  # see suspend_stuck
                self._tell(entry, "idle")

    def spoken_to(self, entry: SessionEntry) -> SessionEntry:
        """A message came: a suspended session begins afresh."""
        if entry.marks.standing is not Standing.SUSPENDED:
            return entry
        return self._changed(entry, self._new_id(entry), marks.begin_afresh(entry.marks, entry.session_id), "fresh")

    def succeeded(self, key: str, turn_id: str) -> None:
        """A turn was answered: marks and strikes are over."""
        entry = self._registry.session(key)
        if entry is None or entry.marks.standing is Standing.SUSPENDED:  # meanwhile, by an operator
            return
        if self._registry.losses.untold(entry) is not None:
            self._registry.losses.tell(key)
            self._tell(entry, "told", turn_id=turn_id)
        if not entry.marks.plain or self._ledger.count(key):
            self._changed(entry, entry.session_id, marks.succeed(entry.marks), "succeeded", turn_id=turn_id)

    def _new_id(self, entry: SessionEntry) -> str:
        return new_session_id(self._now(), entry.session_id, entry.marks.former_id)

    def reset(self, key: str) -> SessionEntry | None:
        """A session begins another transcript on purpose; None where there is no such session."""
        entry = self._registry.session(key)
        if entry is None:
            return None
        return self._changed(entry, self._new_id(entry), marks.reset(entry.marks, entry.session_id), "reset")

    def resume(self, key: str) -> SessionEntry | None:
        """The transcript that was set aside comes back; None where none was, or there is no such session."""
        entry = self._registry.session(key)
        back = None if entry is None else marks.resume(entry.marks, entry.session_id)
        if entry is None or back is None:
            return None
        return self._changed(entry, *back, "resumed")

    def suspend(self, key: str) -> None:
        """An operator takes a session out of service."""
        entry = self._registry.session(key)
        if entry is not None and entry.marks.standing is not Standing.SUSPENDED:
            after = marks.suspend(entry.marks, self._now())
            self._changed(entry, entry.session_id, after, "suspended", reason=marks.BY_OPERATOR)

    def clear(self, keys: Iterable[str] | None) -> tuple[str, ...]:
        """Forget strikes at an operator's wish, None: all of them; the keys that had some. Marks stay."""
        wanted = self._ledger.entries.keys() if keys is None else self._ledger.entries.keys() & set(keys)
        cleared = tuple(sorted(wanted))
        self._ledger = strikes.absolve(self._ledger, cleared)
        for key in cleared:
            entry = self._registry.session(key)
            if entry is not None:
                self._tell(entry, "cleared")
        return cleared

    def forget(self, key: str) -> None:
        """A session was deleted."""
        self._ledger = strikes.absolve(self._ledger, [key])

    def _changed(
        self,
        entry: SessionEntry,
        session_id: str,
        after: marks.Marks,
        what: What,
        *,
        reason: str | None = None,
        turn_id: str | None = None,
    ) -> SessionEntry:
        """Write new marks of a session whose strikes are over with that."""
        self._ledger = strikes.absolve(self._ledger, [entry.key])
        self._registry.write_marks(entry.key, session_id, after)
        self._tell(entry, what, reason=reason or entry.marks.reason, turn_id=turn_id)
        changed = self._registry.session(entry.key)
        assert changed is not None
        return changed

    def _tell(self, entry: SessionEntry, what: What, *, reason: str | None = None, turn_id: str | None = None) -> None:
        incident = Incident(
            key=entry.key,
            at=self._now(),
            boot=self._registry.chronicle.boot,
            what=what,
            reason=reason,
            turn_id=turn_id,
            session_id=entry.session_id,
            strikes=self._ledger.count(entry.key),
            threshold=self._threshold(),
        )
        self._registry.chronicle.tell(incident)

    # -- what is known ----------------------------------------------------------------------------------------------
    def strikes(self, key: str) -> int:
        """How many strikes a session has."""
        return self._ledger.count(key)

    @property
    def threshold(self) -> int:
        """How many strikes suspend."""
        return self._threshold()

    def facts(self) -> LedgerFacts:
        """The ledger in the status."""
        fault = self._not_written or (str(self._file.fault) if self._file.fault else None)
        aside = str(self._file.aside.path) if self._file.aside else None
        return LedgerFacts(sessions=len(self._ledger.entries), fault=fault, set_aside=aside)

    # -- the disk ---------------------------------------------------------------------------------------------------
    def commit(self) -> None:
        """Make all of it durable. A ledger that cannot be written is told, remembered, and tried again each time."""
        self._registry.commit()
        self._recorded = self._ledger
        try:
            self._file.commit(self._ledger)
        except LedgerNotWritten as error:
            if self._not_written is None:
                log.error("the ledger is not written; strikes are only remembered", why=str(error))  # noqa: TRY400  # says it all
            self._not_written = str(error)
            return
        if self._not_written is not None:
            log.info("the ledger is written again")
            self._not_written = None

    def prove_writable(self) -> None:
        """Write something to either file.

        Raises:
            RegistryFailed: the registry cannot be written.
            LedgerNotWritten: the ledger cannot.
        """
        self._registry.note_proof(self._now())
        self._file.rewrite()

    def rollback(self) -> None:
        """Forget what was not committed."""
        self._registry.rollback()
        self._ledger = self._recorded

    def close(self) -> None:
        """Let go of the ledger."""
        self._file.close()


def open_ledger(path: Path) -> LedgerFile:
    """The ledger's file, or where it cannot be used one in memory: strikes are no reason not to serve."""
    try:
        file = LedgerFile.open(path)
    except LedgerUnusable as error:
        log.error("the ledger cannot be used; strikes are only remembered in this life", why=str(error))  # noqa: TRY400  # says it all
        return LedgerFile.remembered(path, error)
    if file.aside is not None:
        log.error("the ledger was corrupt and is begun anew", why=file.aside.why, set_aside=str(file.aside.path))
    return file
