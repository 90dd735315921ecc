"""The history for people who ask why: what happened to sessions, and the lives of the supervisor.

Rows in the registry's file, written in the same transactions as the changes they report. Decisions depend on one thing
only here: how earlier lives ended (:mod:`hermes_actors.core.sessions.lives`).
"""

from __future__ import annotations

from hermes_actors.core.sessions.lives import Incident, Life, Milestone
from hermes_actors.records.database import RegistryDatabase

KEPT_PER_SESSION = 50  # rows
KEPT_LIVES = 200

_LIFE = "boot, started_at, settled_at, ready_at, stop_began_at, ended_at, how"
_INCIDENT = "key, at, boot, what, reason, turn_id, session_id, strikes, threshold"
_PRUNE_SESSION = """
    DELETE FROM history WHERE key = ?1 AND n <= (SELECT n FROM history WHERE key = ?1 ORDER BY n DESC LIMIT 1 OFFSET ?2)
"""
_LATEST = "SELECT what FROM history WHERE key = ? ORDER BY n DESC LIMIT 1"
_PRUNE_LIVES = "DELETE FROM boots WHERE n <= (SELECT max(n) FROM boots) - ?"


class HistoryTable:
    """The two tables, in the registry's database."""

    def __init__(self, database: RegistryDatabase) -> None:
        self._database = database
        self.boot = ""

    def begin_life(self, boot: str, at: float) -> None:
        """A life of the supervisor begins; what is recorded later belongs to it."""
        self.boot = boot
        self._database.write("INSERT INTO boots (boot, started_at) VALUES (?, ?)", (boot, at))
        self._database.write(_PRUNE_LIVES, (KEPT_LIVES,))

    def reached(self, milestone: Milestone, at: float, how: str | None = None) -> None:
        """Note that this life reached a milestone; the first time counts."""
        self._database.write(
            f"UPDATE boots SET {milestone} = coalesce({milestone}, ?), how = coalesce(?, how) WHERE boot = ?",  # noqa: S608  # own words
            (at, how, self.boot),
        )

    def goes_on(self, milestone: Milestone) -> None:
        """Take a milestone of this life back: a stop was cancelled."""
        self._database.write(f"UPDATE boots SET {milestone} = NULL WHERE boot = ?", (self.boot,))  # noqa: S608  # own words

    def lives(self, limit: int) -> tuple[Life, ...]:
        """The latest lives, the present one first."""
        rows = self._database.rows(f"SELECT {_LIFE} FROM boots ORDER BY n DESC LIMIT ?", (limit,))  # noqa: S608  # own words
        return tuple(Life(*row) for row in rows)

    def add(self, incident: Incident) -> None:
        """Add what happened to a session."""
        self._database.write(f"INSERT INTO history ({_INCIDENT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", incident)  # noqa: S608  # own words
        self._database.write(_PRUNE_SESSION, (incident.key, KEPT_PER_SESSION))

    def latest_of(self, key: str) -> str | None:
        """What happened to a session last, as in :data:`hermes_actors.core.sessions.lives.What`."""
        row = self._database.row(_LATEST, (key,))
        return None if row is None else str(row[0])

    def forget(self, key: str) -> None:
        """A session was deleted: another one may get its key."""
        self._database.write("DELETE FROM history WHERE key = ?", (key,))

    def of(self, key: str) -> tuple[Incident, ...]:
        """What happened to a session, the oldest first."""
        rows = self._database.rows(f"SELECT {_INCIDENT} FROM history WHERE key = ? ORDER BY n", (key,))  # noqa: S608  # own words
        return tuple(Incident(*row) for row in rows)
