"""What the owner of a shard is asked to do, be it this worker or another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from workers.sessions.feed import ListeningTurn
from workers.turns import Submission


class OwnerGone(Exception):
    """The owner cannot be reached, or owns the shard no more, or got the request too late.

    Args:
        why: in words.
        may_have_it: the request was handed over and not answered, so it may have been done.
    """

    def __init__(self, why: str, *, may_have_it: bool) -> None:
        super().__init__(why)
        self.may_have_it = may_have_it


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
            OwnerGone: the owner has it not, or nobody knows.
        """

    async def ask(self, shard: int, what: str, data: dict[str, Any]) -> dict[str, Any]:
        """Read or change something of a shard; ``what`` as in :class:`hermes_actors.wire.messages.Ask`.

        Raises:
            Refusal: the owner said no.
            OwnerGone: it was not done, or nobody knows.
        """
