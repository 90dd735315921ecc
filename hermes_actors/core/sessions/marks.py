"""Marks: what a session carries from a cut of its turn to its next success, and what suspends it.

One table says what becomes of a session's standing when something happens to it (:data:`TABLE`); the functions below
it fill in reasons, times and transcripts. ``suspended`` beats ``resume_pending`` by being the same column.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from hermes_actors.wire.records import Fresh, Interrupted, Suspended

BY_OPERATOR = "operator"  # the reason of a suspension that no strike led to


class Standing(StrEnum):
    """How a session stands."""

    CLEAR = "clear"
    RESUME_PENDING = "resume_pending"  # its last turn was cut: the next ones carry a note, until one succeeds
    SUSPENDED = "suspended"  # its next message begins a fresh transcript; this one is kept


class Happening(StrEnum):
    """What changes a standing."""

    CUT = "cut"  # a restart or a crash cut its running turn
    STUCK = "stuck"  # that was one strike too many
    SUSPEND = "suspend"  # an operator takes it out of service
    MESSAGE = "message"  # somebody speaks to it
    SUCCESS = "success"  # a turn of it was answered
    RESET = "reset"  # /new, /reset, or an operator
    RESUME = "resume"  # /resume, or an operator


_C, _P, _S = Standing.CLEAR, Standing.RESUME_PENDING, Standing.SUSPENDED

TABLE: Mapping[Standing, Mapping[Happening, Standing]] = {
    _C: {
        Happening.CUT: _P,
        Happening.STUCK: _S,
        Happening.SUSPEND: _S,
        Happening.MESSAGE: _C,
        Happening.SUCCESS: _C,
        Happening.RESET: _C,
        Happening.RESUME: _C,
    },
    _P: {
        Happening.CUT: _P,
        Happening.STUCK: _S,
        Happening.SUSPEND: _S,
        Happening.MESSAGE: _P,
        Happening.SUCCESS: _C,
        Happening.RESET: _C,
        Happening.RESUME: _C,
    },
    _S: {
        Happening.CUT: _S,
        Happening.STUCK: _S,
        Happening.SUSPEND: _S,
        Happening.MESSAGE: _C,
        Happening.SUCCESS: _S,
        Happening.RESET: _C,
        Happening.RESUME: _P,
    },
}


class Marks(NamedTuple):
    """What is kept of a session's standing. Times are seconds since the epoch."""

    standing: Standing = Standing.CLEAR
    reason: str | None = None  # of the last cut, or BY_OPERATOR; None while clear
    at: float | None = None
    turn_id: str | None = None  # which was cut
    former_id: str | None = None  # the transcript that a suspension set aside
    untold_reason: str | None = None  # of a suspension that the person was not told of yet
    untold_at: float | None = None

    @property
    def plain(self) -> bool:
        """Whether nothing is to be told, and nothing to be cleared."""
        return self.standing is Standing.CLEAR and self.untold_reason is None


UNMARKED = Marks()


def told(marks: Marks) -> tuple[Interrupted | None, Fresh | None, Suspended | None]:
    """What a worker is told of a session that it activates: a cut, a fresh start after a suspension, a suspension."""
    interrupted = fresh = suspended = None
    if marks.standing is Standing.RESUME_PENDING and marks.reason is not None and marks.at is not None:
        interrupted = Interrupted(marks.reason, marks.at)
    if marks.standing is Standing.SUSPENDED and marks.reason is not None and marks.at is not None:
        suspended = Suspended(marks.reason, marks.at)
    if marks.untold_reason is not None and marks.untold_at is not None and marks.former_id is not None:
        fresh = Fresh(marks.untold_reason, marks.untold_at, marks.former_id)
    return interrupted, fresh, suspended


def cut(marks: Marks, reason: str, turn_id: str, at: float) -> Marks:
    """A running turn was cut. Reported again it keeps its first reason: a drain's, not that of a crash in it."""
    if marks.standing is Standing.SUSPENDED or (marks.standing is Standing.RESUME_PENDING and marks.turn_id == turn_id):
        return marks
    return marks._replace(standing=_next(marks, Happening.CUT), reason=reason, at=at, turn_id=turn_id)


def stuck(marks: Marks, reason: str, at: float) -> Marks:
    """Its strikes reached the threshold; ``reason`` of the last one."""
    standing = _next(marks, Happening.STUCK)
    return marks._replace(standing=standing, reason=reason, at=at, untold_reason=None, untold_at=None)


def suspend(marks: Marks, at: float) -> Marks:
    """An operator suspends it, which the person is to be told; what a cut left is kept for when it is resumed."""
    if marks.standing is Standing.SUSPENDED:
        return marks
    was_cut = marks.standing is Standing.RESUME_PENDING
    return marks._replace(
        standing=_next(marks, Happening.SUSPEND),
        reason=marks.reason if was_cut else BY_OPERATOR,
        at=marks.at if was_cut else at,
        untold_reason=BY_OPERATOR,
        untold_at=at,
    )


def begin_afresh(marks: Marks, session_id: str) -> Marks:
    """A message came to a suspended session: it goes on with another transcript, and is to say so; this one is kept."""
    standing = _next(marks, Happening.MESSAGE)
    return Marks(
        standing,
        former_id=session_id,
        untold_reason=marks.untold_reason or marks.reason,
        untold_at=marks.untold_at or marks.at,
    )


def succeed(marks: Marks) -> Marks:
    """A turn was answered, and the person told what there was to tell. It does not lift a suspension."""
    standing = _next(marks, Happening.SUCCESS)
    if standing is Standing.SUSPENDED:
        return marks
    return Marks(standing, former_id=marks.former_id)


def reset(marks: Marks, session_id: str) -> Marks:
    """It begins another transcript on purpose; one that a suspension sets aside, now or before, can be resumed."""
    former = session_id if marks.standing is Standing.SUSPENDED else marks.former_id
    return Marks(_next(marks, Happening.RESET), former_id=former)


def resume(marks: Marks, session_id: str) -> tuple[str, Marks] | None:
    """The transcript that is to go on, and the marks with it; None where nothing was set aside.

    A suspended session goes on with its own, told of its cut. A session that began afresh goes back to the one that was
    set aside; that which it leaves can be resumed the same way.
    """
    standing = _next(marks, Happening.RESUME)
    if marks.standing is Standing.SUSPENDED:
        if marks.reason == BY_OPERATOR:
            return session_id, Marks(former_id=marks.former_id)
        return session_id, marks._replace(standing=standing, untold_reason=None, untold_at=None)
    if marks.former_id is None:
        return None
    return marks.former_id, Marks(standing, former_id=session_id)


def _next(marks: Marks, happening: Happening) -> Standing:
    return TABLE[marks.standing][happening]
