"""Whether a failed request is sent again to the same provider, and when: pure.

Time decides, not tries. Where nothing was answered, a request and what is sent again of it begin within
:data:`RETRIES_S`, so that a provider that takes long to fail is asked once or twice and one that fails at once more
often, ``agent.api_max_retries`` times at most. Only a ``Retry-After`` may take longer, once. Words that a provider says
a second time are its last, unless they are about the moment: a rate limit, 429, 503.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from workers.models.cause import TREATMENTS, Again, Cause
from workers.models.provider import ModelFailure
from workers.models.signs import WEB_PAGE

RETRIES_S = 10.0  # from the first request to the last, where nothing was answered
BASE_DELAY_S = 0.5
MAX_DELAY_S = 8.0
MAX_RETRY_AFTER_S = 30.0  # a provider that wants more is not waited for: the turn fails and says when to come back
MAX_RETRY_AFTER_WITH_NEXT_S = 5.0  # the same, where another provider stands ready
MAX_MALFORMED = 2  # requests to one whose answer is no chat completion

_PASSING_STATUSES = frozenset({429, 503})  # the same words again say nothing new
_CHANGING = re.compile(r"\b[\w-]*\d[\w-]*\b")  # of words that are otherwise the same: numbers, times, request ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """What was tried so far of one request."""

    spent_s: float = 0.0  # in requests that brought nothing, and in waits between them
    obeyed: bool = False  # a Retry-After
    said: str | None = None  # by the provider, the last time, without what changes


def gist(text: str) -> str:
    """A provider's words without what changes from one time to the next: numbers, times, ids of requests."""
    return _CHANGING.sub("#", text)


def next_try(
    failure: ModelFailure,
    tries: Tries,
    *,
    took_s: float,
    max_retries: int,
    draw: Callable[[], float],
    has_next: bool = False,
) -> tuple[float | None, Tries]:
    """Seconds to wait before the request is sent again, or None: it is not; and what was tried with that.

    Exponential back-off with full jitter, or what ``Retry-After`` says plus up to one base delay, so that the sessions
    that were refused together do not come back together.

    Args:
        failure: how the last request failed; its ``attempts`` counts the requests sent so far.
        tries: before it.
        took_s: how long the last request took.
        max_retries: ``agent.api_max_retries``.
        draw: a random number from 0 to 1.
        has_next: another provider stands ready, so this one is not waited for long.
    """
    said = gist(failure.text) if failure.kind == "status" else None
    spent_s = tries.spent_s + (0.0 if failure.answered and not has_next else took_s)
    if failure.attempts > max_retries or not _may_be_sent_again(failure) or _only_repeats(failure, tries, said):
        return None, tries
    if failure.retry_after_s is None:
        delay = draw() * min(MAX_DELAY_S, BASE_DELAY_S * 2.0 ** min(failure.attempts - 1, 16))
    else:
        delay = failure.retry_after_s + draw() * BASE_DELAY_S
        if failure.retry_after_s > (MAX_RETRY_AFTER_WITH_NEXT_S if has_next else MAX_RETRY_AFTER_S):
            return None, tries
    obeys = failure.retry_after_s is not None
    if spent_s + delay > RETRIES_S and not (obeys and not tries.obeyed):
        return None, tries
    return delay, Tries(spent_s=spent_s + delay, obeyed=tries.obeyed or obeys, said=said)


def _may_be_sent_again(failure: ModelFailure) -> bool:
    """Whether the same request may well succeed in a moment."""
    if failure.delivered or TREATMENTS[failure.cause].again is not Again.IN_TIME:
        return False
    if failure.cause is not Cause.MALFORMED:
        return True
    redirected = failure.status is not None and 300 <= failure.status <= 399
    return failure.code != WEB_PAGE and not redirected and failure.attempts < MAX_MALFORMED


def _only_repeats(failure: ModelFailure, tries: Tries, said: str | None) -> bool:
    """Whether a provider only says again what it said before."""
    if said is None or failure.cause is Cause.RATE or failure.status in _PASSING_STATUSES:
        return False
    return said == tries.said
