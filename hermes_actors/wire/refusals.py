"""Why the gateway refuses a request: one list of codes for the HTTP API, the control socket and the links."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class RefusalCode(StrEnum):
    """A code for programs, with what an HTTP caller gets.

    Args:
        code: as it is sent.
        http_status: of the answer.
        retry_after_s: Retry-After in seconds where the refusal names none; None: sending it again soon does not help.
    """

    http_status: int
    retry_after_s: float | None

    def __new__(cls, code: str, http_status: int = 500, retry_after_s: float | None = None) -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.http_status = http_status
        member.retry_after_s = retry_after_s
        return member

    # messages
    MAILBOX_FULL = "mailbox_full", 429, 1.0
    SHARD_UNAVAILABLE = "shard_unavailable", 503, 1.0
    GATEWAY_DRAINING = "gateway_draining", 503, 5.0
    IDEMPOTENCY_CONFLICT = "idempotency_conflict", 409
    SESSION_NOT_FOUND = "session_not_found", 404
    SESSION_EXISTS = "session_exists", 409
    TURN_NOT_FOUND = "turn_not_found", 404
    STORE_FAILED = "store_failed", 500
    MESSAGE_TOO_LARGE = "message_too_large", 413
    BAD_REQUEST = "bad_request", 400
    TURN_INTERRUPTED = "turn_interrupted", 400  # its message came again, again: no library repeats what gets a 400
    NO_SUCH_CALL = "no_such_call", 400  # a result of a tool came that no call waits for

    # between processes: the receiver asks again elsewhere, and no caller sees them
    NOT_OWNER = "not_owner", 503, 1.0  # the sender's shard table is old
    TOO_LATE = "too_late", 503, 1.0  # the sender's deadline has passed
    STALE_FENCE = "stale_fence", 503, 1.0  # another process owns the shard by now

    # operators
    NOT_FOUND = "not_found", 404
    AMBIGUOUS = "ambiguous", 409  # the name may mean several sessions
    BUSY = "busy", 503, 1.0
    CONFIGURATION = "configuration", 422  # the configuration on disk cannot be used
    CANNOT_RESTART = "cannot_restart", 409  # the code on disk cannot serve
    CANCELLED = "cancelled", 409  # an operator cancelled the drain
    OVERRULED = "overruled", 409  # a later request asks for another end
    NOT_DRAINING = "not_draining", 409
    NOT_SUSPENDED = "not_suspended", 409
    TOO_LARGE = "too_large", 500  # the response is larger than a frame
