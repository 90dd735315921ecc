"""What the registry records about sessions and the lives of the supervisor, and what a start concludes from that."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

YOUNG_S = 120.0  # a life that was killed, and followed by the next one within this time, died young
YOUNG_DEATHS_BORNE = 3  # in a row; from then on waiting turns do not begin by themselves

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
    """Since when strikes belong to a stop or start after which idle sessions did not lose theirs yet.

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
        since = life.started_at  # it may have recorded strikes before it was killed
    return since


def young_deaths(lives: Sequence[Life]) -> int:
    """How many lives in a row before the present one were killed soon after their start.

    What counts is the time from one start to the next, so a loop with slow starts counts too. Where the clock was set
    back between two starts, that time is not known, and the row ends.
    """
    count = 0
    for after, life in pairwise(lives):
        if life.ended_at is not None or not 0 <= after.started_at - life.started_at <= YOUNG_S:
            break
        count += 1
    return count


def begins_by_itself(deaths: int) -> bool:
    """Whether waiting turns begin by themselves, after so many young deaths in a row.

    A turn that kills its process before it counts as running leaves no strike, and would do so at each start. So such a
    turn waits for its session's next message.
    """
    return deaths < YOUNG_DEATHS_BORNE
