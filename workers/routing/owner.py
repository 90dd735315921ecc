"""What the owner of a shard does for a caller, be it this worker or another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from workers.routing.messages import ReadTurn, ShardRequest
from workers.turns import Submission

R = TypeVar("R")


class OwnerGone(Exception):
    """The owner cannot be reached, or no longer owns the shard, or got the request too late.

    Args:
        why: in words.
        may_have_it: the request was sent and not answered, so the owner may have done it.
    """

    def __init__(self, why: str, *, may_have_it: bool) -> None:
        super().__init__(why)
        self.may_have_it = may_have_it


class TurnCaller(Protocol):
    """The caller of a turn, as its owner sees them."""

    @property
    def ended(self) -> bool:
        """Whether the caller heard the end, or went away."""

    def attach(self, turn_id: str, leave: Callable[[], None]) -> None:
        """The owner has the turn; ``leave`` ends the caller's interest in it. A caller who went away leaves at once."""

    def hear(self, event: Any) -> None:
        """The next event of the turn; a :class:`workers.turns.NumberedEvent` where the turn is read again."""


C = TypeVar("C", bound=TurnCaller, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingTurn(Generic[C]):
    """A turn on its way to its session's owner, to be run or read again, and the caller who waits for it."""

    submission: Submission | ReadTurn
    turn: C
    stream: bool  # whether deltas and tool progress are wanted, or only the end


class ShardOwner(Protocol):
    """Runs the turns of a shard's sessions and does what is requested of the shard."""

    async def submit(self, shard: int, pending: PendingTurn[TurnCaller], *, again: bool) -> None:
        """Take a turn. When this returns it is on disk, and its events go to its caller.

        Args:
            shard: its shard.
            pending: the turn and its caller.
            again: an owner may have it already.

        Raises:
            Refusal: not accepted, or not found.
            Parked: on disk, for after the drain; its caller hears nothing.
            OwnerGone: the owner does not have it, or may have it.
        """

    async def ask(self, shard: int, request: ShardRequest[R]) -> R:
        """Read or change something in a shard.

        Raises:
            Refusal: the owner refused.
            OwnerGone: it was not done, or may have been done.
        """
