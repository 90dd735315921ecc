"""What goes on happening, told at once and then now and then: an outage is no reason to fill the log."""

from __future__ import annotations

from collections.abc import Callable, Hashable

PAUSE_S = 60.0  # between two log lines that say the same
MOST = 256  # different things that are counted; with one more, all counts begin again


class LogThrottle:
    """Counts what happens between two log lines that say it.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: dict[Hashable, tuple[float, int]] = {}  # when it was logged last, how often it happened since

    def happened(self, what: Hashable) -> int:
        """It happened; how often since it was logged last, if it is to be logged now, else 0."""
        now = self._clock()
        at, untold = self._told.get(what, (now - PAUSE_S, 0))
        if now - at < PAUSE_S:
            self._told[what] = (at, untold + 1)
            return 0
        if len(self._told) >= MOST and what not in self._told:
            self._told.clear()
        self._told[what] = (now, 0)
        return untold + 1
