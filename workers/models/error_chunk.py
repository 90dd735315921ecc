"""Errors where a chunk of an answer should be, in the forms in which servers write them: pure."""

from __future__ import annotations

from typing import Any

MAX_WORD_CHARS = 60  # of a finish_reason that says so

_ERROR_WORDS = frozenset({"error", "err", "exception", "failed", "failure", "fail"})
_TEXTS = ("message", "error_msg", "error_message", "errorMessage", "msg", "detail", "details", "title", "reason")
_CODES = ("code", "error_code", "errorCode", "status_code", "statusCode", "status", "http_status")
_FINE_CODES = frozenset({"", "0", "200", "ok", "success"})


class Malformed(Exception):
    """The provider's answer is no chat completion; the text says why, without its content."""


class ErrorObject(Exception):
    """The provider reports an error where a chunk should be.

    ``chunk`` has the error under ``error``, as an object with ``message``, ``code`` and ``type`` where they are known.
    """

    def __init__(self, chunk: Any) -> None:
        super().__init__("the stream carries an error")
        self.chunk = chunk


class BrokenOff(Exception):
    """The provider says in its ``finish_reason`` that it failed."""

    def __init__(self, word: str) -> None:
        word = word[:MAX_WORD_CHARS]
        super().__init__(f"the provider broke off its answer (finish_reason: {word})")
        self.word = word


def error_of(value: Any, beside: Any = None) -> ErrorObject:
    """The error that stands under ``error``: an object, a text or a list of either.

    Args:
        value: what stands there.
        beside: the object that it stands in, whose status or type counts where the error has none itself.
    """
    if not isinstance(beside, dict):
        beside = {}
    while isinstance(value, list) and value:
        value = value[0]
    inner = dict(value) if isinstance(value, dict) else {"message": value if isinstance(value, str) else str(value)}
    if isinstance(nested := inner.get("error"), dict | str) and not inner.get("message"):
        return error_of(nested, inner)
    for name, wanted in (("code", _CODES), ("message", _TEXTS)):
        if inner.get(name) in (None, ""):
            for source in (inner, beside):
                found = next((source[one] for one in wanted if source.get(one) not in (None, "", [], {})), None)
                if found is not None:
                    inner[name] = found
                    break
    if not isinstance(inner.get("type"), str) and isinstance(kind := beside.get("type"), str):
        inner["type"] = kind
    return ErrorObject({"error": inner})


def error_without_choices(chunk: dict[str, Any]) -> ErrorObject | None:
    """The error that a chunk without choices is, or None: it tells something else."""
    if str(chunk.get("object")).lower() in _ERROR_WORDS or str(chunk.get("type")).lower() in _ERROR_WORDS:
        return error_of({name: value for name, value in chunk.items() if name not in ("object", "type")}, chunk)
    if errors := chunk.get("errors"):
        return error_of(errors, chunk)
    base = chunk.get("base_resp")  # MiniMax
    if isinstance(base, dict) and not _is_fine(base.get("status_code")):
        return error_of({"message": base.get("status_msg") or "", "code": base.get("status_code")})
    told = next((chunk[name] for name in _TEXTS if isinstance(chunk.get(name), str | list) and chunk[name]), None)
    if told is None:
        return None
    codes = [chunk[name] for name in _CODES if name in chunk]
    is_named = "detail" in chunk or "error_msg" in chunk or chunk.get("success") is False
    if is_named or len(chunk) == 1 or any(_is_failure(code) for code in codes):
        return error_of(chunk)
    return None


def _is_fine(code: Any) -> bool:
    return code is None or str(code).lower() in _FINE_CODES


def _is_failure(code: Any) -> bool:
    if isinstance(code, str) and not code.isdecimal():
        return code.lower() in _ERROR_WORDS or "error" in code.lower()
    return not _is_fine(code) and isinstance(code, int | str) and int(code) >= 400
