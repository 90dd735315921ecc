"""What tells that a file's write-ahead log lost commits, at no cost while it is written.

SQLite keeps an index of the log in memory that processes share, the ``-shm`` file. Its header says after each commit
how many frames the log has. It outlives every process that is killed, and no commit waits for it: a log that has fewer
frames than its index says was deleted, cut or overwritten. After a loss of power the index may be older than the log,
never newer, unless commits were lost with the power too.

The forms are those of https://www.sqlite.org/walformat.html: the index is in the byte order of the machine, the log's
header in that of the network.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_INDEX = struct.Struct(
    "=I4x4xB3xI4x8x8s2I"
)  # version, is it initialised, last frame, salts, checksum of what is before
_INDEX_WORDS = struct.Struct("=10I")  # that the checksum is of
_BACKFILLED = struct.Struct("=96xI")  # after two copies of the header: frames that the database has already
_LOG = struct.Struct(">2I8x8s2I")  # magic number, version, salts, checksum of what is before
_LOG_WORDS = 6
_FORMAT = 3007000
_MAGIC = 0x377F0682  # the last bit: the checksum's words are big-endian
_WORD = 0xFFFFFFFF
MOST_RESETS = 1 << 20  # of a log between an index that is too old and the log: the first salt counts them


class Index(NamedTuple):
    """What the index says of the log."""

    frames: int  # committed
    backfilled: int  # of these, what the database's own file has already
    salts: bytes  # of the log that they are in


NO_LOG = Index(0, 0, bytes(8))


def index_of(shm: bytes) -> Index:
    """What the first bytes of an ``-shm`` file say; :data:`NO_LOG` where they are no whole index."""
    if len(shm) < _BACKFILLED.size or shm[: _INDEX.size] != shm[_INDEX.size : 2 * _INDEX.size]:
        return NO_LOG
    version, initialised, frames, salts, *checksum = _INDEX.unpack_from(shm)
    if version != _FORMAT or not initialised or checksum != _checksum(_INDEX_WORDS.unpack_from(shm)):
        return NO_LOG
    (backfilled,) = _BACKFILLED.unpack_from(shm)
    return Index(frames, backfilled, salts)


def salts_of(log: bytes) -> bytes | None:
    """The salts that the first bytes of a log say; None where they are no whole header."""
    if len(log) < _LOG.size:
        return None
    magic, version, salts, *checksum = _LOG.unpack_from(log)
    words = struct.unpack_from(f"{'>' if magic & 1 else '<'}{_LOG_WORDS}I", log)
    if magic & ~1 != _MAGIC or version != _FORMAT or checksum != _checksum(words):
        return None
    return bytes(salts)


def lost(before: Index, log: bytes | None, after: Index) -> bool:
    """Whether commits that the index knew of are gone.

    Args:
        before: as it was found.
        log: the salts of the log that was found, None where there was none.
        after: as SQLite has made it again from that log.
    """
    if before.frames <= before.backfilled:
        return False
    if after.salts == before.salts:
        return after.frames < before.frames
    if log is None:
        return True
    resets = int.from_bytes(log[:4]) - int.from_bytes(before.salts[:4]) & _WORD
    return not 0 < resets < MOST_RESETS  # else the log was begun again since, and the index did not reach the disk


class IndexFile:
    """The index of a database that this process opens next. Close it only when the database is closed again.

    To close any descriptor of a file gives up all locks that the process has on it (fcntl(2)), and SQLite has its locks
    on this one.
    """

    def __init__(self, database: Path) -> None:
        self._file = -1
        with contextlib.suppress(OSError):  # none, or something else in its place: then SQLite says what is wrong
            self._file = os.open(_beside(database, "-shm"), os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> Index:
        """What it says; :data:`NO_LOG` where there was none before the database was opened."""
        try:
            return NO_LOG if self._file < 0 else index_of(os.pread(self._file, _BACKFILLED.size, 0))
        except OSError:  # no file, or a disk that does not give it
            return NO_LOG

    def close(self) -> None:
        """Close it, once."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def read_salts(database: Path) -> bytes | None:
    """The salts of a database's log; None where it has none."""
    try:
        with _beside(database, "-wal").open("rb") as log:  # which SQLite has no locks on
            return salts_of(log.read(_LOG.size))
    except OSError:
        return None


def _beside(database: Path, ending: str) -> Path:
    return database.with_name(f"{database.name}{ending}")


def _checksum(words: Sequence[int]) -> list[int]:
    first = second = 0
    for odd, even in zip(words[::2], words[1::2], strict=True):
        first = (first + odd + second) & _WORD
        second = (second + even + first) & _WORD
    return [first, second]
