"""The registry and the ledger as decisions read and write them, in the supervisor actor's thread."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import assert_never

import structlog

from hermes_actors.core import effects as fx
from hermes_actors.core.sessions.ledger import Ledger
from hermes_actors.core.sessions.lives import Life
from hermes_actors.core.state import SessionEntry
from hermes_actors.operations.plain import parts
from hermes_actors.operations.results import LedgerFacts, Loss, ProcessFacts, RegistryFacts, StoredFacts
from hermes_actors.records.database import RegistryFailed
from hermes_actors.records.ledger_file import LedgerFile, LedgerNotWritten, LedgerUnusable
from hermes_actors.records.rebuilding import Rebuilding
from hermes_actors.records.registry import Registry
from hermes_actors.wire import messages as wire

LOSSES_SHOWN = 20  # in the status, the latest
MOST_LIVES = 50  # searched for strikes of a stop that no start has settled

log = structlog.get_logger(__name__)


class NotWritable(Exception):
    """The disk refuses, so nothing of the batch is written. The batch is decided again, without writing."""


class Recorder:
    """What decisions look up (:class:`hermes_actors.core.sessions.book.Rows`), and the writes that they decide.

    :meth:`commit` makes the writes of a batch durable: the registry first, then the ledger. A kill between the two is
    harmless: a cut turn that is found again strikes once, and a suspended session can be suspended again.

    Args:
        registry: where sessions, marks and reasons are.
        file: where strikes are.
        facts: what the status reports about the process itself; None where it is never requested.
        threshold: how many strikes suspend, at this moment.
    """

    def __init__(
        self, registry: Registry, file: LedgerFile, facts: ProcessFacts | None, threshold: Callable[[], int]
    ) -> None:
        self._registry = registry
        self._file = file
        self._facts = facts
        self._rebuilding = Rebuilding(registry, threshold)
        self._fault: str | None = None  # why the registry is not written at this moment
        self._not_written: str | None = None  # why the ledger is not
        self._writes = registry.writes  # as of the last commit

    # -- what decisions look up --------------------------------------------------------------------------------------
    def session(self, key: str) -> SessionEntry | None:
        """The session of a key, or None."""
        return self._registry.session(key)

    def untold(self, entry: SessionEntry) -> Loss | None:
        """The worst loss that was not yet reported to the person of a session."""
        return self._registry.losses.untold(entry)

    def last_loss(self) -> int:
        """The number of the latest loss; 0 before the first one."""
        return self._registry.losses.last()

    def page(self, principal: str | None, after: str | None, limit: int) -> tuple[list[SessionEntry], str | None]:
        """Sessions with the newest activity first, and the cursor of the next page.

        Raises:
            BadCursor: ``after`` is none.
        """
        return self._registry.page(principal, after, limit)

    def latest_of(self, key: str) -> str | None:
        """What happened to a session last."""
        return self._registry.history.latest_of(key)

    def lives(self) -> tuple[Life, ...]:
        """The latest lives of the supervisor, the present one first."""
        return self._registry.history.lives(MOST_LIVES)

    def token(self) -> str:
        """20 random hex digits, for an id that cannot be guessed."""
        return secrets.token_hex(10)

    def stored(self) -> StoredFacts:
        """What the status reports about the records."""
        assert self._facts is not None
        standing = self._registry.standing()
        aside = self._file.aside
        return StoredFacts(
            **parts(self._facts),
            suspended=standing["suspended"],
            resume_pending=standing["resume_pending"],
            sessions=self._registry.count(),
            ledger=LedgerFacts(
                sessions=len(self._file.ledger.entries),
                fault=self.ledger_fault,
                set_aside=None if aside is None else str(aside.path),
            ),
            registry=RegistryFacts(fault=self._fault),
            losses=self._registry.losses.latest(LOSSES_SHOWN),
        )

    @property
    def ledger_fault(self) -> str | None:
        """Why strikes are only remembered, if they are."""
        return self._not_written or (str(self._file.fault) if self._file.fault else None)

    # -- what decisions have written ---------------------------------------------------------------------------------
    def be_patient(self) -> None:
        """Wait for another process that has the registry locked: the cuts of a drain are recorded in one try."""
        self._registry.wait_for_lock()

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Encloses all reads and writes of a batch, and its commit.

        Raises:
            NotWritable: the disk does not allow it, and nothing of the batch is written.
            RegistryFailed: the registry is damaged.
        """
        try:
            yield
        except LedgerNotWritten as error:
            self._registry.rollback()
            raise NotWritable(str(error)) from error
        except RegistryFailed as error:
            if not error.is_short_of_space:
                raise
            self._fail(error)
            raise NotWritable(str(error)) from error

    def perform(self, effects: Iterable[fx.Effect]) -> Iterator[fx.Outward]:
        """Do the writing effects in the open transaction. The other effects, which follow the commit, come back."""
        for effect in effects:
            outward = self._write(effect) if isinstance(effect, fx.Write) else effect
            if outward is not None:
                yield outward

    def commit(self, ledger: Ledger) -> None:
        """Make all of it durable. A ledger that cannot be written is remembered, and written the next time."""
        self._registry.commit()
        if self._fault is not None and self._registry.writes > self._writes:
            log.info("the registry is written again")
            self._registry.wait_for_lock()
            self._fault = None
        self._writes = self._registry.writes
        self._commit_ledger(ledger)

    def _commit_ledger(self, ledger: Ledger) -> None:
        try:
            self._file.commit(ledger)
        except LedgerNotWritten as error:
            if self._not_written is None:
                log.error("the ledger is not written; strikes are only remembered", why=str(error))  # noqa: TRY400  # says it all
            self._not_written = str(error)
            return
        if self._not_written is not None:
            log.info("the ledger is written again")
            self._not_written = None

    def _fail(self, error: RegistryFailed) -> None:
        """Drop the batch, and remember why."""
        self._registry.rollback()
        self._writes = self._registry.writes
        self._registry.wait_for_lock(0.0)  # a process that has had it that long may keep it, and other requests wait
        if self._fault is None:
            log.error("the registry cannot be written; what would write to it is refused", why=str(error))
        self._fault = str(error)

    def _write(self, effect: fx.Write) -> fx.Send | None:
        registry = self._registry
        match effect:
            case fx.WriteOwners():
                registry.write_owners(effect.owners)
            case fx.WriteSession(key=key, entry=entry):
                if entry is None:
                    registry.forget(key)
                else:
                    registry.write(entry)
            case fx.WriteIncident():
                registry.history.add(effect.incident)
            case fx.TouchSessions():
                registry.touch(effect.active, time.time())
                registry.losses.reached(effect.turns)
            case fx.NoteLife(milestone=milestone, at=at):
                if at is None:
                    registry.history.goes_on(milestone)
                else:
                    registry.history.reached(milestone, at)
            case fx.ProveWritable():
                registry.note_proof(time.time())
                self._file.rewrite()
            case fx.Compare():
                return fx.Send(to=(effect.process,), message=self._compared(effect.message))
            case _:
                assert_never(effect)
        return None

    def _compared(self, message: wire.Opened | wire.Attest) -> wire.Reckoned:
        """What the registry and a shard's file know of each other."""
        if isinstance(message, wire.Opened):
            since, lost = self._rebuilding.opened(message.shard, message.fence, message.found)
            return wire.Reckoned(request=message.request, since=since, lost=lost)
        again = self._rebuilding.attested(message.shard, message.latest)
        return wire.Reckoned(request=message.request, since=again, lost=None)


def open_ledger(path: Path) -> LedgerFile:
    """The ledger's file, or where it cannot be used one in memory: strikes are no reason not to serve."""
    try:
        file = LedgerFile.open(path)
    except LedgerUnusable as error:
        log.error("the ledger cannot be used; strikes are only remembered in this life", why=str(error))  # noqa: TRY400  # says it all
        return LedgerFile.remembered(path, error)
    if file.aside is not None:
        log.error("the ledger was corrupt and starts empty", why=file.aside.why, set_aside=str(file.aside.path))
    return file
