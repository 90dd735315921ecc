"""When a provider that refused wants to be asked again, from the headers of its answer: pure.

``Retry-After`` (RFC 9110, section 10.2.3) and OpenAI's ``retry-after-ms`` are asked for; where there is neither, a
rate-limit window says the same, and at most too late: some tell when the whole of it is there again, not a first part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

LIMITING_STATUSES = frozenset({429, 503})  # whose rate-limit headers are the reason

_WINDOWS = (  # what is left of it; when it is whole again
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
)
_UNIT_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = r"(\d{1,9}(?:\.\d{0,9})?)(ms|[dhms])"
_DURATION = re.compile(rf"(?:{_PART})+", re.ASCII)
_EPOCH_FROM_S = 1e9  # a plain number from here on is a time, not a span
_EPOCH_FROM_MS = 1e12


def back_in_s(status: int, headers: Mapping[str, str], now: float) -> float | None:
    """Seconds until the provider wants to be asked again, or None where it does not say.

    Args:
        status: of the answer.
        headers: of the answer; names in any case where the mapping allows it.
        now: seconds since the epoch.
    """
    asked = retry_after_s(headers, now)
    return asked if asked is not None or status not in LIMITING_STATUSES else window_reset_s(headers, now)


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """What the provider asks for outright, in seconds from ``now``."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is None:
        return None
    if (seconds := _number(value)) is not None:
        return seconds
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now)


def window_reset_s(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds until each rate-limit window that is used up (nothing remains of it) is there again."""
    resets = [
        seconds
        for remaining, reset in _WINDOWS
        if _number(headers.get(remaining)) == 0 and (seconds := _span_s(headers.get(reset, ""), now)) is not None
    ]
    return max(resets, default=None)


def _span_s(value: str, now: float) -> float | None:
    """A duration (``6m0s``, ``250ms``), seconds, or a time since the epoch in seconds or milliseconds."""
    value = value.strip()
    if _DURATION.fullmatch(value):
        return sum(float(number) * _UNIT_S[unit] for number, unit in re.findall(_PART, value))
    if (number := _number(value, digits=15)) is None:
        return None
    if number < _EPOCH_FROM_S:
        return number
    return max(0.0, (number / 1000 if number >= _EPOCH_FROM_MS else number) - now)


def _number(value: str | None, *, digits: int = 9) -> float | None:
    if value is None or not re.fullmatch(rf"\s*\d{{1,{digits}}}(\.\d*)?\s*", value, re.ASCII):
        return None
    return float(value)
