"""Messages of a transcript, and what makes a transcript valid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import orjson

from workers.kept_json import kept_json
from workers.runtimes.transcript import tool_message


def user(text: str) -> bytes:
    return kept_json({"role": "user", "content": text})


def assistant(text: str) -> bytes:
    return kept_json({"role": "assistant", "content": text})


def calls(*call_ids: str, name: str = "mcp__files__read") -> bytes:
    """An answer that calls tools."""
    made = [{"id": at, "type": "function", "function": {"name": name, "arguments": "{}"}} for at in call_ids]
    return kept_json({"role": "assistant", "content": None, "tool_calls": made})


def result(call_id: str) -> bytes:
    return tool_message(call_id, f"result of {call_id}")


def validate(rows: Iterable[bytes]) -> None:
    """Each call has one result before the next message that is none, and each result a call.

    Raises:
        AssertionError: it is not so.
    """
    open_calls: Counter[str] = Counter()
    for message in map(orjson.loads, rows):
        if message["role"] == "tool":
            assert open_calls[message["tool_call_id"]] > 0, f"nothing calls {message}"
            open_calls[message["tool_call_id"]] -= 1
            continue
        assert not +open_calls, f"{message} comes before the results of {+open_calls}"
        open_calls.update(call["id"] for call in message.get("tool_calls") or ())
    assert not +open_calls, f"{+open_calls} have no result"
