"""Messages that are on disk as queued while their sessions are not in memory."""

from __future__ import annotations

from collections.abc import Iterable

from workers.turns import Submission


class Backlog:
    """What sessions begin with when they are activated: messages that were admitted and never begun."""

    def __init__(self) -> None:
        self._left: dict[int, dict[str, list[Submission]]] = {}  # by shard and session key

    def __len__(self) -> int:
        return sum(len(left) for by_key in self._left.values() for left in by_key.values())

    @property
    def sessions(self) -> list[str]:
        """Keys of the sessions to which something is left; stateless conversations are none."""
        return [key for by_key in self._left.values() for key, left in by_key.items() if not left[0].stateless]

    def has(self, shard: int, key: str) -> bool:
        """Whether something is left to a session."""
        return key in self._left.get(shard, {})

    def take_over(self, shard: int, left: Iterable[Submission]) -> None:
        """What the earlier owner of a shard left, in order."""
        by_key = self._left[shard] = {}
        for submission in left:
            by_key.setdefault(submission.key, []).append(submission)

    def add(self, shard: int, key: str, left: list[Submission]) -> None:
        """Keep what an evicted session leaves for its next activation, or for the next owner of its shard."""
        if left and shard in self._left:
            self._left[shard][key] = left

    def claim(self, shard: int, key: str) -> list[Submission]:
        """Hand over what is left to a session, which is activated."""
        return self._left.get(shard, {}).pop(key, [])

    def drop(self, shard: int, key: str | None = None) -> None:
        """Forget what is left in a shard, whose next owner finds it on disk; or to a session of it that was deleted."""
        if key is None:
            self._left.pop(shard, None)
        else:
            self._left.get(shard, {}).pop(key, None)

    def first_of_each(self, shard: int, key: str | None = None) -> list[Submission]:
        """The first message of each session of a shard, or of one session of it."""
        return [left[0] for of, left in self._left.get(shard, {}).items() if key in (None, of)]
