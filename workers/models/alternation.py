"""Messages for a model that wants user and assistant to alternate, as templates of Mistral and Gemma do, purely."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

_LEADING = ("name", "tool_calls")  # stand before what is attached, as in messages that were not joined
NOTHING_ANSWERED = "(no answer was given)"
NOTHING_SAID = "(the conversation goes on)"


def alternating(messages: Iterable[bytes]) -> list[bytes]:
    """Valid messages, without a system message, so that the user begins, and no two of a role follow each other.

    Neighbours become one message. Between a tool's result and the user stands an answer, since the model owes one.
    """
    out: list[dict[str, Any]] = []
    for body in messages:
        message = orjson.loads(body)
        before = out[-1]["role"] if out else None
        if message["role"] == "assistant" and before in (None, "assistant"):
            if before is not None:
                out[-1] = _joined(out[-1], message)
                continue
            out.append({"role": "user", "content": NOTHING_SAID})
        elif message["role"] == "user" and before == "user":
            out[-1] = _joined(out[-1], message)
            continue
        elif message["role"] == "user" and before == "tool":
            out.append({"role": "assistant", "content": NOTHING_ANSWERED})
        out.append(message)
    return [orjson.dumps(message) for message in out]


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """One message that says what both say, with the other fields of both; where both have one, that of the second."""
    contents = [content for message in (first, second) if (content := message["content"]) is not None]
    if all(isinstance(content, str) for content in contents):
        joined: Any = "\n\n".join(contents) or None
    else:
        joined = [part for content in contents for part in _parts(content)]
    others = {**_others(first), **_others(second)}
    leading = {name: others.pop(name) for name in _LEADING if name in others}
    return {"role": first["role"], "content": joined, **leading, **others}


def _others(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name not in ("role", "content")}


def _parts(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
