"""The form of a transcript: its messages, and what keeps them valid while a runtime writes them, purely.

A message that calls tools is followed by one result for each call, then by whatever comes next. A call whose result is
missing at the end of its turn gets one that says that its outcome is unknown; but a call of a tool that the client runs
stays open at the end of a completed turn, and its result is among the messages that the next turn comes with.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson

from workers.kept_json import kept_json
from workers.models.provider import ToolCall
from workers.store.shard import PastTurn

OUTCOME_UNKNOWN = "outcome unknown: the turn was cut off while this tool ran; check before you call it again"


class Misuse(Exception):
    """A runtime broke a rule of its host: a bug of the runtime, which costs it this turn."""


class KeptRows:
    """The messages that a runtime adds to the transcript in one turn; with :meth:`closing` they are always valid."""

    __slots__ = ("_open", "_uncalled", "sent", "unsent")

    def __init__(self) -> None:
        self.sent: list[bytes] = []  # to the store
        self.unsent: list[bytes] = []  # they go with the next commit
        self._open: list[str] = []  # ids of calls that have no result, in order
        self._uncalled: list[str] = []  # those of them that were not made either

    def add(self, rows: Sequence[bytes]) -> None:
        """Add messages, in order.

        Raises:
            Misuse: a result without a call, or another message while a call has no result. Those before it are added.
        """
        for row in rows:
            if b'"tool_call' in row:  # only then is a look inside worth it
                self._follow(orjson.loads(row))
            elif self._open:
                raise Misuse(f"a message that is no result was kept while {self._open} have none")
            self.unsent.append(row)

    def _follow(self, message: Mapping[str, Any]) -> None:
        answered = message.get("tool_call_id")
        if answered is None and self._open:
            raise Misuse(f"a message that is no result was kept while {self._open} have none")
        if answered is not None:
            if answered not in self._open:
                raise Misuse(f"a result was kept of {answered!r}, which no message calls")
            self._open.remove(answered)
            if answered in self._uncalled:
                self._uncalled.remove(answered)
        called = [call["id"] for call in message.get("tool_calls") or ()]
        self._open += called
        self._uncalled += called

    def call(self, calls: Sequence[ToolCall]) -> None:
        """Note that these calls are made now.

        Raises:
            Misuse: no message that was kept calls one of them, or it was made before. None counts as made.
        """
        uncalled = self._uncalled.copy()
        for call in calls:
            if call.call_id not in uncalled:
                raise Misuse(f"{call.call_id!r} is called, which no message calls, or which was called before")
            uncalled.remove(call.call_id)
        self._uncalled = uncalled

    def send(self) -> Sequence[bytes]:
        """The messages that are to be committed now; from here on they count as sent, however the commit goes."""
        rows, self.unsent = self.unsent, []
        self.sent += rows
        return rows

    def closing(self, handed_over: Collection[str] = ()) -> list[bytes]:
        """What the turn's end commits: the messages that were not sent yet, and results for the calls without one.

        Args:
            handed_over: ids of calls that the client makes: they stay open.
        """
        left = [call_id for call_id in self._open if call_id not in handed_over]
        return [*self.unsent, *(tool_message(call_id, OUTCOME_UNKNOWN) for call_id in left)]


def tool_message(call_id: str, text: str) -> bytes:
    """The result of a tool call as the transcript keeps it."""
    return kept_json({"role": "tool", "tool_call_id": call_id, "content": text})


def handed_over(call: ToolCall) -> dict[str, Any]:
    """A call as the client gets it that is to run it."""
    return {
        "id": call.call_id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


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


def answered_since_cut(past: Sequence[PastTurn], cut_at: float) -> str | None:
    """The turn that was answered after the last cut, in a transcript; None where none was.

    The cut turn itself may be missing: /retry takes its place.

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
