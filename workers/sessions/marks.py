"""What a session carries from a cut of its turn, or from its suspension, until a turn of it succeeds.

The supervisor keeps the marks; a resident session knows them as they were at its activation.
"""

from __future__ import annotations

from dataclasses import dataclass

from hermes_actors.wire.records import Fresh, Interrupted, Lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What a session carries; false where there is nothing to tell and nothing to clear."""

    resume: Interrupted | None = None
    fresh: Fresh | None = None
    lost: Lost | None = None
    strikes: int = 0

    def __bool__(self) -> bool:
        return self != UNMARKED


UNMARKED = Marks()
