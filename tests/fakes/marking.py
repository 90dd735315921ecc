"""The rules of marks and strikes on a real registry and ledger: each call decides and writes, ``commit`` keeps it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace

from hermes_actors.core.sessions import marking as rules
from hermes_actors.core.sessions.book import Book
from hermes_actors.core.sessions.ids import session_id
from hermes_actors.core.sessions.ledger import Cause
from hermes_actors.core.state import Limits, Owner, SessionEntry, State
from hermes_actors.operations.results import LedgerFacts
from hermes_actors.records.ledger_file import LedgerFile
from hermes_actors.records.registry import Registry
from hermes_actors.supervisor.recorder import Recorder
from hermes_actors.wire.records import CutTurn


def new_id(at: float, *earlier: str | None) -> str:
    return session_id(at, secrets.token_hex(10), *earlier)


def add(registry: Registry, key: str, principal: str, shard: int, at: float) -> SessionEntry:
    """A session that is there already."""
    registry.write(
        SessionEntry(key=key, session_id=new_id(at), principal=principal, shard=shard, created_at=at, last_active_at=at)
    )
    entry = registry.session(key)
    assert entry is not None
    return entry


class Marking:
    def __init__(
        self,
        registry: Registry,
        file: LedgerFile,
        threshold: Callable[[], int] = lambda: 3,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.registry = registry
        self.file = file
        self.now = now
        self.recorder = Recorder(registry, file, None, threshold)
        lost = registry.behind is not None
        self.state = State(
            boot=registry.history.boot,
            limits=Limits(
                heartbeat_s=1.0,
                max_restarts=1,
                restart_window_s=1.0,
                drain_timeout_s=1.0,
                stuck_threshold=threshold(),
            ),
            workers=(),
            owners=(Owner(0, 1),) * 8,
            ledger=rules.left_over(file.ledger, registry.session, lost=lost),
        )

    def _book(self) -> Book:
        return Book(self.recorder, replace(self.state, boot=self.registry.history.boot), self.now())

    def _written(self, book: Book) -> None:
        assert not [effect for effect in self.recorder.perform(book.effects) if hasattr(effect, "message")]
        self.state = book.into(self.state)

    def cut(self, cuts: Iterable[CutTurn], cause: Cause) -> None:
        book = self._book()
        rules.cut(book, cuts, cause)
        self._written(book)

    def suspend_stuck(self, shard: int) -> tuple[str, ...]:
        book = self._book()
        keys = rules.suspend_stuck(book, shard)
        self._written(book)
        return keys

    def drop_idle(self, busy: AbstractSet[str], unknown: AbstractSet[int], *, cut_since: float) -> None:
        book = self._book()
        rules.clear_idle(book, busy, unknown, cut_since=cut_since)
        self._written(book)

    def activated(self, entry: SessionEntry) -> SessionEntry:
        book = self._book()
        after = rules.activated(book, entry.key, entry.principal, entry.shard)
        self._written(book)
        return after

    def succeeded(self, key: str, turn_id: str) -> None:
        book = self._book()
        rules.succeeded(book, key, turn_id)
        self._written(book)

    def reset(self, key: str) -> SessionEntry | None:
        book = self._book()
        after = rules.reset(book, key)
        self._written(book)
        return after

    def resume(self, key: str) -> SessionEntry | None:
        book = self._book()
        after = rules.resume(book, key)
        self._written(book)
        return after

    def suspend(self, key: str) -> None:
        book = self._book()
        rules.suspend(book, key)
        self._written(book)

    def clear(self, key: str | None) -> tuple[str, ...]:
        book = self._book()
        cleared = rules.clear(book, key)
        self._written(book)
        return cleared

    def strikes(self, key: str) -> int:
        return self.state.ledger.count(key)

    def facts(self) -> LedgerFacts:
        aside = self.file.aside
        return LedgerFacts(
            sessions=len(self.state.ledger.entries),
            fault=self.recorder.ledger_fault,
            set_aside=None if aside is None else str(aside.path),
        )

    def commit(self) -> None:
        self.recorder.commit(self.state.ledger)

    def close(self) -> None:
        self.file.close()
