"""What a caller gets when there is no answer: HTTP statuses, codes and words in OpenAI's error shape."""

from __future__ import annotations

import math
from collections.abc import Mapping

import orjson
from aiohttp import web

from hermes_actors.wire.refusals import RefusalCode
from workers.turns import Ended, Refusal, TurnUnknown

LONGEST_RETRY_AFTER_S = 3600
NOT_TO_BE_RETRIED = {"x-should-retry": "false"}  # client libraries of the OpenAI family heed it
JSON_TYPE = "application/json"
SERVER = "hermes-actors"

# The field of a request that a failure is about, where only its session can see that.
_FIELDS: Mapping[str, str] = {"no_such_call": "messages", "tool_name_taken": "tools"}

_INTERRUPTED = (
    "A restart or a crash of the gateway cut the turn off. It does not run again, because its tools may have acted. "
    "A session keeps its transcript: send the next message to continue."
)
_UNKNOWN = (
    "The session's worker received the message, so it may run. What to do: look at the session's "
    "transcript before you send it again; with the same Idempotency-Key it is safe to send it again at any time."
)
_CANCELLED = "The turn was cancelled before it gave an answer."
_FAILED = "The turn failed."


class ClientGone(Exception):
    """The client went away before its answer."""


class ApiError(Exception):
    """A request that gets an error for an answer.

    Args:
        status: HTTP status.
        code: for programs.
        message: for people: what was wrong, and what to do. No secrets, no message bodies.
        param: the request's field it is about.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The error as OpenAI writes one."""
        kind = _kind(self.status)
        return orjson.dumps({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})

    def response(self) -> web.Response:
        """The error as the whole answer."""
        headers = {"Content-Type": JSON_TYPE, "Server": SERVER, **self.headers}
        return web.Response(status=self.status, body=self.body(), headers=headers)


def invalid(param: str | None, message: str, code: str = "invalid_value") -> ApiError:
    """A request whose content is wrong."""
    return ApiError(400, code, message, param=param)


def refused(refusal: Refusal) -> ApiError:
    """A message that was not accepted: nothing of it is kept, so sending it again does no harm."""
    code = refusal.code
    headers = retry_after(code.retry_after_s if refusal.retry_after_s is None else refusal.retry_after_s)
    if code is RefusalCode.IDEMPOTENCY_CONFLICT:
        headers |= NOT_TO_BE_RETRIED
    return ApiError(code.http_status, code, refusal.why, param=_FIELDS.get(code), headers=headers)


def unknown(lost: TurnUnknown) -> ApiError:
    """A message that may have been accepted: no library is to send it again, and what a person can do."""
    return ApiError(503, "turn_unknown", f"{lost} {_UNKNOWN}", headers=NOT_TO_BE_RETRIED)


def ended_without_answer(ended: Ended, headers: Mapping[str, str] | None = None) -> ApiError:
    """A turn that failed, or was interrupted or cancelled; its tools may have acted, so no library retries it.

    Args:
        ended: the turn's end.
        headers: what the answer says of the turn besides.
    """
    error = ended.error or {}
    if ended.state == "interrupted":
        status, code, text = 503, "turn_interrupted", _INTERRUPTED
    elif ended.state == "cancelled":
        status, code, text = 400, "turn_cancelled", _CANCELLED  # 409 is sent again by several client libraries
    else:
        status, code, text = error.get("http_status", 502), error.get("code", "turn_failed"), _FAILED
    all_headers = NOT_TO_BE_RETRIED | retry_after(error.get("retry_after_s")) | dict(headers or {})
    return ApiError(status, code, error.get("text") or text, param=_FIELDS.get(code), headers=all_headers)


def retry_after(seconds: float | None) -> dict[str, str]:
    """The header that says when to come back, in whole seconds; none where that is unknown."""
    if seconds is None or not math.isfinite(seconds):
        return {}
    return {"Retry-After": str(math.ceil(min(max(seconds, 0), LONGEST_RETRY_AFTER_S)))}


def _kind(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"
