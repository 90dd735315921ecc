"""What a provider says when it fails, purely: its words, bounded and without secrets, and its code. Also of a chain."""

from __future__ import annotations

import contextlib
import html
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from workers.models.provider import ModelFailure
from workers.models.retry import PERMANENT_CODES
from workers.models.route import MODEL_CODES

MAX_WORDS_CHARS = 500
MAX_SEARCHED_CHARS = 4096  # of a text, for words: patterns and character tests cost time
HIDDEN = "[hidden]"
MIN_SECRET_CHARS = 8  # a shorter key is a dummy; hidden as part of words, it would eat them
MAX_SPAN_IN_SECONDS = 120  # what is longer is told in minutes

DECISIVE_CODES = PERMANENT_CODES | MODEL_CODES

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

_KIND_WORDS: Mapping[str, str] = {
    "status": "an error",  # inside a stream, without a status
    "connect": "no connection",
    "timeout": "a time-out",
    "malformed": "no chat completion",
    "cut": "a broken answer",
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
    raw: str = field(default="", compare=False, repr=False)  # the same as it came, to look for a name in; never shown
    code: str | None  # error.code, else error.type; of two the one that decides something
    status: int | None  # where the body itself names one


def words_of_body(body: bytes, secrets: tuple[str, ...] = ()) -> Words:
    """What the body of a failed request says, be it JSON, HTML or text; JSON of an unknown shape speaks for itself."""
    text = body.decode(errors="replace")
    words = _words("", secrets)
    with contextlib.suppress(orjson.JSONDecodeError):
        words = words_of_error(orjson.loads(body), secrets)
    if words.text:
        return words
    if text.lstrip().startswith("<"):
        page = text[:MAX_SEARCHED_CHARS]
        title = _TITLE.search(page)
        text = html.unescape(title.group(1) if title else _TAG.sub(" ", page))
    return _words(text, secrets, code=words.code, status=words.status)


def words_of_error(parsed: Any, secrets: tuple[str, ...] = ()) -> Words:
    """What a parsed error body or error chunk says, whichever of the usual shapes it has."""
    outer = parsed[0] if isinstance(parsed, list) and parsed else parsed  # Gemini wraps it in a list
    inner = (outer.get("error") or outer) if isinstance(outer, dict) else outer
    if not isinstance(inner, dict):
        return _words(_said(inner), secrets)
    text = next(filter(None, (_said(inner.get(name)) for name in ("message", "detail", "errors", "msg"))), "")
    metadata = inner.get("metadata")
    if isinstance(metadata, dict) and (raw := _said(metadata.get("raw"))):  # OpenRouter: the provider behind it
        text = f"{text}: {raw}"
    code, kind = inner.get("code"), inner.get("type")
    told = [name for name in (code, kind) if isinstance(name, str) and name]
    named = next((name for name in told if name in DECISIVE_CODES), told[0] if told else code)
    return _words(
        text,
        secrets,
        code=None if named is None else tidy(str(named), secrets),
        status=_status(code, inner.get("status"), kind),
    )


def names(text: str, model: str) -> bool:
    """Whether a text names a model id, as a whole: ``gpt-5`` is not named by ``gpt-5-mini`` or ``gpt-5.1``."""
    return re.search(rf"(?<![\w.\-/]){re.escape(model)}(?![\w\-/]|[.:]\w)", text) is not None


def tidy(text: str, secrets: tuple[str, ...] = ()) -> str:
    """A provider's text for people: one line, printable, without secrets, at most :data:`MAX_WORDS_CHARS`."""
    for secret in secrets:
        if len(secret) >= MIN_SECRET_CHARS:
            text = text.replace(secret, HIDDEN)
    text = _SECRETS.sub(HIDDEN, text)[:MAX_SEARCHED_CHARS]
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= MAX_WORDS_CHARS else text[: MAX_WORDS_CHARS - 1] + "…"


def chain_story(failure: ModelFailure) -> str:
    """A line for each provider that a turn tried or passed over: who, which model, how it failed, its own words."""
    return "\n".join(_line(one) for one in (*failure.earlier, failure))


def _line(failure: ModelFailure) -> str:
    how = f"HTTP {failure.status}" if failure.status is not None else _KIND_WORDS.get(failure.kind, failure.kind)
    if failure.attempts > 1:
        how += f" after {failure.attempts} attempts"
    if failure.retry_after_s:
        how += f", back in {_span(failure.retry_after_s)}"
    if not failure.attempts:
        how = f"not asked, for it said: {how}"
    return f"{failure.provider}, model {failure.model} ({how}): {failure.text}"


def _span(seconds: float) -> str:
    """Rounded up: who comes back then is not too early."""
    return f"{math.ceil(seconds)} s" if seconds <= MAX_SPAN_IN_SECONDS else f"{math.ceil(seconds / 60)} min"


def _words(text: str, secrets: tuple[str, ...], *, code: str | None = None, status: int | None = None) -> Words:
    return Words(text=tidy(text, secrets), raw=text[:MAX_SEARCHED_CHARS], code=code, status=status)


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
