"""What is restarted, and when: a dead worker, and the agent actor of a session that went on with a fallback model.

The rule for workers is OTP's restart intensity; its manual, "Tuning the intensity and period", reasons about the
numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from hermes_actors.core.state import ActorRecord, Limits
from hermes_actors.times import backoff_s

BACKOFF_FIRST_S = 0.5  # before the second restart; the first one is at once
BACKOFF_MOST_S = 30.0
SLOW_FIRST_S = 30.0  # before the first try after giving up
SLOW_MOST_S = 300.0


def is_given_up(failed_at: Sequence[float], now: float, limits: Limits) -> bool:
    """Whether a slot has no quick restart any more, after deaths at these times, the present one among them."""
    recent = sum(now - at <= limits.restart_window_s for at in failed_at)
    return recent > limits.max_restarts


def restart_delay_s(failures: int, jitter: float) -> float:
    """Seconds before the restart after so many deaths in a row: none at first, then doubling; ``jitter`` in [0, 1)."""
    if failures <= 1:
        return 0.0
    return backoff_s(BACKOFF_FIRST_S, failures - 2, BACKOFF_MOST_S, jitter)


def slow_delay_s(tries: int, jitter: float) -> float:
    """Seconds before the next try of a slot that was given up and tried so many times since."""
    return backoff_s(SLOW_FIRST_S, tries, SLOW_MOST_S, jitter)


def restart_after(record: ActorRecord, turn_id: str, reason: str, at: float) -> ActorRecord | None:
    """The record of an actor that is restarted because a turn succeeded on a fallback model, or None: it is not.

    Nothing else restarts an actor: one whose run failed, or succeeded on the primary model, is kept. The restart makes
    the next message try the primary model first. A turn has one restart, however often it is reported.
    """
    if record.last_fallback_turn == turn_id:
        return None
    return ActorRecord(
        generation=record.generation + 1,
        restarts=record.restarts + 1,
        last_restart_reason=reason,
        last_restart_at=at,
        last_fallback_turn=turn_id,
    )
