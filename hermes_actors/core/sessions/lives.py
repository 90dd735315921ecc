"""What happened to sessions and to the supervisor, as it is kept, and what follows from it at a start."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

YOUNG_S = 120.0  # a life that was killed, and followed by the next one within this time, died young
YOUNG_DEATHS_BORNE = 3  # in a row; from then on nothing is begun by itself

What = Literal["cut", "suspended", "fresh", "succeeded", "reset", "resumed", "cleared", "idle", "found", "told"]


Milestone = Literal["settled_at", "ready_at", "stop_began_at", "ended_at"]


class Incident(NamedTuple):
    """Something that happened to a session's marks or strikes."""

    key: str
    at: float  # seconds since the epoch, like all times here
    boot: str  # the life of the supervisor in which it was recorded
    what: What
    reason: str | None  # of the cut or suspension that it is about
    turn_id: str | None  # which was cut, or succeeded
    session_id: str | None  # the transcript that it happened to
    strikes: int  # after it
    threshold: int  # supervisor.stuck_threshold at that time


class Life(NamedTuple):
    """One life of the supervisor: how far it came."""

    boot: str
    started_at: float
    settled_at: float | None = None  # every shard was recovered, and idle sessions have lost their strikes
    ready_at: float | None = None
    stop_began_at: float | None = None  # it began to cut what still ran
    ended_at: float | None = None  # in order; None: it was killed, or it lives
    how: str | None = None  # stop | restart


def strikes_kept_since(lives: Sequence[Life]) -> float:
    """From when on strikes are of a stop or start that idle sessions have not lost theirs for yet.

    Args:
        lives: the present one first.
    """
    present, *earlier = lives
    since = present.started_at
    for life in earlier:
        if life.stop_began_at is not None:
            return life.stop_began_at
        if life.settled_at is not None:
            break
        since = life.started_at  # it may have recorded strikes, and came no further
    return since


def young_deaths(lives: Sequence[Life]) -> int:
    """How many lives before the present one were killed soon, in a row.

    They are chained by the gap between one start and the next, so that a loop with slow starts is one too. Where the
    clock was set back between two starts, the gap is not known, and the chain ends.
    """
    count = 0
    for after, life in pairwise(lives):
        if life.ended_at is not None or not 0 <= after.started_at - life.started_at <= YOUNG_S:
            break
        count += 1
    return count


def begins_by_itself(deaths: int) -> bool:
    """Whether turns that wait are begun without being asked for, after so many young deaths in a row.

    What kills a process before its turn counts as running leaves no strike; it must not do so for ever (boot-chain
    breaker). Such a turn waits for its session's next message.
    """
    return deaths < YOUNG_DEATHS_BORNE
