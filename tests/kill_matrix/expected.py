"""What a session's turns and the restarts between them say about its strikes and its mark: the rules, once more.

Not the product's code, and much less of it: it looks back on what the files say, where the product decides as it goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from operator import attrgetter, itemgetter
from typing import Literal

from kill_matrix.disk import TurnOnDisk

Standing = Literal["clear", "resume_pending", "suspended"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time in which turns may be cut, in seconds since the epoch."""

    begin: float  # asked for, or killed
    end: float  # served again
    reasons: frozenset[str]  # that a turn cut within it may be told
    restart: bool  # of the supervisor, so that idle sessions lose their strikes
    tangled: bool = False  # more happened within it: who was cut by the first may have been idle at the next

    def met(self, turn: TurnOnDisk) -> bool:
        """Whether the turn ran or waited within it."""
        return turn.created_at <= self.end and (turn.ended_at is None or turn.ended_at >= self.begin)

    def cut(self, turn: TurnOnDisk) -> bool:
        """Whether the turn ended within it."""
        return turn.ended_at is not None and self.begin <= turn.ended_at <= self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """How a session may stand."""

    standing: Standing = "clear"
    strikes: int = 0


def outlooks(
    turns: Sequence[TurnOnDisk],
    windows: Sequence[Window],
    threshold: int,
    undelivered: AbstractSet[str] = frozenset(),
) -> frozenset[Outlook]:
    """How the session of these turns may stand, as far as they are over; several ways where nobody can tell.

    Args:
        turns: of one session, in order.
        windows: in which turns may have been cut.
        threshold: how many strikes suspend.
        undelivered: ids of turns that were on disk when the kill came and whose senders knew nothing: such a success
            may not have come to the supervisor.
    """
    happenings: list[tuple[float, TurnOnDisk | Window]] = []
    happenings += [(turn.ended_at, turn) for turn in turns if turn.ended_at is not None]
    happenings += [(window.end, window) for window in windows if window.restart]
    may_be = {Outlook()}
    for _, happened in sorted(happenings, key=itemgetter(0)):
        if isinstance(happened, TurnOnDisk):
            untold = happened.state == "completed" and happened.turn_id in undelivered
            may_be = {_after(before, happened, threshold) for before in may_be} | (may_be if untold else set())
            continue
        idle = {replace(before, strikes=0) for before in may_be}
        if not any(map(happened.met, turns)):
            may_be = idle
        elif happened.tangled:
            may_be |= idle
    return frozenset(may_be)


def _after(before: Outlook, turn: TurnOnDisk, threshold: int) -> Outlook:
    if turn.state == "completed":
        return Outlook()
    if turn.state != "interrupted":
        return before
    strikes = before.strikes + 1
    return (
        Outlook(standing="suspended") if strikes >= threshold else Outlook(standing="resume_pending", strikes=strikes)
    )


def last_cut(turns: Iterable[TurnOnDisk]) -> TurnOnDisk | None:
    """The turn that a mark of the session is about."""
    return next((turn for turn in reversed(list(turns)) if turn.state == "interrupted"), None)


def reasons(turn: TurnOnDisk, windows: Iterable[Window]) -> frozenset[str]:
    """What may have cut a turn; empty: nothing did, and nothing should have."""
    return frozenset().union(*map(attrgetter("reasons"), (window for window in windows if window.cut(turn))))
