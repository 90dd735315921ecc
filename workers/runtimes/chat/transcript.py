"""From a transcript to what the model is sent, purely.

The rules (docs/explanation/architecture.md): failed turns are carried like others, but for one that was recognised as
the cause of its own failure and called no tool; a tool call whose result is missing is closed with one that says its
outcome is unknown. :mod:`workers.models.messages` makes of it what a provider takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from workers.kept_json import kept_json
from workers.models.provider import Passage
from workers.store.shard import PastTurn

OUTCOME_UNKNOWN = "outcome unknown: the turn was cut off while this tool ran; check before you call it again"


def carried(past: Sequence[PastTurn]) -> list[Passage]:
    """What past turns say in a new request to the model, oldest first."""
    return [_passage(turn) for turn in past if not turn.own_fault or _called_tools(turn)]


def _passage(turn: PastTurn) -> Passage:
    rows = turn.rows
    if turn.state != "completed":  # where its end could not be stored, its tool calls are still open
        rows = (*rows, *closing(rows))
    return Passage(turn_id=turn.turn_id, failed=turn.state == "failed", rows=rows)


def _called_tools(turn: PastTurn) -> bool:
    return any(b'"tool_call_id"' in row or b'"tool_calls"' in row for row in turn.rows)


def answered_since_cut(past: Sequence[PastTurn], cut_at: float) -> str | None:
    """The turn that was answered after the last cut, in a transcript; None where none was.

    The cut turn itself may stand in it no more: /retry takes its place.

    Args:
        past: as read from the disk.
        cut_at: seconds since the epoch.
    """
    for turn in reversed(past):
        if turn.state == "interrupted":
            return None
        if turn.state == "completed":
            return turn.turn_id if turn.ended_at is not None and turn.ended_at > cut_at else None
    return None


def tool_message(call_id: str, text: str) -> bytes:
    """The result of a tool call as the transcript keeps it."""
    return kept_json({"role": "tool", "tool_call_id": call_id, "content": text})


def closing(rows: Sequence[bytes]) -> list[bytes]:
    """Results for the tool calls of a cut turn that have none, so that the transcript says what is known of them."""
    open_calls: list[str] = []
    for body in rows:
        if b'"tool_call' in body:  # only then is a look inside worth it
            message = orjson.loads(body)
            open_calls += (call["id"] for call in message.get("tool_calls") or ())
            if (answered := message.get("tool_call_id")) in open_calls:
                open_calls.remove(answered)
    return [tool_message(call_id, OUTCOME_UNKNOWN) for call_id in open_calls]
