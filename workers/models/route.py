"""Which provider of a chain is asked: pure. A position is a place in the chain: 0 is the primary, n the n-th fallback.

::

    how a provider failed, after its own retries                     the turn
    ------------------------------------------------------------     ------------------------------
    after text of the answer was delivered                           fails
    400 or 422 about the model: so says its code, or it names it     goes on with the next provider
    any other 400 or 422, and 413: about this request                fails
    anything else: other statuses, no connection, time-out,          goes on with the next provider
    malformed, cut
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.models.provider import ModelFailure
from workers.models.retry import is_transient

PRIMARY = 0
MAX_CLOSED_S = 3600.0  # after which a provider is asked again, whatever it said

CONTEXT_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
MODEL_CODES = frozenset({"model_not_found"})
CONTENT_STATUSES = frozenset({400, 413, 422})  # the request's own fault, unless they are about the model


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


def may_fall_back(failure: ModelFailure) -> bool:
    """Whether another provider may answer what this one did not."""
    return not failure.delivered and not is_about_request(failure)


def is_about_request(failure: ModelFailure) -> bool:
    """Whether what was sent was refused: any provider would refuse it, and so would this one a second time."""
    return failure.status in CONTENT_STATUSES and not is_about_model(failure)


def is_too_large(failure: ModelFailure) -> bool:
    """Whether the request was refused because it does not fit the model's window."""
    return failure.code in CONTEXT_CODES or failure.status == 413


def is_about_model(failure: ModelFailure) -> bool:
    """Whether a 400 or 422 refuses the model id: so says its code, or the provider's words name the id."""
    if failure.status not in (400, 422):
        return False
    return failure.code in MODEL_CODES or failure.names_model


def closed_for_s(failure: ModelFailure) -> float:
    """For how long a provider wants not to be asked again; 0 where it does not say."""
    if failure.retry_after_s is None or not is_transient(failure):
        return 0.0
    return min(failure.retry_after_s, MAX_CLOSED_S)
