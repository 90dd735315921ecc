"""When a connection that is down is tried again: pure; time and chance are arguments.

The budget starts anew with each success and never runs out: at the longest pause attempts go on, but only while
somebody wants the connection. What nobody wants stays down until it is wanted, so a server that dies at start costs
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0
STEADY_S = 30.0  # a connection that lived this long was a success even if nothing was called
KEEP_UP_S = 60.0  # one that is lost and was wanted this recently is brought back before it is wanted again


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """How long a connection has been failing; the default is a healthy one. Times are monotonic seconds."""

    failures: int = 0  # in a row
    not_before: float = 0.0  # the earliest time of the next attempt


def pause_s(failures: int, chance: float) -> float:
    """How long to wait after so many failures in a row: doubling, capped, between half and all of it by ``chance``."""
    doublings = min(failures - 1, 16)
    return min(FIRST_PAUSE_S * 2.0**doublings, LONGEST_PAUSE_S) * (0.5 + chance / 2)


def worsened(outage: Outage, *, now: float, chance: float) -> Outage:
    """One more failure in a row."""
    failures = outage.failures + 1
    return Outage(failures=failures, not_before=now + pause_s(failures, chance))


def after_life(outage: Outage, *, lived_s: float, answered: bool, now: float, chance: float) -> Outage:
    """A connection that had been up was lost.

    It starts a new outage if the connection had been of use; one that only ever comes up to die again goes on failing.
    """
    was_success = answered or lived_s >= STEADY_S
    return worsened(Outage() if was_success else outage, now=now, chance=chance)


def next_attempt_in_s(outage: Outage, *, now: float, wanted_at: float, waiting: int) -> float | None:
    """Seconds until the next attempt, or None: not before somebody wants it.

    Args:
        outage: the failures so far.
        now: the time.
        wanted_at: when the connection was last wanted.
        waiting: how many wait for it at this moment.
    """
    if waiting == 0 and now - wanted_at > KEEP_UP_S:
        return None
    return max(0.0, outage.not_before - now)
