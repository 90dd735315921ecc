"""What a server writes, as JSON-RPC messages: pure.

Servers print to where their messages go, on the same line too, and write JSON that the SDK's types refuse: error codes
that are no integers, halves of surrogate pairs, NaN, ids of another type. What is meant is clear in each case, so it is
read. And they number their errors as they like, where the SDK and this package have numbers of their own. So an error
that came as a message never keeps one of those: what it says is the server's answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from mcp_types import (
    HEADER_MISMATCH,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCRequest,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError

from workers.tools.bounds import EDGE_BYTES, TOO_MUCH, answered_id, is_too_dense
from workers.tools.outcomes import ANSWERED, OWN_CODES, UNUSABLE

MAX_WORDS_CHARS = 4_000  # of an error that has no message: its JSON
MAX_SEARCHES = 100  # for messages in a line that holds other text
UNREADABLE = "its answer is no JSON-RPC message, and was dropped"
NO_RESULT = "its answer holds no result"

_RESERVED = OWN_CODES | {HEADER_MISMATCH}  # the SDK makes a call again after the latter, if it is not a refusal by HTTP
_SURROGATES = re.compile(
    r"(\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
_DECODER = json.JSONDecoder(strict=False)  # with tabs and the like as they are in texts, which scripts write
_VERSION = b'"jsonrpc"'


@dataclass(frozen=True, slots=True)
class OutputLine:
    """What a line of a server's output holds."""

    messages: tuple[JSONRPCMessage, ...] = ()
    noise: str = ""  # the rest


def read(line: bytes) -> OutputLine:
    """The messages in a line, however it stands with JSON-RPC; an answer that cannot be read is an error instead."""
    if is_too_dense(line):
        return OutputLine(_unusable(line, TOO_MUCH))
    try:
        return OutputLine((tidied(jsonrpc_message_adapter.validate_json(line, by_name=False)),))
    except ValueError:
        pass
    text = line.decode(errors="replace").strip()
    if _VERSION not in line:
        return OutputLine(noise=text)
    messages: list[JSONRPCMessage] = []
    rest: list[str] = []
    broken = False
    for found in _pieces(_paired(text)):
        made = list(_made(found))
        if any(rest):  # a log may quote what the server was asked
            made = [message for message in made if isinstance(message, JSONRPCResponse | JSONRPCError)]
        messages += made
        if not made:
            rest.append(found.strip() if isinstance(found, str) else json.dumps(found))
            broken |= isinstance(found, str) and '"jsonrpc"' in found
    unread = _unusable(line, UNREADABLE) if broken and not messages else ()
    return OutputLine((*messages, *unread), " ".join(part for part in rest if part))


def skipped(first: bytes, last: bytes) -> tuple[JSONRPCMessage, ...]:
    """What a line that is too long is read as, by its edges: an error for the request that it answers."""
    return _unusable(first + last, TOO_MUCH)


def tidied(message: JSONRPCMessage) -> JSONRPCMessage:
    """The message; an error keeps no number that means something else here."""
    if isinstance(message, JSONRPCError) and message.error.code in _RESERVED:
        return message.model_copy(update={"error": message.error.model_copy(update={"code": ANSWERED})})
    return message


def mended(body: bytes, *, rejected: bool) -> bytes | None:
    """A message that came over HTTP, so that the SDK reads it as it is meant; None where there is no message.

    Args:
        body: JSON text.
        rejected: whether the status refuses the request: then what the specification makes of the code holds.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            found = json.loads(_paired(body.decode(errors="replace")), strict=False)
        except (ValueError, RecursionError):
            return None
        body = b""  # it has to be written again
    if not isinstance(found, dict) or "jsonrpc" not in found:
        return None
    error = found.get("error")
    plain = error is None and isinstance(found.get("result", {}), dict) and _id(found.get("id")) == found.get("id")
    if body and plain and not isinstance(found.get("id"), float):
        return body
    if rejected and isinstance(error, dict) and error.get("code") == HEADER_MISMATCH:
        return body
    written = [message.model_dump_json(by_alias=True, exclude_unset=True) for message in _made(found)]
    return written[0].encode() if written else None


def _paired(text: str) -> str:
    """JSON text whose halves of surrogate pairs, as of a cut emoji, are replacement characters."""
    return _SURROGATES.sub(lambda match: match[1] or "\\ufffd", text)


def _pieces(text: str) -> Iterator[Any]:
    """The JSON objects and lists in a text, in order, and as texts what stands between them."""
    start = 0
    for _ in range(MAX_SEARCHES):
        begins = min((at for at in (text.find("{", start), text.find("[", start)) if at >= 0), default=-1)
        if begins < 0:
            break
        found, end = _value(text, begins)
        if end == begins:  # no value begins here
            following = text.find('{"', begins + 1)
            end = following if following >= 0 else len(text)
            found = text[begins:end]
        yield text[start:begins]
        yield found
        start = end
    yield text[start:]


def _value(text: str, at: int) -> tuple[Any, int]:
    """The JSON value that begins at a place, and where it ends: there, if none does."""
    try:
        return _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None, at


def _made(found: Any) -> Iterator[JSONRPCMessage]:
    """The messages that a JSON value is meant to be: none, one, or those of a batch."""
    if isinstance(found, list):
        for each in found:
            if isinstance(each, dict):
                yield from _made(each)
    elif isinstance(found, dict) and "jsonrpc" in found:
        number, error = _id(found.get("id")), found.get("error")
        if error is not None:
            yield JSONRPCError(jsonrpc="2.0", id=number, error=_error(error))
        elif "result" in found and number is not None:
            result = found["result"]
            if isinstance(result, dict):
                yield JSONRPCResponse(jsonrpc="2.0", id=number, result=result)
            else:
                yield JSONRPCError(jsonrpc="2.0", id=number, error=ErrorData(code=UNUSABLE, message=NO_RESULT))
        else:
            yield from _asked(found, number)


def _asked(found: dict[str, Any], number: int | str | None) -> Iterator[JSONRPCMessage]:
    """A request or a notification of the server."""
    identity = {} if number is None else {"id": number}
    plain = {key: value for key, value in found.items() if key != "id" and value is not None}
    try:
        message = jsonrpc_message_adapter.validate_python({**plain, **identity, "jsonrpc": "2.0"}, by_name=False)
    except ValidationError:
        return
    if isinstance(message, JSONRPCRequest) == (number is not None):
        yield message


def _id(number: Any) -> int | str | None:
    if isinstance(number, float) and number.is_integer():
        return int(number)
    return number if isinstance(number, int | str) and not isinstance(number, bool) else None


def _error(error: Any) -> ErrorData:
    """An error of whatever form, in the server's words."""
    fields = error if isinstance(error, dict) else {"message": error}
    code, message = fields.get("code"), fields.get("message")
    if not isinstance(message, str) or not message.strip():
        message = f"an error without a message: {json.dumps(error, ensure_ascii=False)[:MAX_WORDS_CHARS]}"
    plain = isinstance(code, int) and not isinstance(code, bool) and code not in _RESERVED
    return ErrorData(code=code if plain else ANSWERED, message=message, data=fields.get("data"))


def _unusable(line: bytes, why: str) -> tuple[JSONRPCMessage, ...]:
    first, last = line[:EDGE_BYTES], line[-EDGE_BYTES:]
    number = answered_id(first, last) if _VERSION in first + last else None
    if number is None:  # something printed, or a notification
        return ()
    return (JSONRPCError(jsonrpc="2.0", id=number, error=ErrorData(code=UNUSABLE, message=why)),)
