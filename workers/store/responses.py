"""What a shard keeps of responses of the Open Responses API, in SQL: each operation runs inside another's transaction.

A response is a turn that its caller may ask for later: its row in ``responses`` says what was asked. Of a stateless
turn, of which otherwise only the end is kept and for a day, the messages stay as long as the response.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from workers.session_keys import is_bare
from workers.store.packing import unpack
from workers.turns import Submission

PRUNED_AT_ONCE = 500  # responses a call of prune drops: some milliseconds
STATELESS_KEPT = 2  # in the column ``stateless`` of a turn that is one, and a response
STATELESS_GONE = 3  # the same, of a turn of which nothing is kept once it is over

_ASKED = "SELECT asked FROM responses JOIN turns USING (n) WHERE turn_id = ?"
_AGED = "SELECT n FROM responses WHERE created_at < ? ORDER BY created_at LIMIT ?"
_FREE = "UPDATE turns SET stateless = 1 WHERE n = ? AND stateless = 2 RETURNING ended_at IS NOT NULL"


class ResponseRows:
    """The operations on one shard's connection.

    Args:
        drop_rows: drops the messages of turns by their numbers.
    """

    def __init__(
        self, connection: sqlite3.Connection, now: Callable[[], float], drop_rows: Callable[[Sequence[int]], None]
    ) -> None:
        self._execute = connection.execute
        self._now = now
        self._drop_rows = drop_rows

    def keep(self, n: int, asked: bytes) -> None:
        """Keep a new turn as a response."""
        self._execute("INSERT INTO responses (n, asked, created_at) VALUES (?, ?, ?)", (n, asked, self._now()))

    def asked(self, turn_id: str) -> dict[str, Any] | None:
        """What was asked of a turn that is kept as a response."""
        found = self._execute(_ASKED, (turn_id,)).fetchone()
        return None if found is None else unpack(found[0])

    def drop(self, turn_id: str) -> bool:
        """Keep a turn as a response no longer; whether it was one."""
        found = self._execute("SELECT n FROM responses JOIN turns USING (n) WHERE turn_id = ?", (turn_id,)).fetchone()
        if found is not None:
            self._drop(found[0])
        return found is not None

    def prune(self, before: float) -> int:
        """Drop responses from before a time, the oldest first; those of a clock that was set back are of now."""
        self._execute("UPDATE responses SET created_at = ?1 WHERE created_at > ?1", (self._now(),))
        aged = self._execute(_AGED, (before, PRUNED_AT_ONCE)).fetchall()
        for (n,) in aged:
            self._drop(n)
        return len(aged)

    def _drop(self, n: int) -> None:
        self._execute("DELETE FROM responses WHERE n = ?", (n,))
        if self._execute(_FREE, (n,)).fetchone() == (True,):  # one that runs drops its messages when it ends
            self._drop_rows([n])


def kind_of(turn: Submission) -> int:
    """What its column ``stateless`` says of a turn."""
    if not turn.stateless:
        return 0
    if is_bare(turn.key):
        return STATELESS_GONE
    return 1 if turn.response is None else STATELESS_KEPT
