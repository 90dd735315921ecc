"""The ledger's file: locked while a process may write it, and on disk always whole, either old or new.

A commit writes a draft beside the file, syncs it, renames it over the file and syncs the directory.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import filelock
import orjson
from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from hermes_actors.core.sessions.ledger import CAUSES_KEPT, Cause, Entry, Ledger
from hermes_actors.disk import files
from hermes_actors.home import PRIVATE_FILE
from hermes_actors.wire.failpoints import point

VERSION = 1
LOCK_TIMEOUT_S = 2.0  # a command that clears strikes holds it for a moment
MOST_BYTES = 64 * 1024 * 1024  # some 400,000 sessions, more than can be cut at once

_POINTS = {
    "draft": "ledger.draft",
    "drafted": "ledger.drafted",
    "renamed": "ledger.renamed",
    "synced": "ledger.synced",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END = datetime(9999, 1, 1, tzinfo=UTC)


class LedgerUnusable(Exception):
    """The file cannot be used and was not touched. A gateway goes on with a ledger in memory."""


class LedgerHeld(LedgerUnusable):
    """Another process has the lock."""


class LedgerUnlockable(LedgerUnusable):
    """The filesystem has no locks, or refuses one."""


class LedgerUnreadable(LedgerUnusable):
    """The content cannot be read from the disk."""


class LedgerNewer(LedgerUnusable):
    """A newer release wrote it."""


class LedgerCorrupt(LedgerUnusable):
    """The content is not a ledger."""


class LedgerNotWritten(Exception):
    """A commit failed, perhaps because the disk is full. The earlier ledger stays, and the next commit tries again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A corrupt file that was moved out of the way for people to look at."""

    path: Path
    why: str


@dataclass(slots=True, kw_only=True)
class LedgerFile:
    """The ledger of a home, for its one writer. Any one thread at a time may use it."""

    path: Path
    ledger: Ledger  # as it was last read or committed
    aside: SetAside | None = None  # what was found in its place
    fault: LedgerUnusable | None = None  # why the ledger is only remembered
    _sure: bool = True  # whether the file is known to have it
    _lock: filelock.BaseFileLock | None = None
    _lines: Mapping[str, bytes] = field(default_factory=dict)  # as last written, by key

    @classmethod
    def open(cls, path: Path, timeout_s: float = LOCK_TIMEOUT_S) -> LedgerFile:
        """Take the lock until :meth:`close` and read the file. No file is an empty ledger.

        A corrupt file is set aside, and the ledger is empty. A lock file that an earlier holder left does not matter.

        Raises:
            LedgerHeld: another process still has the lock after the time-out.
            LedgerUnlockable: the filesystem gives no lock.
            LedgerUnreadable: the file cannot be read, or set aside.
            LedgerNewer: a newer release wrote it.
        """
        with contextlib.ExitStack() as undo:
            lock = _locked(path, timeout_s)
            undo.callback(lock.release)
            try:
                ledger, aside = read(path), None
            except LedgerCorrupt as error:
                ledger, aside = Ledger(), SetAside(path=_set_aside(path), why=str(error))
            undo.pop_all()
        return cls(path=path, ledger=ledger, aside=aside, _lock=lock)

    @classmethod
    def remembered(cls, path: Path, fault: LedgerUnusable) -> LedgerFile:
        """An empty ledger in memory, in place of one that cannot be used.

        It does not take the strikes of the file: they could not be cleared there, and would come back at each start.
        """
        return cls(path=path, ledger=Ledger(), fault=fault)

    def commit(self, ledger: Ledger) -> None:
        """Write this ledger, safe from a loss of power; nothing happens where nothing changed.

        Raises:
            LedgerNotWritten: the file still has the earlier ledger, or this one, not yet safe from a loss of power.
        """
        if self.fault is None and not (self._sure and ledger == self.ledger):
            self._write(ledger)
        self.ledger = ledger

    def rewrite(self) -> None:
        """Write the last committed ledger again, to see whether that is possible.

        Raises:
            LedgerNotWritten: it is not.
        """
        if self.fault is None:
            self._write(self.ledger)

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _write(self, ledger: Ledger) -> None:
        if self._lock is None:
            raise ValueError(f"{self.path} is closed")
        lines = self._rendered(ledger)
        self._sure = False
        _replace(self.path, b'{"version":%d,"sessions":{\n%b\n}}\n' % (VERSION, b",\n".join(lines.values())))
        self._sure, self._lines = True, lines

    def _rendered(self, ledger: Ledger) -> dict[str, bytes]:
        """The lines of the file; only those of changed entries are made again."""
        entries, lines = self.ledger.entries, self._lines
        return {
            key: lines[key] if entries.get(key) is entry and key in lines else _line(key, entry)
            for key, entry in ledger.entries.items()
        }


def read(path: Path) -> Ledger:
    """What the file says at this moment, without its lock. No file is an empty ledger.

    Raises:
        LedgerUnreadable: the disk does not give the content.
        LedgerNewer: a newer release wrote it.
        LedgerCorrupt: it is not a ledger; the words name the place.
    """
    try:
        content = _content(path)
    except FileNotFoundError:
        return Ledger()
    except OSError as error:
        raise LedgerUnreadable(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        version = _Header.model_validate_json(content).version
        if version > VERSION:
            raise LedgerNewer(
                f"{path} has version {version}, this release knows {VERSION}: a newer release wrote it; "
                "use that one, or move the file away to begin with no strikes"
            )
        rows = _Document.model_validate_json(content).sessions
    except ValidationError as error:
        raise LedgerCorrupt(f"{path} is not a ledger: {_place(error)}") from None
    return Ledger({key: row.entry() for key, row in rows.items()})


# -- the form ----------------------------------------------------------------------------------------------------------


class _Header(BaseModel, strict=True):
    version: Annotated[int, Field(ge=1)]


class _Row(BaseModel, strict=True):
    count: Annotated[int, Field(ge=1, lt=2**31)]
    causes: Annotated[list[Cause], Field(min_length=1)]
    last_cut: str
    last_at: Annotated[AwareDatetime, Field(ge=_EPOCH, lt=_END)]

    def entry(self) -> Entry:
        return Entry(
            count=self.count,
            causes=tuple(self.causes[-CAUSES_KEPT:]),
            last_cut=self.last_cut,
            last_at=round(self.last_at.timestamp(), 3),
        )


class _Document(BaseModel, strict=True):
    """Unknown fields are ignored; the next commit drops them."""

    sessions: dict[str, _Row]


def _line(key: str, entry: Entry) -> bytes:
    row = {
        "count": entry.count,
        "causes": entry.causes,
        "last_cut": entry.last_cut,
        "last_at": _EPOCH + timedelta(milliseconds=round(entry.last_at * 1000)),
    }
    return b"%b:%b" % (orjson.dumps(key), orjson.dumps(row, option=orjson.OPT_UTC_Z))


def _place(error: ValidationError) -> str:
    """Where the first fault is and what it is, without the content that is there."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]


# -- the disk ----------------------------------------------------------------------------------------------------------


def _locked(path: Path, timeout_s: float) -> filelock.BaseFileLock:
    place = f"{path}.lock"
    lock = filelock.FileLock(place, mode=PRIVATE_FILE, fallback_to_soft=False, thread_local=False)
    try:
        lock.acquire(timeout=timeout_s)
    except filelock.Timeout:
        raise LedgerHeld(f"{place} is held by another process: a supervisor that runs, or a command") from None
    except (OSError, NotImplementedError) as error:
        why = getattr(error, "strerror", None) or error
        raise LedgerUnlockable(
            f"{place} cannot be locked: {why}; the home must be writable and on a local disk"
        ) from error
    return lock


def _content(path: Path) -> bytes:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is not a regular file")  # reading from a pipe would wait for ever
    if found.st_size > MOST_BYTES:
        raise LedgerCorrupt(f"{path} is not a ledger: it is larger than {MOST_BYTES} bytes")
    return path.read_bytes()


def _set_aside(path: Path) -> Path:
    try:
        return files.set_aside(path)
    except OSError as error:
        raise LedgerUnreadable(f"{path} is corrupt and cannot be set aside: {error.strerror or error}") from error


def _replace(path: Path, content: bytes) -> None:
    try:
        files.replace(path, content, draft=files.beside(path, ".tmp"), reached=lambda step: point(_POINTS[step]))
    except OSError as error:
        raise LedgerNotWritten(f"{path} cannot be written: {error.strerror or error}") from error
