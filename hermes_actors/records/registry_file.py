"""The registry's file: its schema, its integrity, and what is read from a broken one."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hermes_actors.core.sessions.marks import UNMARKED, MarkRecord, Standing
from hermes_actors.disk import sqlite
from hermes_actors.records.database import RegistryDatabase, RegistryFailed, translated
from hermes_actors.wire.sharding import shard_of

BUSY_TIMEOUT_S = 5.0  # for a reader that holds the file for a moment

ENTRY = "key, session_id, principal, shard, created_at, last_active_at"
ACTOR = "generation, restarts, last_restart_reason, last_restart_at, last_fallback_turn"  # not in the first schema
MARKS = "mark, mark_reason, mark_at, mark_turn, former_id, untold_reason, untold_at"  # nor these
TOLD = "told, refound"  # nor these
ENTRY_TYPES = (str, str, str, int, float, float)
_TEXT, _TIME = (str, type(None)), (float, type(None))
_MARK_TYPES = ((str,), _TEXT, _TIME, _TEXT, _TEXT, _TEXT, _TIME, (str,))  # of MARKS, then the key

MIGRATIONS = (  # user_version n is the state after the first n; one that was released is never edited
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('sessions', 0);
    CREATE TABLE shards (shard INTEGER PRIMARY KEY, slot INTEGER NOT NULL, fence INTEGER NOT NULL) STRICT;
    CREATE TABLE sessions (
        key TEXT PRIMARY KEY,
        session_id TEXT NOT NULL,
        principal TEXT NOT NULL,
        shard INTEGER NOT NULL,
        created_at REAL NOT NULL,
        last_active_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX sessions_by_activity ON sessions (last_active_at, key);
    CREATE INDEX sessions_by_principal ON sessions (principal, last_active_at, key);
    CREATE TRIGGER session_added AFTER INSERT ON sessions
        BEGIN UPDATE meta SET value = value + 1 WHERE name = 'sessions'; END;
    CREATE TRIGGER session_gone AFTER DELETE ON sessions
        BEGIN UPDATE meta SET value = value - 1 WHERE name = 'sessions'; END;
    """,
    """
    ALTER TABLE sessions ADD COLUMN generation INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE sessions ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE sessions ADD COLUMN last_restart_reason TEXT;
    ALTER TABLE sessions ADD COLUMN last_restart_at REAL;
    ALTER TABLE sessions ADD COLUMN last_fallback_turn TEXT;
    """,
    """
    ALTER TABLE sessions ADD COLUMN mark TEXT NOT NULL DEFAULT 'clear';
    ALTER TABLE sessions ADD COLUMN mark_reason TEXT;
    ALTER TABLE sessions ADD COLUMN mark_at REAL;
    ALTER TABLE sessions ADD COLUMN mark_turn TEXT;
    ALTER TABLE sessions ADD COLUMN former_id TEXT;
    ALTER TABLE sessions ADD COLUMN untold_reason TEXT;
    ALTER TABLE sessions ADD COLUMN untold_at REAL;
    CREATE INDEX sessions_marked ON sessions (mark) WHERE mark <> 'clear';
    CREATE TABLE history (
        n INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        at REAL NOT NULL,
        boot TEXT NOT NULL,
        what TEXT NOT NULL,
        reason TEXT,
        turn_id TEXT,
        session_id TEXT,
        strikes INTEGER NOT NULL,
        threshold INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX history_of_key ON history (key, n);
    CREATE TABLE boots (
        n INTEGER PRIMARY KEY,
        boot TEXT NOT NULL,
        started_at REAL NOT NULL,
        settled_at REAL,
        ready_at REAL,
        stop_began_at REAL,
        ended_at REAL,
        how TEXT
    ) STRICT;
    """,
    """
    ALTER TABLE shards ADD COLUMN opened INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE shards ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
    UPDATE shards SET turn = -1 WHERE slot >= 0;
    UPDATE shards SET opened = 1 WHERE shard IN (SELECT shard FROM sessions);
    ALTER TABLE sessions ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE sessions ADD COLUMN refound INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE losses (
        n INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        shard INTEGER,
        what TEXT NOT NULL,
        why TEXT NOT NULL,
        set_aside TEXT,
        until REAL,
        sessions INTEGER NOT NULL
    ) STRICT;
    """,
)


class RegistryUnusable(Exception):
    """The registry cannot be used, and setting it aside would be wrong."""


class Broken(Exception):
    """The file is damaged."""


def connect(path: Path, durability: sqlite.Durability) -> RegistryDatabase:
    """Open the file, check it unless it is large, and bring it to the present schema. It may be used by any one thread.

    Raises:
        Broken: it is damaged.
        RegistryUnusable: a newer release made it, or the disk does not allow it.
    """
    if path.exists() and not path.is_file():
        raise Broken("it was no file")
    try:
        database = sqlite.connect(path, BUSY_TIMEOUT_S)
    except OSError as error:
        raise RegistryUnusable(f"{path}: {error}") from error
    except sqlite3.Error as error:
        raise RegistryUnusable(f"{path}: {error}") from RegistryFailed(error)
    try:
        sqlite.use_log(database, durability)
        if (damage := sqlite.check_at_opening(database, path)) is not None:
            raise Broken(damage)
        _migrate(database)
        database.execute("SELECT 1 FROM meta, shards, sessions LIMIT 1").fetchone()
    except sqlite3.Error as error:
        database.close()
        if sqlite.is_damage(error):
            raise Broken(str(error)) from error
        raise RegistryUnusable(f"{path}: {error}") from RegistryFailed(error)
    except sqlite.Unusable as error:
        database.close()
        raise RegistryUnusable(f"{path}: {error}") from error
    except Broken:
        database.close()
        raise
    return RegistryDatabase(database)


def _migrate(database: sqlite3.Connection) -> None:
    try:
        sqlite.migrate(database, [list(_statements(script)) for script in MIGRATIONS])
    except sqlite.Newer:
        database.execute("SELECT value FROM meta WHERE name = 'home'")  # fails of a database that is no registry
        raise


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for piece in script.split(";")[:-1]:
        statement += f"{piece};"
        if sqlite3.complete_statement(statement):  # else the semicolon is inside a trigger
            yield statement
            statement = ""


def reader(path: Path) -> RegistryDatabase:
    """A connection that cannot write.

    Raises:
        RegistryFailed: the file cannot be opened.
    """
    return RegistryDatabase(translated(lambda: sqlite.reader(path, BUSY_TIMEOUT_S)))


def read_only(path: Path) -> RegistryDatabase:
    """The same, for a registry of this release's schema.

    Raises:
        RegistryUnusable: it is of another release.
        RegistryFailed: it cannot be read.
    """
    database = reader(path)
    try:
        version = database.version()
    except RegistryFailed:
        database.close()
        raise
    if version != len(MIGRATIONS):
        database.close()
        newer = version > len(MIGRATIONS)
        why = "a newer one" if newer else "an earlier one: start the gateway once, it adapts it"
        raise RegistryUnusable(f"{path} is not of this release, but of {why}")
    return database


# -- integrity ---------------------------------------------------------------------------------------------------------


def check(path: Path) -> str | None:
    """What is wrong with the file, or None. One that is broken is marked, so that the next start replaces it.

    Raises:
        RegistryFailed: it cannot be read at all.
    """
    with contextlib.closing(reader(path)) as database:
        damage = database.check()
    if damage is not None:
        sqlite.mark_suspect(path)
    return damage


# -- a broken file -----------------------------------------------------------------------------------------------------


def readable_meta(aside: Path) -> dict[str, Any]:
    """What a broken file still says about its home."""
    with contextlib.suppress(RegistryFailed), contextlib.closing(reader(aside)) as database:
        return {
            name: value
            for name, value in database.rows("SELECT name, value FROM meta")
            if (name, type(value)) in (("home", str), ("shards", int))
        }
    return {}


def readable_sessions(aside: Path, shards: int) -> Iterator[tuple[Any, ...]]:
    """The rows of sessions that a broken file still has."""
    for row in _readable(aside, f"SELECT {ENTRY} FROM sessions"):  # noqa: S608  # own words
        if tuple(map(type, row)) == ENTRY_TYPES and row[3] == shard_of(row[0], shards):
            yield row


def readable_marks(aside: Path) -> Iterator[tuple[Any, ...]]:
    """The marks of sessions, and their keys, that a broken file still has. Chosen here: SQL would read up to damage."""
    for row in _readable(aside, f"SELECT {MARKS}, key FROM sessions"):  # noqa: S608  # own words
        fits = all(type(value) in kinds for value, kinds in zip(row, _MARK_TYPES, strict=True))
        if fits and row[0] in tuple(Standing) and MarkRecord(Standing(row[0]), *row[1:-1]) != UNMARKED:
            yield row


def _readable(aside: Path, query: str) -> Iterator[tuple[Any, ...]]:
    """The rows up to the damage, and from the other end back to it; of a file without such columns none."""
    for order in ("ASC", "DESC"):
        with contextlib.suppress(RegistryFailed), contextlib.closing(reader(aside)) as database:
            yield from database.each(f"{query} ORDER BY key {order}")
