"""What a provider says when it fails, purely: its words, bounded and without secrets; its code; when to come back."""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

MAX_WORDS_CHARS = 500
MAX_SEARCHED_CHARS = 4096  # of a text, for words: patterns and character tests cost time
HIDDEN = "[hidden]"

# An error inside a stream came with HTTP 200; its type says which status it would have had.
STATUS_OF_TYPE: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "server_error": 500,
    "api_error": 500,
    "overloaded_error": 503,
}

_SECRETS = re.compile(
    r"(?i:\bbearer\s+)[^\s\"',;]+"
    r"|\bsk[-_][\w*.\-]{4,}|\b(?:rk|pk|gsk|xai|hf)[-_][\w\-]{20,}|\bAIza[\w\-]{10,}"
    r"|(?<=key=)[^\s&\"']+"
)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What an error body says."""

    text: str  # bounded, without secrets; empty where it says nothing
    code: str | None  # error.code, else error.type
    status: int | None  # where the body itself names one


def words_of_body(body: bytes, secrets: tuple[str, ...] = ()) -> Words:
    """What the body of a failed request says, be it JSON, HTML or text; JSON of an unknown shape speaks for itself."""
    text = body.decode(errors="replace")
    words = Words(text="", code=None, status=None)
    with contextlib.suppress(orjson.JSONDecodeError):
        words = words_of_error(orjson.loads(body), secrets)
    if words.text:
        return words
    if text.lstrip().startswith("<"):
        page = text[:MAX_SEARCHED_CHARS]
        title = _TITLE.search(page)
        text = html.unescape(title.group(1) if title else _TAG.sub(" ", page))
    return replace(words, text=tidy(text, secrets))


def words_of_error(parsed: Any, secrets: tuple[str, ...] = ()) -> Words:
    """What a parsed error body or error chunk says, whichever of the usual shapes it has."""
    outer = parsed[0] if isinstance(parsed, list) and parsed else parsed  # Gemini wraps it in a list
    inner = (outer.get("error") or outer) if isinstance(outer, dict) else outer
    if not isinstance(inner, dict):
        return Words(text=tidy(_said(inner), secrets), code=None, status=None)
    text = next(filter(None, (_said(inner.get(name)) for name in ("message", "detail", "errors", "msg"))), "")
    metadata = inner.get("metadata")
    if isinstance(metadata, dict) and (raw := _said(metadata.get("raw"))):  # OpenRouter: the provider behind it
        text = f"{text}: {raw}"
    code, kind = inner.get("code"), inner.get("type")
    named = code if isinstance(code, str) and code else kind if isinstance(kind, str) and kind else code
    return Words(
        text=tidy(text, secrets),
        code=None if named is None else tidy(str(named), secrets),
        status=_status(code, inner.get("status"), kind),
    )


def tidy(text: str, secrets: tuple[str, ...] = ()) -> str:
    """A provider's text for people: one line, printable, without secrets, at most :data:`MAX_WORDS_CHARS`."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    text = _SECRETS.sub(HIDDEN, text)[:MAX_SEARCHED_CHARS]
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= MAX_WORDS_CHARS else text[: MAX_WORDS_CHARS - 1] + "…"


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds until the provider wants to be asked again, or None where it does not say.

    Args:
        headers: of the answer; names in any case where the mapping allows it.
        now: seconds since the epoch; for a ``Retry-After`` that is a date (RFC 9110 section 10.2.3).
    """
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


def _number(value: str | None) -> float | None:
    return float(value) if value is not None and re.fullmatch(r"\s*\d{1,9}(\.\d*)?\s*", value, re.ASCII) else None


def _status(*candidates: Any) -> int | None:
    for candidate in candidates:
        if isinstance(candidate, str):
            candidate = int(candidate) if re.fullmatch(r"[45]\d\d", candidate) else STATUS_OF_TYPE.get(candidate)
        if isinstance(candidate, int) and 400 <= candidate <= 599:
            return candidate
    return None


def _said(value: Any) -> str:
    """What a value says that is a text, an object with a message, or a list of such."""
    entries = (
        entry.get("message") or entry.get("msg") if isinstance(entry, dict) else entry for entry in _listed(value)
    )
    return "; ".join(entry for entry in entries if isinstance(entry, str))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
