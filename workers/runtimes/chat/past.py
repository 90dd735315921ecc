"""What earlier turns say in a request to the model, purely.

The rules (docs/explanation/architecture.md): failed turns are carried like others, but for one that was recognised as
the cause of its own failure and called no tool. :mod:`workers.models.messages` makes of it what a provider takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import orjson

from workers.models.context import leading_results
from workers.runtimes.runtime import Memory
from workers.runtimes.transcript import OUTCOME_UNKNOWN, tool_message
from workers.store.shard import Summary
from workers.turns import PastTurn

BRIEFLY_UNKNOWN = "outcome unknown"  # the system message says the rest
_UNKNOWN = orjson.dumps(OUTCOME_UNKNOWN)


def past_of(memory: Memory, *, resumed: bool) -> list[PastTurn]:
    """The summary and the turns behind it.

    Args:
        memory: the conversation.
        resumed: the system message speaks of unknown outcomes, so the results of those calls say it briefly.
    """
    past = carried(memory.past)
    if memory.summary is not None:
        if past and (results := leading_results(past[0].rows)):  # the summary has them, with their calls
            past[0] = replace(past[0], rows=past[0].rows[results:])
        past.insert(0, summary_turn(memory.summary))
    if resumed:
        past = [replace(turn, rows=briefly_unknown(turn.rows)) for turn in past]
    return past


def carried(past: Sequence[PastTurn]) -> list[PastTurn]:
    """Those of past turns that a new request to the model has, oldest first."""
    return [turn for turn in past if not turn.own_fault or _called_tools(turn)]


def _called_tools(turn: PastTurn) -> bool:
    return any(b'"tool_calls"' in row for row in turn.rows)


def summary_turn(summary: Summary) -> PastTurn:
    """A summary as a request carries it, in the place of the turns that it covers."""
    turns = "turn" if summary.turns == 1 else f"{summary.turns} turns"
    text = f"[Note from the gateway: the first {turns} of this conversation, summarised:]\n\n{summary.text}"
    return PastTurn(turn_id="", state="completed", rows=(orjson.dumps({"role": "user", "content": text}),))


def briefly_unknown(rows: Iterable[bytes]) -> list[bytes]:
    """The messages with short results for calls whose outcome is unknown."""
    return [_brief(row) if _UNKNOWN in row else row for row in rows]  # only then is a look inside worth it


def _brief(row: bytes) -> bytes:
    message = orjson.loads(row)
    if message.get("role") == "tool" and message.get("content") == OUTCOME_UNKNOWN:
        return tool_message(message["tool_call_id"], BRIEFLY_UNKNOWN)
    return row
