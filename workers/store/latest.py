"""The latest turn of each session in a shard's file: by these the registry is held against the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from hermes_actors.wire.records import LatestTurn
from workers.store.packing import unpack

_LATEST = """
    SELECT n, turn_id, key, principal, session_id, created_at, coalesce(ended_at, started_at, created_at),
           CASE WHEN state = 'interrupted' THEN ended END, stateless
    FROM turns WHERE n > ? ORDER BY n LIMIT ?
"""


def latest_turns(execute: Callable[..., sqlite3.Cursor], after: int, limit: int) -> tuple[list[LatestTurn], int | None]:
    """The latest of the next turns of each session, and where to go on; None: there are no more.

    Args:
        execute: of the shard's connection.
        after: the number of the last turn before them.
        limit: how many turns to look at.
    """
    rows = execute(_LATEST, (after, limit)).fetchall()
    latest: dict[str, LatestTurn] = {}
    for n, turn_id, key, principal, session_id, created_at, last_at, cut, stateless in rows:
        if stateless:
            continue
        before = latest.get(key)
        latest[key] = LatestTurn(
            number=n,
            turn_id=turn_id,
            key=key,
            principal=principal,
            session_id=session_id,
            created_at=created_at if before is None else min(created_at, before.created_at),
            last_at=last_at if before is None else max(last_at, before.last_at),
            cut_by=None if cut is None else (unpack(cut)["error"] or {}).get("text", ""),
        )
    return list(latest.values()), rows[-1][0] if len(rows) == limit else None
