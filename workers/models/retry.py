"""Whether a failed request to a provider is sent again, and when: pure."""

from __future__ import annotations

from collections.abc import Callable

from workers.models.provider import ModelFailure

BASE_DELAY_S = 0.5
MAX_DELAY_S = 30.0
MAX_RETRY_AFTER_S = 60.0  # a provider that wants more is not waited for: the turn fails and says when to come back

RETRIED_STATUSES = frozenset({408, 409, 425, 429})  # and 5xx; 409 is a provider's lock time-out
PERMANENT_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "context_length_exceeded"})


def retry_delay(failure: ModelFailure, *, delivered: bool, max_retries: int, draw: Callable[[], float]) -> float | None:
    """Seconds to wait before the request is sent again, or None: it is not.

    Exponential back-off with full jitter, or what ``Retry-After`` says plus up to one base delay, so that the sessions
    that were refused together do not come back together.

    Args:
        failure: how the last request failed; its ``attempts`` counts the requests sent so far.
        delivered: whether text of this answer went to the user: then a second answer must not follow.
        max_retries: ``agent.api_max_retries``.
        draw: a random number from 0 to 1.
    """
    if delivered or failure.attempts > max_retries or not is_transient(failure):
        return None
    if failure.retry_after_s is not None:
        return failure.retry_after_s + draw() * BASE_DELAY_S if failure.retry_after_s <= MAX_RETRY_AFTER_S else None
    return draw() * min(MAX_DELAY_S, BASE_DELAY_S * 2.0 ** min(failure.attempts - 1, 16))


def is_transient(failure: ModelFailure) -> bool:
    """Whether the same request may well succeed later."""
    if failure.kind != "status":
        return True
    if failure.code in PERMANENT_CODES:
        return False
    status = failure.status  # None: an error inside a stream that names no status; the request itself was accepted
    return status is None or status >= 500 or status in RETRIED_STATUSES
