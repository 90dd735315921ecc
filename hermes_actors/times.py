"""Times: as people read them, and between attempts that fail."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(at: float) -> str:
    """A time, in seconds since the epoch, for people: in UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def backoff_s(first_s: float, doublings: int, most_s: float, chance: float) -> float:
    """Between half and all of a doubling pause, so that many who failed together do not return together.

    Args:
        first_s: the whole pause before the second attempt.
        doublings: how often the pause has doubled since.
        most_s: the longest whole pause.
        chance: in [0, 1), which part of the second half is waited.
    """
    return min(first_s * 2.0 ** min(doublings, 32), most_s) * (0.5 + chance / 2)
