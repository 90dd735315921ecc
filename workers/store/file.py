"""A shard's file: how it is opened, checked, fenced and, when it is damaged, set aside."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import structlog

from hermes_actors.disk.sqlite import (
    DAMAGED,
    Durability,
    Newer,
    Unusable,
    check_at_opening,
    code_of,
    connect,
    is_damage,
    mark_suspect,
    migrate,
    set_aside,
    use_log,
)
from hermes_actors.wire.records import Flaw, Found
from workers.store.evidence import IndexFile, lost, read_salts
from workers.store.packing import packed, unpack
from workers.store.rows import HIGHEST
from workers.store.schema import MIGRATIONS
from workers.store.shard import ShardDamaged, StaleFence, StoreFailed

NEEDED_SQLITE = (3, 37)  # STRICT tables
BUSY_S = 2.0  # how long another process (a slow old owner, a person with a shell) may hold the file's lock
CHECKPOINT_PAGES = 2000  # 8 MiB of log: hot pages are written back once for many commits

_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_BUSY: f"another process held its lock for {BUSY_S:g} s",
    sqlite3.SQLITE_READONLY: "the file or its file system is read-only",
    sqlite3.SQLITE_IOERR: "the disk failed",
    sqlite3.SQLITE_CANTOPEN: "it or its -wal or -shm file cannot be opened",
    **dict.fromkeys(DAMAGED, "the file is damaged; it is checked, and set aside if need be, when it is opened next"),
}
LOOKED_AT_FOR_TIME = 100  # turns, the latest: one that ended last was not admitted long before the others
_UNTIL = """
    SELECT max(max(created_at, coalesce(started_at, 0.0), coalesce(ended_at, 0.0)))
    FROM (SELECT created_at, started_at, ended_at FROM turns ORDER BY n DESC LIMIT ?)
"""

log = structlog.get_logger(__name__)


class ShardFile:
    """An open file as a :class:`workers.store.journal.Database`."""

    def __init__(self, connection: sqlite3.Connection, path: Path, fence: int, index: IndexFile) -> None:
        self.connection = connection
        self._index = index  # closed after the connection
        self._path = path
        self._fence = fence
        self._execute = connection.execute

    def begin(self) -> None:
        """Begin, with the write lock, and make sure that the shard is still ours.

        Raises:
            StaleFence: a newer owner has opened the file.
        """
        self._execute("BEGIN IMMEDIATE")
        (fence,) = self._execute("SELECT fence FROM owner").fetchone()
        if fence != self._fence:
            raise StaleFence(f"{self._path}: fence {self._fence} is over, the owner has {fence}")

    def commit(self) -> None:
        """Commit; durable when it returns."""
        self._execute("COMMIT")

    def rollback(self) -> None:
        """Undo what SQLite has not undone by itself, as it does when the disk is full."""
        with contextlib.suppress(sqlite3.Error):  # it can only fail where there is nothing left to undo
            if self.connection.in_transaction:
                self._execute("ROLLBACK")

    def close(self) -> None:
        """Write the log back where possible and close."""
        self.connection.close()
        self._index.close()

    def failure(self, error: Exception) -> Exception:
        """The store's error for what went wrong; bugs stay what they are."""
        match error:
            case sqlite3.Error():
                if code_of(error) in DAMAGED:
                    with contextlib.suppress(OSError):  # no mark, then a smaller check
                        mark_suspect(self._path)
                    return ShardDamaged(_words(self._path, error))
                return StoreFailed(_words(self._path, error))
            case UnicodeError() | OverflowError():
                return StoreFailed(f"a value cannot be stored: {error}")
            case _:
                return error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    """What is wrong with a file."""

    flaw: Flaw
    why: str
    set_aside: str | None = None  # the path that it has now; its -wal and -shm files beside it
    found_by: int = 0  # fence of the owner that found it


_NEW = _Fault(flaw="new", why="its file was missing or empty")
_CUT = _Fault(flaw="cut", why="its file's write-ahead log (-wal) was deleted, cut off or overwritten")


def open_file(path: Path, *, shard: int, fence: int, durability: Durability) -> tuple[ShardFile, Found]:
    """Open a shard's file for an owner, made where there is none; a damaged one is set aside for people to look at.

    What was wrong with it stays written in it until it is :meth:`reported <workers.store.shard.ShardStore.reported>`.

    Raises:
        StaleFence: a newer owner has opened it.
        StoreFailed: the disk or its permissions do not allow it; a newer release wrote it; it is another shard's.
    """
    if sqlite3.sqlite_version_info < NEEDED_SQLITE:
        raise StoreFailed(f"SQLite {sqlite3.sqlite_version} is too old: {'.'.join(map(str, NEEDED_SQLITE))} is needed")
    try:
        try:
            return _open(path, shard, fence, durability)
        except _Damaged as damage:
            fault = damage.fault
        log.error("shard file is damaged, set aside", shard=shard, path=fault.set_aside, why=fault.why)
        return _open(path, shard, fence, durability, fault)
    except sqlite3.Error as error:
        raise StoreFailed(_words(path, error)) from error
    except OSError as error:
        raise StoreFailed(f"{path}: {error.strerror}") from error


class _Damaged(Exception):
    def __init__(self, fault: _Fault) -> None:
        super().__init__(fault.why)
        self.fault = fault


def _open(
    path: Path, shard: int, fence: int, durability: Durability, fault: _Fault | None = None
) -> tuple[ShardFile, Found]:
    if path.exists() and not path.is_file():
        raise _Damaged(_set_aside(path, "it was no file"))
    index = IndexFile(path)
    before, salts = index.read(), read_salts(path)
    connection = connect(path, BUSY_S)
    opened: tuple[ShardFile, Found] | None = None
    try:
        use_log(connection, durability)
        # What is deleted is overwritten where that costs no page more; some builds of SQLite do it at any cost.
        connection.execute("PRAGMA secure_delete = FAST")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        if lost(before, salts, index.read()):
            fault = fault or _CUT
        if (damage := check_at_opening(connection, path)) is not None:
            raise _Damaged(_set_aside(path, damage))
        migrate(connection, MIGRATIONS)
        opened = ShardFile(connection, path, fence, index), _claim(connection, shard, fence, fault)
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise _Damaged(_set_aside(path, str(error))) from error  # before the close, which takes the log away
        raise
    except Newer as error:
        raise StoreFailed(f"{path}: {error}: start that release, or move the file away") from error
    except Unusable as error:
        raise StoreFailed(f"{path}: {error}") from error
    except StoreFailed as error:
        raise type(error)(f"{path}: {error}") from error
    finally:
        if opened is None:
            connection.close()
            index.close()
    return opened


def _claim(connection: sqlite3.Connection, shard: int, fence: int, fault: _Fault | None) -> Found:
    """Write the new owner's fence into the file; from then on the old owner's transactions fail.

    Beside it stands what was wrong with the file, in case that this owner dies before it has reported that.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        stored = connection.execute("SELECT shard, fence, found FROM owner").fetchone()
        if stored is None:
            connection.execute("INSERT INTO owner (shard, fence) VALUES (?, ?)", (shard, fence))
            fault = fault or _NEW
        elif stored[0] != shard:
            raise StoreFailed(f"it holds shard {stored[0]}, not shard {shard}: put the right file back")
        elif stored[1] > fence:
            raise StaleFence(f"fence {fence} is over, the owner has {stored[1]}")
        else:
            connection.execute("UPDATE owner SET fence = ?", (fence,))
            if stored[2] is not None:
                fault = _Fault(**unpack(stored[2]))
        if fault is not None:
            fault = fault if fault.found_by else replace(fault, found_by=fence)
            connection.execute("UPDATE owner SET found = ?", (packed(asdict(fault)),))
        found = _found(connection, 0 if stored is None else stored[1], fault)
        connection.execute("COMMIT")
        return found
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _found(connection: sqlite3.Connection, fence: int, fault: _Fault | None) -> Found:
    (turn,) = connection.execute(HIGHEST).fetchone()
    (until,) = connection.execute(_UNTIL, (LOOKED_AT_FOR_TIME,)).fetchone()
    known = {} if fault is None else asdict(fault)
    return Found(fence=fence, turn=turn, until=until, **known)


def _set_aside(path: Path, why: str) -> _Fault:
    return _Fault(flaw="damaged", why=why, set_aside=str(set_aside(path)))


def _words(path: Path, error: sqlite3.Error) -> str:
    return f"{path}: {_REASONS.get(code_of(error), 'SQLite refused')} ({error})"
