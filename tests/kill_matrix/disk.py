"""What the files of a home say, whoever runs or not: turns of all shards, strikes, processes that carry its mark."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hermes_actors.home import Home
from hermes_actors.pool import reaper
from hermes_actors.records import ledger_file
from hermes_actors.wire.ownership import OWNER_VARIABLE, home_mark

_TURNS = """
    SELECT key, turn_id, idempotency_key, state, stateless, created_at, ended_at FROM turns ORDER BY n
"""
BUSY_S = 5.0  # for a writer that holds a file's lock


@dataclass(frozen=True, slots=True)
class TurnOnDisk:
    """A row of a shard's file. Times are seconds since the epoch."""

    key: str
    turn_id: str
    message: str | None  # its Idempotency-Key
    state: str
    stateless: int
    created_at: float
    ended_at: float | None


def turns(home: Home) -> list[TurnOnDisk]:
    """All turns, those of a session in order."""
    found = []
    for path in sorted(home.shards.glob("*.db")):
        try:
            rows = _rows(path, "ro")
        except sqlite3.OperationalError as error:
            if "readonly" not in str(error):
                raise
            rows = _rows(path, "rw")  # its writer was killed while it wrote the index of its log, which is to be mended
        found += [TurnOnDisk(*row) for row in rows]
    return found


def _rows(path: Path, mode: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{path}?mode={mode}", uri=True, timeout=BUSY_S)) as shard:
        try:
            return shard.execute(_TURNS).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return []  # its worker was killed while it made the file


def strikes(home: Home) -> dict[str, int]:
    """Strikes by session key, as the ledger's file has them."""
    return {key: entry.count for key, entry in ledger_file.read(home.ledger).entries.items()}


def marked(home: Home) -> list[int]:
    """Processes that a supervisor of this home, or something it started, started."""
    return list(reaper.marked([f"\0{OWNER_VARIABLE}={home_mark(home.root)}:".encode()]))
