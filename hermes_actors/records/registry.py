"""The session registry and the shard table: one SQLite file, written by the supervisor alone.

Writes gather in a transaction until :meth:`Registry.commit`. Only :func:`find_sessions` and the integrity check
read more rows than they return, so other operations cost the same with a million sessions as with ten.
"""

from __future__ import annotations

import base64
import contextlib
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import structlog

from hermes_actors.config.rules import MIN_SHARDS
from hermes_actors.core.sessions.book import BadCursor
from hermes_actors.core.sessions.marks import UNMARKED, MarkRecord, Standing
from hermes_actors.core.state import ActorRecord, Owner, SessionEntry
from hermes_actors.disk.sqlite import Durability, set_aside
from hermes_actors.home import Home
from hermes_actors.records.database import RegistryDatabase, RegistryFailed
from hermes_actors.records.history import HistoryTable
from hermes_actors.records.home_facts import HomeFacts, read_facts, write_facts
from hermes_actors.records.losses import Losses
from hermes_actors.records.registry_file import (
    ACTOR,
    BUSY_TIMEOUT_S,
    ENTRY,
    MARKS,
    TOLD,
    Broken,
    RegistryUnusable,
    connect,
    readable_marks,
    readable_meta,
    readable_sessions,
    reader,
)
from hermes_actors.wire.failpoints import point

_SELECT_WHOLE = f"SELECT {ENTRY}, {ACTOR}, {MARKS}, {TOLD} FROM sessions"  # noqa: S608  # own words
_INTO_SESSIONS = f"INTO sessions ({ENTRY}) VALUES (?, ?, ?, ?, ?, ?)"
_CHANGES = f"session_id, {ACTOR}, {MARKS}, {TOLD}"
_WRITE = f"""
    INSERT INTO sessions ({ENTRY}, {ACTOR}, {MARKS}, {TOLD}) VALUES ({", ".join("?" * 20)})
    ON CONFLICT (key) DO UPDATE SET ({_CHANGES}) = (excluded.{_CHANGES.replace(", ", ", excluded.")})
"""  # noqa: S608  # own words
_SET_RIGHT = (  # times of a clock that ran ahead
    "UPDATE sessions SET last_active_at = ?1, created_at = min(created_at, ?1) WHERE last_active_at > ?1",
    "UPDATE sessions SET mark_at = min(mark_at, ?1) WHERE mark <> 'clear' AND mark_at > ?1",
)

log = structlog.get_logger(__name__)


class ShardsFixed(Exception):
    """The configuration has another number of shards than the home was made with."""

    def __init__(self, *, configured: int, fixed: int) -> None:
        super().__init__(
            f"supervisor.shards is {configured}, but this home was made with {fixed} shards and that is fixed: "
            f"set it to {fixed} or to auto, or use a new home"
        )
        self.configured = configured
        self.fixed = fixed


class Registry:
    """The open registry. Used by one thread at a time.

    Attributes:
        home_id: names the home, whatever its path.
        set_aside: where a broken registry was moved to at this start, or None.
        history: what happened, written with the rest.
        losses: what files lost, written with the rest.
        floor: this life's fences are above it. A registry that is older than the shard files has fences below theirs;
            each start of a worker adds one, not every second, so the seconds since the epoch are above them all.
        behind: number of the registry's own loss, if this start noticed one; None: it lost nothing.
    """

    def __init__(self, database: RegistryDatabase, path: Path) -> None:
        self._database = database
        self._path = path
        self.home_id = ""
        self.set_aside: Path | None = None
        self.history = HistoryTable(database)
        self.losses = Losses(database)
        self.floor = int(time.time())
        self.behind: int | None = None
        self._behind_before: int | None = None  # as it was committed

    @classmethod
    def open(cls, home: Home, *, shards: int | None, usual_shards: int, durability: Durability) -> Self:
        """Open the registry of a home, make it, or replace a broken one.

        Args:
            home: where it is.
            shards: the configured number; None: the number that the home has.
            usual_shards: the number for a new home when none is configured.
            durability: as in ``store.durability``.

        Raises:
            ShardsFixed: the home has another number of shards than ``shards``.
            RegistryUnusable: a newer release made it, or the disk cannot be written.
        """
        path = home.registry
        aside = None
        why = "its file was missing" if not path.exists() else "its file was empty"
        try:
            database = connect(path, durability)
        except Broken as broken:
            aside, why = set_aside(path), f"it was damaged: {broken}"
            database = connect(path, durability)
        registry = cls(database, path)
        registry.set_aside = aside
        try:
            registry._settle(shards, usual_shards, home, why)
        except RegistryFailed as error:
            database.close()
            raise RegistryUnusable(f"{path}: {error}") from error
        except ShardsFixed:
            database.close()
            raise
        return registry

    def _settle(self, shards: int | None, usual_shards: int, home: Home, why: str) -> None:
        """Check what is fixed for the life of the home, or write it. ``why``: why the registry is new, if it is."""
        known: dict[str, Any] = dict(
            self._database.rows("SELECT name, value FROM meta WHERE name IN ('home', 'shards')")
        )
        facts = read_facts(home)
        if not known:
            lost = readable_meta(self.set_aside) if self.set_aside else {}
            made = _shards_of_files(home)
            count = lost.get("shards") or (facts and facts.shards) or made or shards or usual_shards
            name = lost.get("home") or (facts and facts.home) or secrets.token_hex(16)
            known = {"home": name, "shards": count}
            self._fill(known, why if made or facts or self.set_aside else None)
        self.home_id = str(known["home"])
        fixed = int(known["shards"])
        self._complete(fixed)
        if facts != (kept := HomeFacts(home=self.home_id, shards=fixed)):
            write_facts(home, kept)
        if shards is not None and shards != fixed:
            raise ShardsFixed(configured=shards, fixed=fixed)

    def _complete(self, shards: int) -> None:
        """Put back what the registry does not know of its shards."""
        known = {shard for (shard,) in self._database.rows("SELECT shard FROM shards")}
        missing = set(range(shards)) - known
        if missing:
            rows = ((shard, int(time.time())) for shard in missing)
            self._database.write_many("INSERT INTO shards (shard, slot, fence, opened) VALUES (?, -1, ?, 1)", rows)
            self.fell_behind("it did not know all shards")
            self.commit()

    def _fill(self, known: Mapping[str, Any], lost: str | None) -> None:
        """Write what a new registry begins with, and what a broken one still had.

        Args:
            known: names and values of the home.
            lost: why there is none any more, in a home that had one.
        """
        # A registry that was lost had fences that the shard files remember. Each start of a worker adds one, which no
        # worker does every second, so the seconds since the epoch are above them all.
        floor = int(time.time())
        self._database.write_many("INSERT INTO meta VALUES (?, ?)", known.items())
        rows = ((shard, -1, floor) for shard in range(known["shards"]))
        self._database.write_many("INSERT INTO shards (shard, slot, fence) VALUES (?, ?, ?)", rows)
        if self.set_aside is not None:
            saved = readable_sessions(self.set_aside, known["shards"])
            self._database.write_many(f"INSERT OR IGNORE {_INTO_SESSIONS}", saved)
            marks = readable_marks(self.set_aside)
            self._database.write_many(f"UPDATE sessions SET ({MARKS}) = (?, ?, ?, ?, ?, ?, ?) WHERE key = ?", marks)  # noqa: S608  # own words
            log.warning("sessions of the broken registry were saved", sessions=self.count())
        if lost is not None:
            self.losses.forget_openings()
            self.fell_behind(lost)
        self.commit()

    def fell_behind(self, why: str) -> int:
        """Note that the registry lost something; the number of that loss, one a start."""
        if self.behind is None:
            aside = None if self.set_aside is None else str(self.set_aside)
            log.error("the registry lost sessions; the shard files tell which", why=why, set_aside=aside)
            self.behind = self.losses.add(at=time.time(), shard=None, what="names", why=why, set_aside=aside)
        return self.behind

    # -- the shard table ---------------------------------------------------------------------------------------------
    def owners(self) -> tuple[Owner, ...]:
        """The owner of each shard; slot -1: it had none yet."""
        rows = self._database.rows("SELECT slot, fence FROM shards ORDER BY shard")
        return tuple(Owner(slot, fence) for slot, fence in rows)

    def write_owners(self, owners: Mapping[int, Owner]) -> None:
        """Write the owners of some shards."""
        rows = ((owner.slot, owner.fence, shard) for shard, owner in owners.items())
        self._database.write_many("UPDATE shards SET slot = ?, fence = ? WHERE shard = ?", rows)

    # -- sessions ----------------------------------------------------------------------------------------------------
    def session(self, key: str) -> SessionEntry | None:
        """The session of a key, or None."""
        row = self._database.row(f"{_SELECT_WHOLE} WHERE key = ?", (key,))
        return None if row is None else _entry(row)

    def write(self, entry: SessionEntry) -> None:
        """Write a session: a new one whole; of another all but its principal, its shard and its times."""
        values = (entry.key, entry.session_id, entry.principal, entry.shard, entry.created_at, entry.last_active_at)
        self._database.write(_WRITE, (*values, *entry.actor, *entry.marks, entry.told, entry.refound))

    def refind(self, entry: SessionEntry) -> None:
        """Put a session back that was lost, or its transcript, with its marks; the next reply says so."""
        values = (entry.key, entry.session_id, entry.principal, entry.shard, entry.created_at, entry.last_active_at)
        self._database.write(f"INSERT OR IGNORE {_INTO_SESSIONS}", values)
        self.write_marks(entry.key, entry.session_id, entry.marks)
        self._database.write("UPDATE sessions SET refound = ? WHERE key = ?", (entry.refound, entry.key))

    def write_marks(self, key: str, session_id: str, marks: MarkRecord) -> None:
        """Write the marks of a session and its transcript; nothing for a key that is not there."""
        self._database.write(
            f"UPDATE sessions SET (session_id, {MARKS}) = (?, ?, ?, ?, ?, ?, ?, ?) WHERE key = ?",  # noqa: S608  # own words
            (session_id, *marks, key),
        )

    def forget(self, key: str) -> bool:
        """Drop a session; whether there was one."""
        self.history.forget(key)
        return self._database.write("DELETE FROM sessions WHERE key = ?", (key,)).rowcount > 0

    def touch(self, active: Mapping[str, float], now: float) -> None:
        """Note activity of sessions: key -> seconds since the epoch. Times before the known one change nothing."""
        self.set_right(now)
        self._database.write_many(
            "UPDATE sessions SET last_active_at = ?1 WHERE key = ?2 AND last_active_at < ?1",
            ((min(at, now), key) for key, at in active.items()),
        )

    def set_right(self, now: float) -> None:
        """Change times in the future to now: a clock wrote them that ran ahead and was set back."""
        for statement in _SET_RIGHT:
            self._database.write(statement, (now,))

    def page(self, principal: str | None, after: str | None, limit: int) -> tuple[list[SessionEntry], str | None]:
        """Sessions with the newest activity first, and the cursor of the next page.

        Args:
            principal: whose; None: of all.
            after: the cursor of an earlier page, or None for the first page.
            limit: how many at most.

        Raises:
            BadCursor: ``after`` is none.
        """
        where, values = [], list[str | float]()
        if principal is not None:
            where.append("principal = ?")
            values.append(principal)
        if after is not None:
            where.append("(last_active_at, key) < (?, ?)")
            values += _from_cursor(after)
        rows = self._database.rows(
            f"{_SELECT_WHOLE} {'WHERE ' if where else ''}{' AND '.join(where)}"
            " ORDER BY last_active_at DESC, key DESC LIMIT ?",
            (*values, limit + 1),
        )
        entries = [_entry(row) for row in rows[:limit]]
        return entries, _cursor(entries[-1]) if len(rows) > limit else None

    def count(self) -> int:
        """How many sessions there are."""
        ((count,),) = self._database.rows("SELECT value FROM meta WHERE name = 'sessions'")
        return int(count)

    def standing(self) -> dict[str, int]:
        """How many sessions are marked, by their standing."""
        rows = self._database.rows("SELECT mark, count(*) FROM sessions WHERE mark <> 'clear' GROUP BY mark")
        return {standing.value: 0 for standing in Standing if standing is not Standing.CLEAR} | dict(rows)

    def note_proof(self, now: float) -> None:
        """Write something, which is never read: the time, in seconds since the epoch."""
        self._database.write("INSERT OR REPLACE INTO meta VALUES ('proved_at', ?)", (now,))

    # -- transaction -------------------------------------------------------------------------------------------------
    def commit(self) -> None:
        """Make the writes durable; nothing happens without any."""
        if self._database.in_transaction:
            point("registry.commit")
            self._database.commit()
            self._behind_before = self.behind
            point("registry.committed")

    def rollback(self) -> None:
        """Forget what was written since the last commit."""
        if self._database.in_transaction:
            self._database.rollback()
            self.behind = self._behind_before

    def wait_for_lock(self, seconds: float = BUSY_TIMEOUT_S) -> None:
        """How long to wait from now on for another process that has the file locked."""
        self._database.set_pragma("busy_timeout", round(seconds * 1000))

    @property
    def writes(self) -> int:
        """How many rows were changed so far; it only grows."""
        return self._database.changes

    def close(self) -> None:
        """Close the file; what was not committed is gone."""
        self._database.close()


def find_sessions(path: Path, wanted: str, limit: int) -> tuple[SessionEntry, ...]:
    """The session with this key, else at most ``limit`` whose keys end with it after a colon; reads the whole table.

    For any thread.

    Raises:
        RegistryFailed: the file cannot be read.
    """
    with contextlib.closing(reader(path)) as database:
        exact = database.rows(f"{_SELECT_WHOLE} WHERE key = ?", (wanted,))
        ends = f"{_SELECT_WHOLE} WHERE substr(key, -length(?1) - 1) = ':' || ?1 ORDER BY key LIMIT ?2"
        return tuple(_entry(row) for row in exact or database.rows(ends, (wanted, limit)))


def _shards_of_files(home: Home) -> int | None:
    """How many shards a home has, judged by its files; None where there are none.

    The number decides which file a session is in, so a lost registry must not change it; nor must a lost file, so it is
    the next power of two, which all homes have.
    """
    numbers = [int(path.stem) for path in home.shards.glob("*.db") if path.stem.isdecimal()]
    return max(MIN_SHARDS, 1 << max(numbers).bit_length()) if numbers else None


# -- rows --------------------------------------------------------------------------------------------------------------


def _entry(row: Sequence[Any]) -> SessionEntry:
    """A row of ``ENTRY``, or of ``ENTRY``, ``ACTOR`` and ``MARKS``."""
    key, session_id, principal, shard, created_at, last_active_at = row[:6]
    return SessionEntry(
        key=key,
        session_id=session_id,
        principal=principal,
        shard=shard,
        created_at=created_at,
        last_active_at=last_active_at,
        actor=ActorRecord(*row[6:11]),
        marks=MarkRecord(Standing(row[11]), *row[12:18]) if row[11:] else UNMARKED,
        told=row[18] if row[18:] else 0,
        refound=row[19] if row[19:] else 0,
    )


def _cursor(entry: SessionEntry) -> str:
    return base64.urlsafe_b64encode(f"{entry.last_active_at!r} {entry.key}".encode()).decode().rstrip("=")


def _from_cursor(cursor: str) -> tuple[float, str]:
    try:
        at, blank, key = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(" ")
        last_active_at = float(at)
    except ValueError:
        last_active_at, blank, key = math.nan, "", ""
    if not blank or not math.isfinite(last_active_at):
        raise BadCursor("this is no cursor of a page of sessions")
    return last_active_at, key
