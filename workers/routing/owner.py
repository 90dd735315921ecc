"""What the owner of a shard is asked to do, be it this worker or another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from workers.agents.feed import ListeningTurn
from workers.turns import Submission

NOT_OWNER = "not_owner"  # refusal between workers only: the table is behind


class OwnerGone(Exception):
    """The owner cannot be reached, or owns the shard no more; it may or may not have got the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """A turn on its way to its session's owner, and the caller who is held here."""

    submission: Submission
    turn: ListeningTurn
    stream: bool  # whether deltas and tool progress are wanted, or only the end


class Owner(Protocol):
    """Runs the turns of a shard's sessions and answers questions about them."""

    async def submit(self, shard: int, handover: Handover, *, again: bool) -> None:
        """Take a turn. When this returns it is on disk, and its events go to its caller.

        Args:
            shard: its shard.
            handover: the turn and its caller.
            again: an owner may have it already.

        Raises:
            Refusal: not accepted.
            Parked: on disk, for after the drain that goes on; its caller hears nothing.
            OwnerGone: it is not known whether the owner has it.
        """

    async def ask(self, shard: int, what: str, data: dict[str, Any]) -> dict[str, Any]:
        """Read or change something of a shard; ``what`` as in :class:`hermes_actors.wire.messages.Ask`.

        Raises:
            Refusal: the owner said no.
            OwnerGone: it is not known whether it was done.
        """
