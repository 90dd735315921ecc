"""Ends of turns that callers got and that are not on disk, because the store failed.

On disk such a turn still waits or runs: the next owner would begin it after all, or take it for cut. So its end is
stored before the session's next turn, or at the latest before its shard is closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from workers.runtimes.transcript import closing
from workers.store.shard import ShardStore, TurnOver
from workers.turns import Ended, Submission


class UnstoredEnds:
    """The ends that a shard's store still owes."""

    def __init__(self) -> None:
        self._owed: dict[str, dict[str, tuple[Submission, Ended]]] = {}  # by session key and turn id, in order

    def add(self, submission: Submission, ended: Ended) -> None:
        """A caller got this end."""
        self._owed.setdefault(submission.key, {})[submission.turn_id] = (submission, ended)

    def end_of(self, submission: Submission) -> Ended | None:
        """The end of a turn that callers got, if it is not on disk."""
        _, ended = self._owed.get(submission.key, {}).get(submission.turn_id, (None, None))
        return ended

    async def store(self, key: str, into: ShardStore) -> None:
        """Store what is owed to a session.

        Raises:
            StoreFailed: the store still fails.
        """
        for submission, ended in list(self._owed.get(key, {}).values()):
            with suppress(TurnOver):  # stored meanwhile, or its session was deleted
                await end_turn(into, submission, ended)
            self._forget(submission)

    async def store_all(self, into: ShardStore) -> None:
        """Store what is owed to all sessions.

        Raises:
            StoreFailed: the store still fails.
        """
        for key in list(self._owed):
            await self.store(key, into)

    def _forget(self, submission: Submission) -> None:
        owed = self._owed.get(submission.key, {})
        owed.pop(submission.turn_id, None)
        if not owed:
            self._owed.pop(submission.key, None)


async def end_turn(store: ShardStore, submission: Submission, ended: Ended) -> None:
    """Commit the end of a turn of which only the disk knows how far it came; its open tool calls are closed.

    Raises:
        StoreFailed: the end is not on disk; :class:`TurnOver` where the turn has one already.
    """
    rows: Sequence[bytes] = ()
    if not submission.stateless:
        past = await store.past_turn(ended.turn_id)
        rows = () if past is None else past.rows
    await store.finish(ended, closing(rows))
