"""A SQLite file with one writer: opened, checked, brought to the tables of this release, and set aside when damaged."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from hermes_actors.disk import files
from hermes_actors.home import PRIVATE_FILE

Durability: TypeAlias = Literal["power_loss", "process"]

CHECKED_WHOLE_BYTES = 32 * 1024 * 1024  # 0.75 ms a MiB: the check of a larger file would hold a start up
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

# FULL syncs the log at each commit. NORMAL syncs at checkpoints only: a commit is then in the kernel's memory, which
# outlives every process of ours, and the file stays whole even at power loss, which OFF would not promise.
_SYNCHRONOUS: dict[Durability, str] = {"power_loss": "FULL", "process": "NORMAL"}
_UNWRITABLE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY)
_COMPANIONS = ("-wal", "-shm")  # named so that SQLite's tools find them together
_SUSPECT = ".suspect"  # beside a file that showed damage in use: the next opening checks all of it


class Unusable(Exception):
    """The file is whole and cannot be used by this release, or on this file system."""


class Newer(Unusable):
    """A newer release wrote the file."""


def connect(path: Path, busy_s: float) -> sqlite3.Connection:
    """Open a file, made where there is none, that only its owner may read. Any one thread at a time may use it.

    Raises:
        OSError: the file cannot be made or opened.
        sqlite3.Error: SQLite cannot open it.
    """
    # SQLite gives the -wal and -shm files the mode of this one.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE))
    return sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)


def use_log(connection: sqlite3.Connection, durability: Durability) -> None:
    """Commit to a write-ahead log, as durably as is asked.

    Raises:
        sqlite3.Error: the file is damaged, or the disk does not allow it.
        Unusable: its file system cannot hold such a log.
    """
    if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
        raise Unusable("its file system cannot hold a write-ahead log; a local one is needed")
    connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")


def reader(path: Path, busy_s: float) -> sqlite3.Connection:
    """A connection that cannot write.

    Raises:
        sqlite3.Error: the file cannot be opened.
    """
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=busy_s)


def migrate(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]]) -> None:
    """Bring a file to this release's tables, one transaction a step.

    ``PRAGMA user_version`` is how many of the migrations, each a list of statements, a file has been through.

    Raises:
        Newer: a newer release wrote the file.
        sqlite3.Error: a step failed; the file is at the step before it.
    """
    while (version := version_of(connection)) < len(migrations):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if version_of(connection) == version:  # else another process came first
                for statement in migrations[version]:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    if version > len(migrations):
        raise Newer(f"a newer release wrote it (version {version} of its tables, this release knows {len(migrations)})")


def version_of(connection: sqlite3.Connection) -> int:
    """How many migrations a file has been through."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


# -- damage ------------------------------------------------------------------------------------------------------------


def is_large(path: Path) -> bool:
    """Whether a file is too large to be checked when it is opened."""
    return path.stat().st_size > CHECKED_WHOLE_BYTES


def check_at_opening(connection: sqlite3.Connection, path: Path) -> str | None:
    """What is wrong with a file that is being opened, or None. A large file is checked only where it is suspect.

    Raises:
        sqlite3.Error: the disk does not give the content.
    """
    suspect = files.beside(path, _SUSPECT)
    if not suspect.exists():
        return None if is_large(path) else check(connection)
    damage = check(connection, "integrity_check")
    if damage is None:
        suspect.unlink(missing_ok=True)
    return damage


def check(connection: sqlite3.Connection, how: Literal["quick_check", "integrity_check"] = "quick_check") -> str | None:
    """What is wrong with a file, or None; reads all of it.

    Raises:
        sqlite3.Error: the disk does not give the content.
    """
    try:
        (said,) = connection.execute(f"PRAGMA {how}(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            return str(error)
        raise
    return None if said == "ok" else str(said).splitlines()[-1]  # a headline may come first


def mark_suspect(path: Path) -> None:
    """Have the next opening check the whole file before it trusts it.

    Raises:
        OSError: the mark cannot be made.
    """
    files.beside(path, _SUSPECT).touch(PRIVATE_FILE)


def set_aside(path: Path) -> Path:
    """Move a damaged file, and what belongs to it, out of the way for people to look at; the path that it has now.

    Raises:
        OSError: the file cannot be moved.
    """
    aside = files.set_aside(path, *_COMPANIONS)
    files.beside(path, _SUSPECT).unlink(missing_ok=True)
    return aside


# -- errors ------------------------------------------------------------------------------------------------------------


def code_of(error: BaseException) -> int:
    """The primary result code; 0 for errors that are not SQLite's or that the Python module makes itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_damage(error: BaseException) -> bool:
    """Whether an error says that the file's content is bad or is not ours, and not its disk, space or permissions."""
    return code_of(error) in (*DAMAGED, sqlite3.SQLITE_ERROR)


def is_short_of_space(error: BaseException) -> bool:
    """Whether an error says that the disk cannot be written now: full, failing, read-only, or another process has it.

    Not where the file was moved away or deleted: that file is gone for good.
    """
    moved = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_READONLY_DBMOVED
    return code_of(error) in _UNWRITABLE and not moved
