"""What a provider says when it fails, purely: its words, bounded and without secrets, and its code. Also of a chain."""

from __future__ import annotations

import contextlib
import html
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import orjson

from workers.models.cause import TREATMENTS
from workers.models.lengths import count, lengths
from workers.models.provider import ModelFailure
from workers.models.signs import DECISIVE_CODES

MAX_WORDS_CHARS = 500
MAX_SEARCHED_CHARS = 4096  # of a text, for words: patterns and character tests cost time
HIDDEN = "[hidden]"
MIN_SECRET_CHARS = 8  # a shorter key is a dummy; hidden as part of words, it would eat them
MAX_SPAN_IN_SECONDS = 120  # what is longer is said in minutes

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
_ADDRESS = re.compile(r"\(https?://([^/?#)]+).*\)$")
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")


_FIELD = re.compile(r"^Invalid (?:value for )?'([\w.\[\]]+)'")
_BACK_IN = re.compile(r"(?:try again|retry) in (?:(\d{1,5})m)?(\d{1,6}(?:\.\d+)?)(ms|s)", re.IGNORECASE)
_MAX_INSIDE = 16  # details of an error that are read
_MAX_DEPTH = 4  # of an error in an error: OpenRouter and LiteLLM put that of the provider behind them into their own


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What an error says."""

    text: str  # bounded, without secrets; empty where it says nothing
    raw: str = field(default="", compare=False, repr=False)  # the same as it came, to look for signs in; never shown
    code: str | None  # error.code, else error.type; of two the one that decides something
    status: int | None  # where the body itself names one
    codes: frozenset[str] = frozenset()  # whatever it has for codes, in lower case
    param: str = ""  # the field that it is about
    window: int | None = None  # tokens that the model takes, where it says so
    tokens: int | None = None  # that it was sent
    retry_after_s: float | None = None  # when it wants to be asked again, where the body says so


NO_WORDS = Words(text="", code=None, status=None)


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
    return replace(_words(text, secrets), code=words.code, status=words.status, codes=words.codes)


def words_of_error(parsed: Any, secrets: tuple[str, ...] = ()) -> Words:
    """What a parsed error body or error chunk says, whichever of the usual shapes it has."""
    outer = parsed[0] if isinstance(parsed, list) and parsed else parsed  # Gemini wraps it in a list
    inner = (outer.get("error") or outer.get("base_resp") or outer) if isinstance(outer, dict) else outer
    if not isinstance(inner, dict):
        return _words(_said(inner), secrets)
    parts = (inner.get(name) for name in ("message", "detail", "errors", "msg", "status_msg"))
    text = next(filter(None, map(_said, parts)), "")
    behind = inner["metadata"].get("raw") if isinstance(inner.get("metadata"), dict) else None
    if raw := _said(behind):  # OpenRouter: the provider behind it
        text = f"{text}: {raw}"
    code, kind = inner.get("code"), inner.get("type")
    told = [name for name in (code, kind) if isinstance(name, str) and name]
    named = next((name for name in told if name.lower() in DECISIVE_CODES), told[0] if told else code)
    param = inner.get("param")
    words = _words(text, secrets)
    return replace(
        words,
        code=None if named is None else tidy(str(named), secrets),
        status=_status(code, inner.get("status"), kind),
        codes=frozenset(_codes(inner, _MAX_DEPTH)),
        param=param if isinstance(param, str) else words.param,
        window=count(inner.get("n_ctx")) or words.window,  # llama.cpp
        tokens=count(inner.get("n_prompt_tokens")) or words.tokens,
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


def public_name(provider: str) -> str:
    """A provider's name for callers: the host of its address, whose path may hold a token or an account."""
    return _ADDRESS.sub(r"(\1)", provider)


def secrets_of(key: str | None, base_url: str) -> tuple[str, ...]:
    """What a provider's words must not show: its key, and the path of its address, which may hold one."""
    path = urlsplit(base_url).path.strip("/")
    return tuple(secret for secret in (key, path) if secret)


def chain_story(failure: ModelFailure) -> str:
    """A line for each provider that a turn tried or passed over: who, which model, how it failed, its own words."""
    return "\n".join(_line(one) for one in (*failure.earlier, failure))


def advice_of(failure: ModelFailure) -> str:
    """What to do about a failure, in one line for people."""
    if failure.advice:
        return failure.advice
    key_env = f"the variable {failure.key_env} (key_env)" if failure.key_env else "the provider's key_env variable"
    return TREATMENTS[failure.cause].advice.format(model=failure.model, key_env=key_env, length=_length(failure))


def _length(failure: ModelFailure) -> str:
    if failure.window is None:
        return ""
    sent = "" if failure.tokens is None else f"it has {failure.tokens} tokens, and "
    return f" ({sent}the model takes {failure.window})"


def _line(failure: ModelFailure) -> str:
    how = f"HTTP {failure.status}" if failure.status is not None else _KIND_WORDS.get(failure.kind, failure.kind)
    if failure.attempts > 1:
        how += f" after {failure.attempts} attempts"
    if failure.retry_after_s:
        how += f", back in {_span(failure.retry_after_s)}"
    if not failure.attempts:
        how = f"not asked, for it said: {how}"
    return f"{public_name(failure.provider)}, model {failure.model} ({how}): {failure.text}"


def _span(seconds: float) -> str:
    """Rounded up: who comes back then is not too early."""
    return f"{math.ceil(seconds)} s" if seconds <= MAX_SPAN_IN_SECONDS else f"{math.ceil(seconds / 60)} min"


def _words(text: str, secrets: tuple[str, ...]) -> Words:
    raw = text[:MAX_SEARCHED_CHARS]
    field_named = _FIELD.match(raw)
    window, tokens = lengths(raw)
    return Words(
        text=tidy(text, secrets),
        raw=raw,
        code=None,
        status=None,
        param=field_named[1] if field_named else "",
        window=window,
        tokens=tokens,
        retry_after_s=_back_in_s(raw),
    )


def _codes(error: Any, depth: int) -> Iterator[str]:
    """What an error has for codes, those of an error inside it too."""
    if isinstance(error, str) and error[:1] == "{":  # OpenRouter: the body of the provider behind it
        with contextlib.suppress(orjson.JSONDecodeError):
            error = orjson.loads(error)
    if isinstance(error, list):
        error = {"details": error}
    if not isinstance(error, dict):
        return
    for name in ("code", "type", "status", "reason", "status_code", "error_code"):
        value = error.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool):
            yield str(value).lower()
    inside = [error.get(name) for name in ("error", "innererror", "metadata", "raw")]
    inside += [one for one in _listed(error.get("details"))[:_MAX_INSIDE] if isinstance(one, dict)]
    for one in inside if depth else ():
        yield from _codes(one, depth - 1)


def _back_in_s(text: str) -> float | None:
    """``Please try again in 1m7.5s``, as OpenAI, Groq and Gemini put it."""
    if (found := _BACK_IN.search(text)) is None:
        return None
    return float(found[1] or 0) * 60 + float(found[2]) * (0.001 if found[3] == "ms" else 1)


def _status(*candidates: Any) -> int | None:
    for candidate in candidates:
        if isinstance(candidate, str):
            candidate = int(candidate) if re.fullmatch(r"[45]\d\d", candidate) else STATUS_OF_TYPE.get(candidate)
        if isinstance(candidate, int) and 400 <= candidate <= 599:
            return candidate
    return None


def _said(value: Any) -> str:
    """What a value says that is a text, an object with a message, or a list of such."""
    entries = (_said_of(entry) if isinstance(entry, dict) else entry for entry in _listed(value))
    return "; ".join(entry for entry in entries if isinstance(entry, str))


def _said_of(entry: dict[str, Any]) -> Any:
    """The message of an object, behind the place that it is about, which FastAPI names beside it (``loc``)."""
    said, place = entry.get("message") or entry.get("msg"), entry.get("loc")
    if not isinstance(said, str) or not isinstance(place, list):
        return said
    steps = [str(step) for step in place if isinstance(step, str | int) and step != "body"]
    return f"{'.'.join(steps)}: {said}" if steps else said


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
