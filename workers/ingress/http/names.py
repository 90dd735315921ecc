"""Names that callers give, and what they may look like."""

from __future__ import annotations

from aiohttp import web

from workers.ingress.http.errors import invalid

SESSION_ID_HEADER = "X-Hermes-Session-Id"
IDEMPOTENCY_HEADER = "Idempotency-Key"
REQUEST_ID_HEADER = "X-Request-Id"
TURN_ID_HEADER = "X-Hermes-Turn-Id"
WHEN_DRAINING_HEADER = "X-Hermes-When-Draining"
PARK = "park"  # its one value
TURN_HEADERS = (SESSION_ID_HEADER, IDEMPOTENCY_HEADER, REQUEST_ID_HEADER, WHEN_DRAINING_HEADER)  # of a new message

MAX_MODEL_CHARS = 256  # in our own header
MAX_CHARS = {SESSION_ID_HEADER: 256, IDEMPOTENCY_HEADER: 255, REQUEST_ID_HEADER: 128}


def named(request: web.BaseRequest, header: str) -> str | None:
    """The value of a header that names something, or None.

    Raises:
        ApiError: 400; empty, too long, or with characters that cannot be printed.
    """
    value = request.headers.get(header)
    if value is None or is_name(value, MAX_CHARS[header]):
        return value
    raise invalid(
        header, f"The header {header} must have 1 to {MAX_CHARS[header]} printable characters.", "invalid_header"
    )


def wants_to_park(request: web.BaseRequest) -> bool:
    """Whether the message is to be kept for later where the gateway drains.

    Raises:
        ApiError: 400; the header says something else, or what is kept could not be asked for later.
    """
    value = request.headers.get(WHEN_DRAINING_HEADER)
    if value is None:
        return False
    if value != PARK:
        what = f"The header {WHEN_DRAINING_HEADER} knows one value: {PARK}."
        raise invalid(WHEN_DRAINING_HEADER, what, "invalid_header")
    for needed in (SESSION_ID_HEADER, IDEMPOTENCY_HEADER):
        if needed not in request.headers:
            what = (
                f"{WHEN_DRAINING_HEADER}: {PARK} needs the headers {SESSION_ID_HEADER} and {IDEMPOTENCY_HEADER}: "
                "you need them to get the result later."
            )
            raise invalid(needed, what, "missing_header")
    return True


def is_name(value: str, max_chars: int) -> bool:
    """Whether a text may name something: no control characters, no bytes that are no UTF-8."""
    return 0 < len(value) <= max_chars and value.isprintable()


def is_session_id(value: str) -> bool:
    """Whether a session may be called so."""
    return is_name(value, MAX_CHARS[SESSION_ID_HEADER])
