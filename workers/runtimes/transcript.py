"""The form of a transcript: its messages, and what keeps them valid while a runtime writes them, purely.

A message that calls tools is followed by one result for each call, then by whatever comes next. A call whose result is
missing at the end of its turn gets one that says that its outcome is unknown; but a call of a tool that the client runs
stays open at the end of a completed turn, and its result is among the messages that the next turn comes with.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from workers.kept_json import kept_json
from workers.models.context import leading_results
from workers.models.provider import ToolCall
from workers.turns import PastTurn

_BY_TOOL, _BY_USER = b'"role":"tool"', b'"role":"user"'  # no text holds these bytes: its quotes are escaped
RESULTS_CAME = kept_json(
    {"role": "user", "content": "[Results of tools came late. They stand behind their calls: go on from there.]"}
)
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
    return [tool_message(call_id, OUTCOME_UNKNOWN) for call_id in open_calls(rows)]


def open_calls(rows: Sequence[bytes]) -> list[str]:
    """The ids of the calls in a turn that have no result in it."""
    found: list[str] = []
    for body in rows:
        if b'"tool_call' in body:  # only then is a look inside worth it
            message = orjson.loads(body)
            found += (call["id"] for call in message.get("tool_calls") or ())
            if (answered := message.get("tool_call_id")) in found:
                found.remove(answered)
    return found


def brings_results(messages: Sequence[bytes]) -> bool:
    """Whether a turn comes with results of tools that its client ran."""
    return _BY_TOOL in messages[0]


def came_with(rows: Sequence[bytes]) -> list[bytes]:
    """The messages that a turn came with: what may stand behind them was made by the model, tools, or a prompt."""
    results = leading_results(rows)
    words = rows[results : results + 1]
    if not words or _BY_USER not in words[0]:
        return [*rows[:results]] or [*rows[:1]]
    said = results + 1
    while said < len(rows) and (b'"role":"system"' in rows[said] or b'"role":"developer"' in rows[said]):
        said += 1
    return [*rows[:said]]


def results_in(messages: Sequence[bytes]) -> list[str]:
    """The ids of the calls whose results a turn comes with."""
    return [orjson.loads(row)["tool_call_id"] for row in messages[: leading_results(messages)]]


def waiting_calls(past: Sequence[PastTurn]) -> dict[str, int]:
    """The calls that were left to the client and have no result, by id, and the place of their turn in the past.

    What a turn came with that failed or was cut counts as not given: it may come again.
    """
    waiting: dict[str, int] = {}
    for at, turn in enumerate(past):
        if turn.state != "completed":
            continue
        for row in turn.rows:
            if b'"tool_call' in row:  # only then is a look inside worth it
                message = orjson.loads(row)
                waiting |= {call["id"]: at for call in message.get("tool_calls") or ()}
                waiting.pop(message.get("tool_call_id"), None)
    return waiting


def came_late(messages: Sequence[bytes], past: Sequence[PastTurn]) -> bool:
    """Whether a turn brings results, and no words, after others had their answers in between.

    The results then stand at their calls, before those answers; see :data:`RESULTS_CAME`.
    """
    if any(_BY_USER in row for row in messages):
        return False
    waiting = waiting_calls(past)
    last = max((at for at, turn in enumerate(past) if turn.state == "completed"), default=0)
    return all(waiting.get(call_id) != last for call_id in results_in(messages))


def closed(turn: PastTurn) -> PastTurn:
    """A turn as it was read, its tool calls closed: where its end could not be stored they are open still."""
    missing = () if turn.state == "completed" else closing(turn.rows)
    return replace(turn, rows=(*turn.rows, *missing)) if missing else turn


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
