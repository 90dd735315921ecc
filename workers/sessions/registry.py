"""What the sessions of a worker ask the registry, which the supervisor keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hermes_actors.wire.records import CutTurn, Found, LatestTurn, Suspended
from workers.sessions.marks import Marks
from workers.sessions.owned_shard import OwnedShard


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """A session as the registry has it."""

    session_id: str
    created_at: float  # seconds since the epoch
    marks: Marks
    suspended: Suspended | None = None  # never of one that was activated: that is what ends a suspension
    former_id: str | None = None  # the transcript that a suspension set aside


class SessionRegistry(Protocol):
    """Who knows which transcript a session key points to, and what the session carries: the supervisor's registry.

    Every method raises :class:`workers.turns.Refusal` with ``shard_unavailable`` where it gets no answer in time.
    """

    async def activate(self, key: str, principal: str, shard: OwnedShard, *, create: bool) -> SessionRecord:
        """The session of a key. With ``create`` a key without one gets one, and a suspended one begins afresh.

        Raises:
            Refusal: ``session_not_found`` where it may not be made; ``shard_unavailable``.
        """

    async def reset(self, key: str, shard: OwnedShard) -> SessionRecord:
        """Point the key to a new, empty transcript, without marks.

        Raises:
            Refusal: ``shard_unavailable``.
        """

    async def resume(self, key: str, shard: OwnedShard) -> SessionRecord:
        """Point the key to the transcript that a suspension set aside; the one it leaves is set aside instead.

        Raises:
            Refusal: ``session_not_found`` where none was set aside; ``shard_unavailable``.
        """

    async def succeeded(self, key: str, shard: OwnedShard, turn_id: str) -> None:
        """A turn of a marked session succeeded, and is on disk: its marks and strikes are gone, durably.

        Raises:
            Refusal: ``shard_unavailable``; the session stays marked.
        """

    async def opened(self, shard: OwnedShard, found: Found) -> tuple[int, str | None]:
        """Tell how a shard's file was found, before anything of it is served.

        Returns:
            The turn after which its sessions are to be attested; why something that the file had is lost, or None.

        Raises:
            Refusal: ``shard_unavailable``; ``store_failed``.
        """

    async def attest(self, shard: OwnedShard, latest: Sequence[LatestTurn]) -> int | None:
        """Tell which sessions a shard's file has: those that the registry lost are in it when this returns.

        Returns:
            The turn after which they are to be attested again, None: they need not be.

        Raises:
            Refusal: ``shard_unavailable``; ``store_failed``.
        """

    async def recovered(self, shard: OwnedShard, cut: Sequence[CutTurn], queued: Sequence[str]) -> None:
        """Tell what an earlier owner left in a shard, before anything of it is changed: marks and strikes are durable.

        Args:
            shard: just opened.
            cut: the sessions' turns that were running.
            queued: keys of the sessions with turns that wait.

        Raises:
            Refusal: ``shard_unavailable``.
        """

    async def forget(self, key: str, shard: OwnedShard) -> None:
        """Drop the key.

        Raises:
            Refusal: ``shard_unavailable``.
        """
