"""Which failures of a start are waited out, and what a disk must take before it is tried again."""

from __future__ import annotations

import errno
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from hermes_actors.records.database import RegistryFailed
from hermes_actors.records.registry_file import RegistryUnusable
from hermes_actors.supervisor.home_lock import HomeUnusable
from hermes_actors.supervisor.recorder import NotWritable
from hermes_actors.supervisor.waiting_room import try_to_write, waits_for_disk


def caused_by(cause: BaseException) -> RegistryUnusable:
    error = RegistryUnusable("the start failed")
    error.__cause__ = cause
    return error


def failed(code: int) -> RegistryFailed:
    error = sqlite3.OperationalError("SQLite says so")
    error.sqlite_errorcode = code
    return RegistryFailed(error)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG])
def test_a_disk_that_cannot_be_written_now_is_waited_for(number: int) -> None:
    assert waits_for_disk(caused_by(OSError(number, "no")))


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_READONLY])
def test_so_is_a_registry_that_cannot_be_written_now(code: int) -> None:
    assert waits_for_disk(caused_by(failed(code)))
    assert waits_for_disk(NotWritable("full"))


def test_what_space_does_not_mend_is_not_waited_for() -> None:
    assert not waits_for_disk(RegistryUnusable("a newer release made it"))
    assert not waits_for_disk(HomeUnusable("on a network filesystem"))
    assert not waits_for_disk(caused_by(OSError(errno.EACCES, "not yours")))
    assert not waits_for_disk(caused_by(failed(sqlite3.SQLITE_CORRUPT)))


def test_a_try_to_write_leaves_nothing(tmp_path: Path) -> None:
    try_to_write(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_try_to_write_notices_a_disk_that_takes_a_part_and_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, hermes_actors.supervisor.waiting_room as room; "
        "room.try_to_write(pathlib.Path(sys.argv[1]))"
    )

    tried = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),  # no threads
    )

    assert "File too large" in tried.stderr
    assert list(tmp_path.iterdir()) == []
