"""What a log and its index tell of lost commits, on real files and purely."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.store.evidence import NO_LOG, Index, IndexFile, index_of, lost, read_salts, salts_of

KILLED = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA journal_mode = WAL")
database.execute("CREATE TABLE t (x)")
for n in range(20):
    database.execute("INSERT INTO t VALUES (?)", ("x" * 3000,))
    if n == int(sys.argv[2]):
        database.execute("PRAGMA wal_checkpoint(PASSIVE)")
os.kill(os.getpid(), signal.SIGKILL)
"""
SALTS = st.binary(min_size=8, max_size=8)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database whose writer was killed, with a log."""
    path = tmp_path_factory.mktemp("killed") / "t.db"
    subprocess.run([sys.executable, "-c", KILLED, str(path), "-1"], check=False)
    return path


def opened_after(path: Path, to: Path, change: Callable[[Path], object]) -> tuple[bool, int]:
    """Whether commits are missed in a copy that was changed, and how many rows are left."""
    for companion in ("", "-wal", "-shm"):
        shutil.copy(f"{path}{companion}", f"{to}{companion}")
    change(to)
    index = IndexFile(to)
    before, salts = index.read(), read_salts(to)
    with sqlite3.connect(to) as database:
        database.execute("PRAGMA journal_mode = WAL")
        missed = lost(before, salts, index.read())
        tables = database.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (1,)
        (rows,) = database.execute("SELECT count(*) FROM t").fetchone() if tables else (0,)
    database.close()
    index.close()
    return missed, rows


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def test_a_log_that_is_whole_is_not_missed(killed: Path, tmp_path: Path) -> None:
    assert opened_after(killed, tmp_path / "t.db", lambda _: None) == (False, 20)


@pytest.mark.parametrize("left", [0.0, 0.3, 0.7, 0.99])
def test_a_log_that_was_cut_is_missed(killed: Path, tmp_path: Path, left: float) -> None:
    def cut(path: Path) -> None:
        os.truncate(log_of(path), int(log_of(path).stat().st_size * left))

    def broken(path: Path) -> None:
        with log_of(path).open("r+b") as file:
            file.seek(int(log_of(path).stat().st_size * left))
            file.write(b"\xff" * 64)

    for change in (cut, broken) if left else (cut,):
        missed, rows = opened_after(killed, tmp_path / "t.db", change)
        assert (missed, rows < 20) == (True, True)


def test_what_the_database_has_already_is_not_missed_with_its_log(tmp_path: Path) -> None:
    path = tmp_path / "checkpointed.db"
    subprocess.run([sys.executable, "-c", KILLED, str(path), "19"], check=False)

    assert opened_after(path, tmp_path / "t.db", lambda copy: log_of(copy).unlink()) == (False, 20)


def test_a_log_that_was_begun_again_since_the_index_reached_the_disk_is_not_missed() -> None:
    old = Index(30, 0, (7).to_bytes(4) + b"once")

    assert not lost(old, (8).to_bytes(4) + b"more", Index(2, 0, (8).to_bytes(4) + b"more"))
    assert lost(old, (6).to_bytes(4) + b"less", Index(2, 0, (6).to_bytes(4) + b"less")), "that is another database's"


def test_a_database_without_index_or_log_tells_nothing(tmp_path: Path) -> None:
    assert (IndexFile(tmp_path / "none.db").read(), read_salts(tmp_path / "none.db")) == (NO_LOG, None)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_index_and_a_log_or_none(content: bytes) -> None:
    assert index_of(content) == NO_LOG
    assert salts_of(content) is None


@given(SALTS, st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_frames_of_the_same_log_are_missed_only_where_there_are_fewer(
    salts: bytes, frames: int, backfilled: int, left: int
) -> None:
    missed = lost(Index(frames, backfilled, salts), salts, Index(left, 0, salts))

    assert missed == (left < frames and backfilled < frames)
