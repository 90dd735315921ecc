"""Whether a failed request is sent again to the same provider, and when: pure.

Where another provider stands ready, a turn does not sit out what this one is slow about. The worst case before the next
is asked is then two stalls, twice ``first_token_timeout``, and between them ``agent.api_max_retries - 1`` failures of
less than :data:`STALL_S` each, with waits of at most :data:`MAX_RETRY_AFTER_WITH_NEXT_S` and a base delay, or the
back-off: some 270 s as configured by default, and for a provider that says nothing at all 240 s. Only one that goes on
sending pieces of an answer that nobody hears may take longer; chunks without any are no answer.
"""

from __future__ import annotations

from collections.abc import Callable

from workers.models.provider import ModelFailure

BASE_DELAY_S = 0.5
MAX_DELAY_S = 30.0
MAX_RETRY_AFTER_S = 60.0  # a provider that wants more is not waited for: the turn fails and says when to come back
MAX_RETRY_AFTER_WITH_NEXT_S = 5.0  # the same, where another provider stands ready
MAX_STALLED_ATTEMPTS_WITH_NEXT = 2  # a stall at this attempt or a later one is the last
STALL_S = 10.0  # a request that failed after so long was a stall, whoever ended it: often a proxy before the provider

RETRIED_STATUSES = frozenset({408, 409, 425, 429})  # and 5xx; 409 is a provider's lock time-out
FINAL_STATUSES = frozenset({501, 505})  # 5xx that say what a server cannot do
ACCOUNT_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})  # waiting does not mend them
WEB_PAGE = "web_page"  # our own code: a page answers at base_url, and will the next time
PERMANENT_CODES = ACCOUNT_CODES | {"context_length_exceeded", WEB_PAGE}


def retry_delay(
    failure: ModelFailure, *, max_retries: int, draw: Callable[[], float], took_s: float = 0.0, has_next: bool = False
) -> float | None:
    """Seconds to wait before the request is sent again, or None: it is not.

    Exponential back-off with full jitter, or what ``Retry-After`` says plus up to one base delay, so that the sessions
    that were refused together do not come back together.

    Args:
        failure: how the last request failed; its ``attempts`` counts the requests sent so far.
        max_retries: ``agent.api_max_retries``.
        draw: a random number from 0 to 1.
        took_s: how long the last request took.
        has_next: whether another provider stands ready.
    """
    if failure.delivered or failure.attempts > max_retries or not is_transient(failure):
        return None
    stalled = failure.kind == "timeout" or took_s >= STALL_S
    if has_next and stalled and failure.attempts >= MAX_STALLED_ATTEMPTS_WITH_NEXT:
        return None
    if failure.retry_after_s is not None:
        longest = MAX_RETRY_AFTER_WITH_NEXT_S if has_next else MAX_RETRY_AFTER_S
        return failure.retry_after_s + draw() * BASE_DELAY_S if failure.retry_after_s <= longest else None
    return draw() * min(MAX_DELAY_S, BASE_DELAY_S * 2.0 ** min(failure.attempts - 1, 16))


def is_transient(failure: ModelFailure) -> bool:
    """Whether the same request may well succeed later."""
    if failure.code in PERMANENT_CODES:
        return False
    if failure.kind != "status":
        return True
    status = failure.status  # None: an error inside a stream that names no status; the request itself was accepted
    if status is None or status in RETRIED_STATUSES:
        return True
    return status >= 500 and status not in FINAL_STATUSES
