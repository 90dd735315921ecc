"""Which provider of a chain is asked, and whose failure the caller gets: pure.

A position is a place in the chain: 0 is the primary, n the n-th fallback. For each cause,
:data:`workers.models.cause.TREATMENTS` says whether a failed request continues with the next provider. After text of an
answer was delivered it never does.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.models.cause import TREATMENTS
from workers.models.empty import is_empty
from workers.models.provider import ModelFailure, ModelReply

PRIMARY = 0
MAX_COOLDOWN_S = 3600.0  # the longest cooldown, even if the provider states a longer one


def first_asked(position: int, is_available: Sequence[bool]) -> int:
    """Where a request starts: the first available provider from here on, else of all, else the primary."""
    return next((n for n in (*range(position, len(is_available)), *range(position)) if is_available[n]), PRIMARY)


def after_failure(failure: ModelFailure, position: int, is_available: Sequence[bool]) -> int | None:
    """The position that continues the request, or None: the turn fails.

    Args:
        failure: of ``position``, after that provider's own retries.
        position: of the provider that failed.
        is_available: by position, whether a provider may be asked now.
    """
    if not may_fall_back(failure):
        return None
    return next((n for n in range(position + 1, len(is_available)) if is_available[n]), None)


def after_reply(reply: ModelReply, position: int, is_available: Sequence[bool]) -> int | None:
    """The position that is asked after an answer, or None: the answer counts, an empty one too if it is the last."""
    if not is_empty(reply):
        return None
    return next((n for n in range(position + 1, len(is_available)) if is_available[n]), None)


def may_fall_back(failure: ModelFailure) -> bool:
    """Whether another provider may answer instead."""
    return not failure.delivered and TREATMENTS[failure.cause].next_provider


def decisive(failure: ModelFailure) -> ModelFailure:
    """The failure of a chain that decides on the caller's status: the last temporary one, else the last.

    So a caller gets HTTP 400 only if none of the providers may answer later.
    """
    may_pass = [one for one in (*failure.earlier, failure) if TREATMENTS[one.cause].may_pass]
    return may_pass[-1] if may_pass else failure


def cooldown_s(failure: ModelFailure) -> float:
    """How long the provider asks not to be asked again; 0 if it does not say."""
    if failure.retry_after_s is None or not TREATMENTS[failure.cause].may_pass:
        return 0.0
    return min(failure.retry_after_s, MAX_COOLDOWN_S)
