"""What the sessions of a worker ask the registry, which the supervisor keeps."""

from __future__ import annotations

from typing import Protocol

from workers.agents.session import OwnedShard


class Names(Protocol):
    """Who knows which transcript a session key points to: the supervisor's registry."""

    async def activate(self, key: str, principal: str, shard: OwnedShard, *, create: bool) -> tuple[str, float]:
        """The session id of a key, and when it was made (seconds since the epoch).

        Raises:
            Refusal: ``session_not_found`` where it may not be made; ``shard_unavailable``.
        """

    async def rename(self, key: str, shard: OwnedShard) -> tuple[str, float]:
        """Point the key to a new, empty transcript: its id, and when the session was made.

        Raises:
            Refusal: ``shard_unavailable``.
        """

    async def forget(self, key: str, shard: OwnedShard) -> None:
        """Drop the key.

        Raises:
            Refusal: ``shard_unavailable``.
        """
