"""What a decision reads in the records and changes there. It reads its own changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from hermes_actors.core.effects import Effect, Log, Write, WriteIncident, WriteSession
from hermes_actors.core.sessions.ids import session_id
from hermes_actors.core.sessions.ledger import Ledger, clear
from hermes_actors.core.sessions.lives import Incident, Life, What
from hermes_actors.core.state import SessionEntry, State
from hermes_actors.operations.results import Loss, StoredFacts


class BadCursor(ValueError):
    """The text is no ``next`` of an earlier page."""


class Rows(Protocol):
    """What a decision may look up in the registry, as the open transaction has it."""

    def session(self, key: str) -> SessionEntry | None:
        """The session of a key, or None."""

    def untold(self, entry: SessionEntry) -> Loss | None:
        """The worst loss that was not yet reported to the person of a session."""

    def last_loss(self) -> int:
        """The number of the latest loss; 0 before the first one."""

    def page(self, principal: str | None, after: str | None, limit: int) -> tuple[list[SessionEntry], str | None]:
        """Sessions with the newest activity first, and the cursor of the next page.

        Raises:
            BadCursor: ``after`` is none.
        """

    def latest_of(self, key: str) -> str | None:
        """What happened to a session last."""

    def lives(self) -> tuple[Life, ...]:
        """The latest lives of the supervisor, the present one first."""

    def token(self) -> str:
        """20 random hex digits, for an id that cannot be guessed."""

    def stored(self) -> StoredFacts:
        """What the status reports about the records."""


class Book:
    """The records, for one decision.

    Args:
        rows: the registry.
        state: before the event; it has the ledger.
        now: monotonic seconds.
        fault: why nothing can be written; :meth:`write` does nothing then.
    """

    def __init__(self, rows: Rows, state: State, now: float, fault: str | None = None) -> None:
        self.rows = rows
        self.ledger: Ledger = state.ledger
        self.at = state.wall(now)  # seconds since the epoch
        self.threshold = state.limits.stuck_threshold
        self.shards = len(state.owners)
        self.fault = fault
        self.effects: list[Effect] = []
        self._boot = state.boot
        self._entries: dict[str, SessionEntry | None] = {}

    def session(self, key: str) -> SessionEntry | None:
        """The session of a key, with the changes of this decision."""
        if key not in self._entries:
            self._entries[key] = self.rows.session(key)
        return self._entries[key]

    def strikes(self, key: str) -> int:
        """How many strikes a session has."""
        return self.ledger.count(key)

    def new_id(self, *earlier: str | None) -> str:
        """An id for a transcript that begins now, which sorts after these."""
        return session_id(self.at, self.rows.token(), *earlier)

    def write(self, effect: Write) -> None:
        """Write something, unless the disk refuses."""
        if self.fault is None:
            self.effects.append(effect)

    def change(self, entry: SessionEntry) -> None:
        """Write a session as it is now."""
        self._entries[entry.key] = entry
        self.write(WriteSession(key=entry.key, entry=entry))

    def clear_strikes(self, key: str) -> None:
        """Clear the strikes of a session."""
        self.ledger = clear(self.ledger, [key])

    def forget(self, key: str) -> None:
        """Drop a session that was deleted, and its strikes."""
        self._entries[key] = None
        self.clear_strikes(key)
        self.write(WriteSession(key=key, entry=None))

    def note(self, entry: SessionEntry, what: What, *, reason: str | None = None, turn_id: str | None = None) -> None:
        """Note for people what happened to a session."""
        incident = Incident(
            key=entry.key,
            at=self.at,
            boot=self._boot,
            what=what,
            reason=reason,
            turn_id=turn_id,
            session_id=entry.session_id,
            strikes=self.strikes(entry.key),
            threshold=self.threshold,
        )
        self.write(WriteIncident(incident=incident))

    def log(self, line: Log) -> None:
        """Log a line, once the rest is committed."""
        self.effects.append(line)

    def into(self, state: State) -> State:
        """The state with the ledger as this decision leaves it."""
        return state if self.ledger is state.ledger else replace(state, ledger=self.ledger)
