"""What a session carries from a cut of its turn, or from its suspension, until a turn of it succeeds.

The supervisor keeps the marks; a resident session knows them as they were told at its activation.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Its last turn was cut: the model is told."""

    reason: str  # restart_timeout | shutdown_timeout | crash
    at: float  # seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """It was suspended and began a fresh transcript: the person is told."""

    reason: str  # operator, or that of the last cut
    at: float  # of the suspension, seconds since the epoch
    former_id: str  # session id of the transcript that was set aside


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Files of the gateway lost some of it: the person is told."""

    what: str  # all: what was said before; end: perhaps what was said last; names: only that there was such a session
    at: float  # when that was noticed, seconds since the epoch
    until: float | None  # of an end: when the last thing that is left in the file was written


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended:
    """Its next message begins a fresh transcript."""

    reason: str  # operator, or that of the last cut
    at: float  # seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What a session carries; false where there is nothing to tell and nothing to clear."""

    resume: Resume | None = None
    fresh: Fresh | None = None
    lost: Lost | None = None
    strikes: int = 0

    def __bool__(self) -> bool:
        return self != UNMARKED


UNMARKED = Marks()
