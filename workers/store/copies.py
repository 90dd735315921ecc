"""Transcripts that are copied to other sessions, in SQL: each operation runs inside another's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from workers.store.shard import CopiedTurn, Summary, TranscriptCopy

_CHOSEN = """
    session_id = ?1 AND key = ?2 AND in_transcript AND ended_at IS NOT NULL
    AND (?3 IS NULL OR n <= (SELECT n FROM turns WHERE turn_id = ?3))
"""
_COLUMNS = """
    SELECT n, turn_id, state, own_fault, submitted, parameters, origin, created_at, started_at, ended_at, ended
    FROM turns
"""
_TURNS = f"{_COLUMNS} WHERE {_CHOSEN} ORDER BY n"
_TOTAL = """
    SELECT total(100 + length(parameters) + length(origin) + length(ended) + (
        SELECT total(10 + length(body)) FROM messages WHERE seq >= (n << 20) AND seq < ((n + 1) << 20)
    ))
    FROM turns
"""
_SIZE = f"{_TOTAL} WHERE {_CHOSEN}"
_ROWS = "SELECT body FROM messages WHERE seq >= (?1 << 20) AND seq < ((?1 + 1) << 20) ORDER BY seq"
_INSERT = """
    INSERT INTO turns (n, turn_id, key, session_id, state, stateless, principal, fingerprint, parameters, origin,
                       created_at, started_at, ended_at, ended, own_fault, submitted, written, in_transcript)
    VALUES (?, ?, ?, ?, ?, 0, ?, x'', ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)
"""


class CopyRows:
    """The operations on one shard's connection.

    Args:
        summary: reads the summary of a transcript, and the number of the last turn that it covers.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        summary: Callable[[str], tuple[int, Summary | None]],
    ) -> None:
        self._execute = connection.execute
        self._summary = summary

    def take(self, key: str, session_id: str, through: str | None, max_bytes: int) -> TranscriptCopy | None:
        """Copy the turns of a transcript that are over, up to one of them; None where the copy is too large."""
        chosen = (session_id, key, through)
        if self._execute(_SIZE, chosen).fetchone()[0] > max_bytes:
            return None
        turns = self._execute(_TURNS, chosen).fetchall()
        covered, summary = self._summary(session_id)
        return TranscriptCopy(
            turns=[self._copied(*turn) for turn in turns],
            summary=summary if turns and covered <= turns[-1][0] else None,
        )

    def _copied(
        self,
        n: int,
        turn_id: str,
        state: str,
        own_fault: int,
        submitted: int,
        parameters: bytes,
        origin: bytes,
        created_at: float,
        started_at: float | None,
        ended_at: float,
        ended: bytes,
    ) -> CopiedTurn:
        return CopiedTurn(
            turn_id=turn_id,
            state=state,
            own_fault=bool(own_fault),
            submitted=submitted,
            parameters=parameters,
            origin=origin,
            created_at=created_at,
            started_at=started_at,
            ended_at=ended_at,
            ended=ended,
            rows=[body for (body,) in self._execute(_ROWS, (n,)).fetchall()],
        )

    def insert(self, n: int, turn: CopiedTurn, key: str, principal: str, session_id: str) -> None:
        """Insert a turn of a copy, without its messages."""
        values = (
            n,
            turn.turn_id,
            key,
            session_id,
            turn.state,
            principal,
            turn.parameters,
            turn.origin,
            turn.created_at,
            turn.started_at,
            turn.ended_at,
            turn.ended,
            turn.own_fault,
            turn.submitted,
            len(turn.rows),
        )
        self._execute(_INSERT, values)
