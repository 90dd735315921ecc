"""When a connection that is down is tried again, and one that is up is given up: pure; time and chance are arguments.

The budget starts again with each success and never runs out: at the longest pause attempts go on, but only while
a caller wants the connection. What no caller wants stays down until it is wanted, so a server that dies at start costs
nothing. Where one server fails for many sessions, their attempts form a line.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hermes_actors.times import backoff_s

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0
STEADY_S = 30.0  # a connection that lived this long was a success even if nothing was called
KEEP_UP_S = 60.0  # one that is lost and was wanted this recently is brought back before it is wanted again
SHORT_LIVES = 4  # failures in a row, at most, of one that works and dies soon after: callers can wait for its return
LINE_SPACING_S = 1.0  # between two attempts of one server that failed before, whichever sessions they are of
MUTE_CALLS = 3  # calls in a row that timed out without a message from the server: it hangs


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """How long a connection has been failing; the default is a healthy one. Times are monotonic seconds."""

    failures: int = 0  # in a row
    not_before: float = 0.0  # the earliest time of the next attempt
    lined_up: bool = False  # that time is a place in the server's line


def pause_s(failures: int, chance: float) -> float:
    """How long to wait after so many failures in a row: doubling, capped, between half and all of it by ``chance``."""
    return backoff_s(FIRST_PAUSE_S, failures - 1, LONGEST_PAUSE_S, chance)


def worsened(outage: Outage, *, now: float, chance: float) -> Outage:
    """One more failure in a row."""
    failures = outage.failures + 1
    return Outage(failures=failures, not_before=now + pause_s(failures, chance))


def after_life(outage: Outage, *, lived_s: float, answered: bool, now: float, chance: float) -> Outage:
    """A connection that had been up was lost.

    It starts a new outage if the connection had lived. One that was of use but dies young is back soon, though never at
    once for ever; one that only ever comes up to die again goes on failing.
    """
    if lived_s >= STEADY_S:
        outage = Outage()
    elif answered:
        outage = Outage(failures=min(outage.failures, SHORT_LIVES - 1))
    return worsened(outage, now=now, chance=chance)


def must_line_up(outage: Outage, line_ends_at: float, *, now: float) -> bool:
    """Whether an attempt that is due waits for a place in the server's line.

    From its second failure in a row on; from the first where others are in the line.
    """
    failed_enough = outage.failures > (0 if line_ends_at > now else 1)
    return failed_enough and not outage.lined_up


def lined_up(outage: Outage, line_ends_at: float, *, now: float) -> tuple[Outage, float]:
    """Take the next place in the line; the outage, and when the line then ends. No place is far away."""
    at = min(max(now, line_ends_at), now + LONGEST_PAUSE_S)
    return replace(outage, not_before=at, lined_up=True), at + LINE_SPACING_S


def hangs(mute_calls: int, *, alone: bool) -> bool:
    """Whether a server that is connected hangs; not while another call (``alone`` false) may still be answered."""
    return mute_calls >= MUTE_CALLS and alone


def next_attempt_in_s(outage: Outage, *, now: float, wanted_at: float, waiting: int) -> float | None:
    """Seconds until the next attempt, or None: not before a caller wants it.

    Args:
        outage: the failures so far.
        now: the time.
        wanted_at: when the connection was last wanted.
        waiting: how many wait for it at this moment.
    """
    if waiting == 0 and now - wanted_at > KEEP_UP_S:
        return None
    return max(0.0, outage.not_before - now)
