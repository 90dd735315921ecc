"""Which provider of a chain is asked, and whose failure the caller is told: pure.

A position is a place in the chain: 0 is the primary, n the n-th fallback. Whether a failed provider's request goes on
with the next one is said of each cause in :data:`workers.models.cause.TREATMENTS`; after text of its answer was
delivered it never does.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.models.cause import TREATMENTS
from workers.models.empty import is_empty
from workers.models.provider import ModelFailure, ModelReply

PRIMARY = 0
MAX_CLOSED_S = 3600.0  # after which a provider is asked again, whatever it said


def first_asked(position: int, is_open: Sequence[bool]) -> int:
    """Where a request begins: the first open provider from here on, else of all; where none is open, the primary."""
    return next((n for n in (*range(position, len(is_open)), *range(position)) if is_open[n]), PRIMARY)


def after_failure(failure: ModelFailure, position: int, is_open: Sequence[bool]) -> int | None:
    """The position that goes on with the request, or None: the turn fails.

    Args:
        failure: what became of it at ``position``, after that provider's own retries.
        position: who failed.
        is_open: by position, whether a provider may be asked now.
    """
    if not may_fall_back(failure):
        return None
    return next((n for n in range(position + 1, len(is_open)) if is_open[n]), None)


def after_reply(reply: ModelReply, position: int, is_open: Sequence[bool]) -> int | None:
    """The position that is asked after an answer, or None: the answer stands. An empty one stands where no other is."""
    if not is_empty(reply):
        return None
    return next((n for n in range(position + 1, len(is_open)) if is_open[n]), None)


def may_fall_back(failure: ModelFailure) -> bool:
    """Whether another provider may answer what this one did not."""
    return not failure.delivered and TREATMENTS[failure.cause].next_provider


def decisive(failure: ModelFailure) -> ModelFailure:
    """The failure of a chain that decides what its caller is told: the last that may pass, else the last.

    So a caller is told to change something (HTTP 400) only where none of the providers may answer later.
    """
    may_pass = [one for one in (*failure.earlier, failure) if TREATMENTS[one.cause].may_pass]
    return may_pass[-1] if may_pass else failure


def closed_for_s(failure: ModelFailure) -> float:
    """For how long a provider wants not to be asked again; 0 where it does not say."""
    if failure.retry_after_s is None or not TREATMENTS[failure.cause].may_pass:
        return 0.0
    return min(failure.retry_after_s, MAX_CLOSED_S)
