"""Turns and transcript rows in SQL: what each operation of the shard store does inside its transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any, cast, get_args

from hermes_actors.wire.records import LatestTurn
from workers.store.copies import CopyRows
from workers.store.latest import latest_turns
from workers.store.packing import origin_of, unpack
from workers.store.responses import STATELESS_GONE, STATELESS_KEPT, ResponseRows, kind_of
from workers.store.settings import SettingRows
from workers.store.shard import (
    StoredConversation,
    StoreFailed,
    Summary,
    TranscriptCopy,
    TranscriptRow,
    TurnOver,
    TurnRow,
)
from workers.turns import Ended, PastTurn, Submission, TurnState

IDEMPOTENCY_KEPT_S = 24 * 3600.0
PRUNED_AT_ONCE = 500  # turns a call of prune looks at: some milliseconds
ROWS_PER_TURN_BITS = 20  # a row's seq is its turn's n, then this many bits for its place in the turn; in the SQL too
MAX_INSERTED_AT_ONCE = 32  # rows of one INSERT; each number of rows is a prepared statement of its own

HIGHEST = "SELECT max(highest, coalesce((SELECT max(n) FROM turns), 0)) FROM owner"
_KEEP_HIGHEST = "UPDATE owner SET highest = max(highest, coalesce((SELECT max(n) FROM turns), 0))"
# Numbers only grow, so that the highest one tells whether a file lost turns.
_ADMIT = """
    INSERT INTO turns (n, turn_id, key, session_id, state, stateless, principal, idempotency_key, fingerprint,
                       parameters, origin, created_at, started_at, submitted, written)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_EXPIRE_IDEMPOTENCY_KEY = """
    UPDATE turns SET idempotency_key = NULL WHERE key = ? AND idempotency_key = ? AND created_at <= ?
"""
_RETRACT = "UPDATE turns SET in_transcript = 0 WHERE turn_id = ? AND ended_at IS NOT NULL"
_BEGIN = "UPDATE turns SET state = 'running', started_at = ?, session_id = ? WHERE turn_id = ? AND state = 'queued'"
_APPEND = """
    UPDATE turns SET written = written + ?, in_transcript = NOT stateless WHERE turn_id = ? AND ended_at IS NULL
    RETURNING n, stateless, session_id, written
"""
_FINISH = """
    UPDATE turns SET written = written + ?, in_transcript = NOT stateless,
                     state = ?, ended_at = ?, ended = ?, own_fault = ?
    WHERE turn_id = ? AND ended_at IS NULL
    RETURNING n, stateless, session_id, written
"""
_TURNS = """
    SELECT n, submitted, session_id, state, created_at, ended, turn_id, key, principal, stateless, parameters,
           idempotency_key, fingerprint, origin, ended_at
    FROM turns
"""
_PAST = """
    SELECT n, turn_id, state, own_fault, ended_at, body
    FROM turns CROSS JOIN messages ON seq >= (n << 20) AND seq < ((n + 1) << 20)
"""
_TRANSCRIPT = f"{_PAST} WHERE session_id = ? AND in_transcript AND n > ? ORDER BY n, seq"
_UP_TO = (
    "session_id = (SELECT session_id FROM turns WHERE turn_id = ?1) AND n <= (SELECT n FROM turns WHERE turn_id = ?1)"
)
_THROUGH = f"{_PAST} WHERE {_UP_TO} AND in_transcript ORDER BY n, seq"
_IS_LAST = "SELECT n = (SELECT max(n) FROM turns WHERE key = asked.key) FROM turns AS asked WHERE turn_id = ?"
_PAST_TURN = f"{_PAST} WHERE turn_id = ? AND in_transcript ORDER BY seq"
_SUMMARY = """
    SELECT through, turn_id, summaries.turns, text, made_at
    FROM summaries JOIN turns ON n = through
    WHERE summaries.session_id = ?
"""
_SUMMARISE = """
    INSERT OR REPLACE INTO summaries (session_id, through, turns, text, made_at)
    SELECT ?, n, ?, ?, ? FROM turns WHERE turn_id = ? AND session_id = ?
"""
_DROP_SUMMARIES = "DELETE FROM summaries WHERE session_id IN (SELECT session_id FROM turns WHERE key = ?)"
_PAGE = """
    SELECT seq, turn_id, body
    FROM turns CROSS JOIN messages ON seq > max((n << 20) - 1, ?) AND seq < ((n + 1) << 20)
    WHERE session_id = ? AND in_transcript AND n >= ?
    ORDER BY n, seq LIMIT ?
"""
_DURATIONS = """
    SELECT ended_at - started_at FROM turns
    WHERE key = ? AND state = 'completed' AND started_at IS NOT NULL
    ORDER BY n DESC LIMIT ?
"""
_AGED = """
    SELECT n, stateless FROM turns
    WHERE (stateless = 1 OR idempotency_key IS NOT NULL) AND created_at < ? AND ended_at IS NOT NULL
    ORDER BY created_at LIMIT ?
"""
_SET_RIGHT = """
    UPDATE turns INDEXED BY turns_that_age SET created_at = ?1
    WHERE (stateless = 1 OR idempotency_key IS NOT NULL) AND created_at > ?1
"""


class ShardRows:
    """The operations on one shard's connection; each runs inside a transaction that others began and will commit."""

    def __init__(self, connection: sqlite3.Connection, now: Callable[[], float]) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany
        self._now = now
        self.responses = ResponseRows(connection, now, self._drop_rows)
        self.copies = CopyRows(connection, self._summary)
        self.settings = SettingRows(connection)
        self._number: int | None = None  # of the last turn; rolled back ones leave gaps

    def admit(
        self,
        turn: Submission,
        session_id: str,
        state: TurnState,
        parameters: bytes,
        origin: bytes,
        asked: bytes | None,
        instead_of: str | None,
    ) -> int:
        """Insert a turn; its number. Its messages join the transcript when it first writes rows of its own."""
        if instead_of is not None:
            self._execute(_RETRACT, (instead_of,))
        now = self._now()
        if turn.idempotency_key is not None:
            self._execute(_EXPIRE_IDEMPOTENCY_KEY, (turn.key, turn.idempotency_key, now - IDEMPOTENCY_KEPT_S))
        count = len(turn.messages)
        n = self._next_number()
        values = (
            n,
            turn.turn_id,
            turn.key,
            session_id,
            state,
            kind_of(turn),
            turn.principal,
            turn.idempotency_key,
            turn.fingerprint,
            parameters,
            origin,
            now,
            now if state == "running" else None,
            count,
            count,
        )
        self._execute(_ADMIT, values)
        self._insert(n, count, turn.messages)
        if asked is not None:
            self.responses.keep(n, asked)
        return n

    def _next_number(self) -> int:
        """The file has one owner, which so knows the last number."""
        if self._number is None:
            self._number = int(self._execute(HIGHEST).fetchone()[0])
        self._number += 1
        return self._number

    def plant(self, key: str, principal: str, session_id: str, copy: TranscriptCopy) -> int:
        """Insert a copied transcript; the number of its last turn."""
        n = 0
        for turn in copy.turns:
            n = self._next_number()
            self.copies.insert(n, turn, key, principal, session_id)
            self._insert(n, len(turn.rows), turn.rows)
        if copy.summary is not None:
            self.summarise(session_id, copy.summary)
        return n

    def begin(self, turn_id: str, session_id: str) -> None:
        """``queued`` to ``running``, in this transcript; no change where it runs already."""
        if self._execute(_BEGIN, (self._now(), session_id, turn_id)).rowcount == 0:
            state = self._execute("SELECT state FROM turns WHERE turn_id = ?", (turn_id,)).fetchone()
            if state != ("running",):
                raise _over(turn_id)

    def append(self, turn_id: str, session_id: str, bodies: Sequence[bytes]) -> None:
        """Add rows to an unfinished turn; of a stateless one they are not kept, no later request needs them."""
        changed = self._execute(_APPEND, (len(bodies), turn_id)).fetchall()
        self._written(turn_id, session_id, bodies, changed)

    def finish(self, turn: Ended, ended: bytes, bodies: Sequence[bytes], own_fault: bool) -> None:
        """Add the last rows and the end.

        A stateless turn's messages are dropped, the end is all a retry needs; not those of a response.
        """
        values = (len(bodies), turn.state, self._now(), ended, own_fault, turn.turn_id)
        changed = self._execute(_FINISH, values).fetchall()
        if not self._written(turn.turn_id, turn.session_id, bodies, changed):
            return
        n, kind, *_ = changed[0]
        if kind != STATELESS_KEPT:
            self._drop_rows([n])
        if kind == STATELESS_GONE:
            self._drop_turns([n])

    def _written(
        self, turn_id: str, session_id: str, bodies: Sequence[bytes], changed: list[tuple[int, int, str, int]]
    ) -> bool:
        """Write the rows that a changed turn has been given; whether it is stateless, then there are none."""
        if not changed:
            raise _over(turn_id)
        ((n, stateless, admitted_to, written),) = changed
        if stateless:
            return True
        if session_id != admitted_to:  # it was admitted, then its session was reset before the turn ran
            self._execute("UPDATE turns SET session_id = ? WHERE n = ?", (session_id, n))
        self._insert(n, written, bodies)
        return False

    def _insert(self, n: int, written: int, bodies: Sequence[bytes]) -> None:
        """Insert the last of a turn's ``written`` rows."""
        if written >= 1 << ROWS_PER_TURN_BITS:
            raise StoreFailed(f"a turn of {written} messages is too long to be stored")
        seq = (n << ROWS_PER_TURN_BITS) + written - len(bodies)
        for at in range(0, len(bodies), MAX_INSERTED_AT_ONCE):
            chunk = bodies[at : at + MAX_INSERTED_AT_ONCE]
            values = [value for row in enumerate(chunk, seq + at) for value in row]
            self._execute(_insert_rows(len(chunk)), values)

    def find(self, key: str, idempotency_key: str) -> TurnRow | None:
        """The turn of a session with this Idempotency-Key, unless too old."""
        oldest = self._now() - IDEMPOTENCY_KEPT_S
        where = "WHERE key = ? AND idempotency_key = ? AND created_at > ?"
        found = self._execute(f"{_TURNS} {where}", (key, idempotency_key, oldest)).fetchone()
        return found and self._turn(found)

    def turn(self, turn_id: str) -> TurnRow | None:
        """The turn with this id."""
        found = self._execute(f"{_TURNS} WHERE turn_id = ?", (turn_id,)).fetchone()
        return found and self._turn(found)

    def unfinished(self) -> list[TurnRow]:
        """The turns that have no end, in the order of their admission."""
        return [self._turn(row) for row in self._execute(f"{_TURNS} WHERE ended_at IS NULL ORDER BY n").fetchall()]

    def _turn(self, row: tuple[Any, ...]) -> TurnRow:
        (n, submitted, session_id, state, created_at, ended, turn_id, key, principal, stateless, parameters,
         idempotency_key, fingerprint, origin, ended_at) = row  # fmt: skip
        first = n << ROWS_PER_TURN_BITS
        bodies = self._execute("SELECT body FROM messages WHERE seq >= ? AND seq < ?", (first, first + submitted))
        submission = Submission(
            turn_id=turn_id,
            key=key,
            principal=principal,
            stateless=bool(stateless),
            messages=[body for (body,) in bodies.fetchall()],
            parameters=unpack(parameters),
            idempotency_key=idempotency_key,
            fingerprint=fingerprint,
            origin=origin_of(unpack(origin)),
        )
        end = None
        if ended is not None:
            end = Ended(turn_id=turn_id, session_id=session_id, state=state, replayed=False, **unpack(ended))
        return TurnRow(
            submission=submission,
            session_id=session_id,
            state=state,
            created_at=created_at,
            ended=end,
            ended_at=ended_at,
        )

    def transcript(self, session_id: str) -> list[PastTurn]:
        """The turns of a session that have rows, in order."""
        return self._past(session_id, after=0)

    def conversation(self, session_id: str) -> StoredConversation:
        """The summary of a session and the turns behind it."""
        n, summary = self._summary(session_id)
        return StoredConversation(summary=summary, past=self._past(session_id, after=n))

    def summary(self, session_id: str) -> Summary | None:
        """The summary of a session."""
        return self._summary(session_id)[1]

    def _summary(self, session_id: str) -> tuple[int, Summary | None]:
        found = self._execute(_SUMMARY, (session_id,)).fetchone()
        if found is None:
            return 0, None
        n, through, turns, text, made_at = found
        return n, Summary(through=through, turns=turns, text=text, made_at=made_at)

    def summarise(self, session_id: str, summary: Summary) -> None:
        """Note a session's summary."""
        values = (session_id, summary.turns, summary.text, summary.made_at, summary.through, session_id)
        if self._execute(_SUMMARISE, values).rowcount != 1:
            raise StoreFailed(f"transcript {session_id} has no turn {summary.through}")

    def past_turn(self, turn_id: str) -> PastTurn | None:
        """A turn with its rows, if they are part of a transcript."""
        return next(iter(_past_turns(self._execute(_PAST_TURN, (turn_id,)).fetchall())), None)

    def through(self, turn_id: str) -> tuple[list[PastTurn], bool]:
        """The turns of a transcript up to one of them, and whether that is the last turn of its session."""
        past = _past_turns(self._execute(_THROUGH, (turn_id,)).fetchall())
        (last,) = self._execute(_IS_LAST, (turn_id,)).fetchone() or (False,)
        return past, bool(last)

    def _past(self, session_id: str, *, after: int) -> list[PastTurn]:
        return _past_turns(self._execute(_TRANSCRIPT, (session_id, after)).fetchall())

    def page(self, session_id: str, after: int, limit: int) -> list[TranscriptRow]:
        """The next rows of a transcript."""
        rows = self._execute(_PAGE, (after, session_id, after >> ROWS_PER_TURN_BITS, limit)).fetchall()
        return [TranscriptRow(seq=seq, turn_id=turn_id, body=body) for seq, turn_id, body in rows]

    def counts(self, key: str) -> dict[str, Any]:
        """How many turns of a session stand in each state."""
        counted = self._execute("SELECT state, count(*) FROM turns WHERE key = ? GROUP BY state", (key,)).fetchall()
        return dict.fromkeys(cast("tuple[str, ...]", get_args(TurnState)), 0) | dict(counted)

    def durations(self, keys: Sequence[str], limit: int) -> dict[str, list[float]]:
        """How long the last completed turns of each session took, the latest first."""
        return {key: [took for (took,) in self._execute(_DURATIONS, (key, limit)).fetchall()] for key in keys}

    def delete(self, key: str) -> bool:
        """Drop a session's turns and their rows."""
        numbers = [n for (n,) in self._execute("SELECT n FROM turns WHERE key = ?", (key,)).fetchall()]
        self._execute(_DROP_SUMMARIES, (key,))
        self._drop_rows(numbers)
        self._drop_turns(numbers)
        self.settings.drop(key)
        return bool(numbers)

    def prune(self, before: float) -> int:
        """Drop stateless turns and Idempotency-Keys from before a time, the oldest first.

        Those of a clock that ran ahead and was set back are of now: they age from now on.
        """
        self._execute(_SET_RIGHT, (self._now(),))
        aged = self._execute(_AGED, (before, PRUNED_AT_ONCE)).fetchall()
        self._drop_turns([n for n, stateless in aged if stateless == 1])
        kept = [(n,) for n, stateless in aged if stateless != 1]
        self._executemany("UPDATE turns SET idempotency_key = NULL WHERE n = ?", kept)
        return len(aged)

    def _drop_rows(self, numbers: Sequence[int]) -> None:
        spans = [(n << ROWS_PER_TURN_BITS, (n + 1) << ROWS_PER_TURN_BITS) for n in numbers]
        self._executemany("DELETE FROM messages WHERE seq >= ? AND seq < ?", spans)

    def latest(self, after: int, limit: int) -> tuple[list[LatestTurn], int | None]:
        """The latest of the next turns of each session, and where to go on."""
        return latest_turns(self._execute, after, limit)

    def reported(self) -> None:
        """Forget what was wrong with the file when it was opened."""
        self._execute("UPDATE owner SET found = NULL")

    def prove(self) -> None:
        """Change something: SQLite does not write what stays the same."""
        self._execute("UPDATE owner SET proofs = proofs + 1")

    def _drop_turns(self, numbers: Sequence[int]) -> None:
        if numbers:
            self._execute(_KEEP_HIGHEST)
        self._executemany("DELETE FROM responses WHERE n = ?", [(n,) for n in numbers])
        self._executemany("DELETE FROM turns WHERE n = ?", [(n,) for n in numbers])


def _past_turns(rows: Sequence[tuple[Any, ...]]) -> list[PastTurn]:
    return [
        PastTurn(
            turn_id=turn_id,
            state=state,
            own_fault=bool(own_fault),
            rows=tuple(row[5] for row in group),
            ended_at=ended_at,
        )
        for (_, turn_id, state, own_fault, ended_at), group in groupby(rows, key=itemgetter(0, 1, 2, 3, 4))
    ]


@lru_cache(maxsize=MAX_INSERTED_AT_ONCE)
def _insert_rows(count: int) -> str:
    """One statement for many rows: each step of a statement releases the GIL, and getting it back takes long."""
    return "INSERT INTO messages (seq, body) VALUES " + ", ".join(["(?, ?)"] * count)  # noqa: S608 - placeholders only


def _over(turn_id: str) -> TurnOver:
    return TurnOver(f"turn {turn_id} is over, or its session was deleted")
