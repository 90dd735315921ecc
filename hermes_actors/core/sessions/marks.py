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
    """The state of a session's mark."""

    CLEAR = "clear"
    RESUME_PENDING = "resume_pending"  # its last turn was cut: the next ones carry a note, until one succeeds
    SUSPENDED = "suspended"  # its next message begins a fresh transcript; this one is kept


class Happening(StrEnum):
    """What changes a standing."""

    CUT = "cut"  # a restart or a crash cut its running turn
    STUCK = "stuck"  # that was one strike too many
    SUSPEND = "suspend"  # an operator takes it out of service
    MESSAGE = "message"  # a message came
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


class MarkRecord(NamedTuple):
    """What is kept of a session's standing. Times are seconds since the epoch."""

    standing: Standing = Standing.CLEAR
    reason: str | None = None  # of the last cut, or BY_OPERATOR; None while clear
    at: float | None = None
    turn_id: str | None = None  # which was cut
    former_id: str | None = None  # the transcript that a suspension set aside
    untold_reason: str | None = None  # of a suspension that the person does not know of yet
    untold_at: float | None = None

    @property
    def plain(self) -> bool:
        """Whether there is nothing to report to the person, and nothing to clear."""
        return self.standing is Standing.CLEAR and self.untold_reason is None


UNMARKED = MarkRecord()


def told(marks: MarkRecord) -> tuple[Interrupted | None, Fresh | None, Suspended | None]:
    """What a worker learns about a session that it activates: a cut, a fresh start after a suspension, a suspension."""
    interrupted = fresh = suspended = None
    if marks.standing is Standing.RESUME_PENDING and marks.reason is not None and marks.at is not None:
        interrupted = Interrupted(marks.reason, marks.at)
    if marks.standing is Standing.SUSPENDED and marks.reason is not None and marks.at is not None:
        suspended = Suspended(marks.reason, marks.at)
    if marks.untold_reason is not None and marks.untold_at is not None and marks.former_id is not None:
        fresh = Fresh(marks.untold_reason, marks.untold_at, marks.former_id)
    return interrupted, fresh, suspended


def cut(marks: MarkRecord, reason: str, turn_id: str, at: float) -> MarkRecord:
    """A running turn was cut. A second report changes nothing: the reason stays the drain's, if a crash follows it."""
    if marks.standing is Standing.SUSPENDED or (marks.standing is Standing.RESUME_PENDING and marks.turn_id == turn_id):
        return marks
    return marks._replace(standing=_next(marks, Happening.CUT), reason=reason, at=at, turn_id=turn_id)


def stuck(marks: MarkRecord, reason: str, at: float) -> MarkRecord:
    """Its strikes reached the threshold; ``reason`` of the last one."""
    standing = _next(marks, Happening.STUCK)
    return marks._replace(standing=standing, reason=reason, at=at, untold_reason=None, untold_at=None)


def suspend(marks: MarkRecord, at: float) -> MarkRecord:
    """An operator suspends it, and the next reply says so. The mark of a cut is kept, for a later resume."""
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


def begin_afresh(marks: MarkRecord, session_id: str) -> MarkRecord:
    """A message came to a suspended session: it begins another transcript and says so. The old transcript is kept."""
    standing = _next(marks, Happening.MESSAGE)
    return MarkRecord(
        standing,
        former_id=session_id,
        untold_reason=marks.untold_reason or marks.reason,
        untold_at=marks.untold_at or marks.at,
    )


def succeed(marks: MarkRecord) -> MarkRecord:
    """A turn was answered, and its answer said what the person had to know. It does not lift a suspension."""
    standing = _next(marks, Happening.SUCCESS)
    if standing is Standing.SUSPENDED:
        return marks
    return MarkRecord(standing, former_id=marks.former_id)


def reset(marks: MarkRecord, session_id: str) -> MarkRecord:
    """A person or operator begins another transcript. One that a suspension set aside can be resumed."""
    former = session_id if marks.standing is Standing.SUSPENDED else marks.former_id
    return MarkRecord(_next(marks, Happening.RESET), former_id=former)


def resume(marks: MarkRecord, session_id: str) -> tuple[str, MarkRecord] | None:
    """The transcript to go on with, and its marks; None where none was set aside.

    A suspended session goes on with its own, with the mark of its cut. A session that began a fresh transcript goes
    back to the one that was set aside; the one that it leaves can be resumed the same way.
    """
    standing = _next(marks, Happening.RESUME)
    if marks.standing is Standing.SUSPENDED:
        if marks.reason == BY_OPERATOR:
            return session_id, MarkRecord(former_id=marks.former_id)
        return session_id, marks._replace(standing=standing, untold_reason=None, untold_at=None)
    if marks.former_id is None:
        return None
    return marks.former_id, MarkRecord(standing, former_id=session_id)


def _next(marks: MarkRecord, happening: Happening) -> Standing:
    return TABLE[marks.standing][happening]
