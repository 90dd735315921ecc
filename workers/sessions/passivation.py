"""Which sessions are passivated, purely: the idle, and the longest idle where there are too many."""

from __future__ import annotations

from collections.abc import Iterable


def which_to_passivate(
    resident: Iterable[tuple[str, float, bool]], *, count: int, now: float, idle_ttl_s: float, limit: int
) -> list[str]:
    """The keys of the sessions to passivate.

    Args:
        resident: (key, last active, busy), the longest idle first; busy ones are never chosen.
        count: how many there are.
        now: the time, on the clock of ``last active``.
        idle_ttl_s: who was idle for this long goes.
        limit: above so many, the longest idle go.
    """
    chosen: list[str] = []
    for key, active_at, busy in resident:
        too_many = count - len(chosen) > limit
        if not too_many and now - active_at < idle_ttl_s:
            break
        if not busy:
            chosen.append(key)
    return chosen
