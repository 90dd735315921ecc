"""A message that comes again: most client libraries send what failed or timed out once more, under no name, purely.

None of those that were tried sends an ``Idempotency-Key``, so the session recognises such a message by its content and
by what became of the one before. What a person means twice stays two turns: two messages that were both answered, and
the same words after ``/stop``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from workers.runtimes.transcript import brings_results, came_with
from workers.turns import PastTurn

FAILED_S = 120.0  # a message that equals one which failed so lately takes its place
CUT_S = 30.0  # libraries send a message again so soon after a cut; a person says "go on"
UNHEARD_S = FAILED_S  # so long an answer that no caller heard waits for the message to come again

_CALLS_TOOLS = b'"tool_calls":'  # no text holds these bytes: its quotes are escaped


class LivingTurn(Protocol):
    """A turn that waits or runs."""

    @property
    def turn_id(self) -> str: ...
    @property
    def sent(self) -> Sequence[bytes]:
        """The messages that its caller sent."""
        ...

    @property
    def caller_left(self) -> bool:
        """Whether the connections of all its callers are gone."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SameTurn:
    """The message is the one of this turn, which runs or is over: its caller gets that turn's end."""

    turn_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TakesPlace:
    """The message is a turn in the place of this one, which failed and leaves the transcript."""

    turn_id: str


Recognised: TypeAlias = SameTurn | TakesPlace | None


def recognise(
    messages: Sequence[bytes], living: Iterable[LivingTurn], last: PastTurn | None, *, now: float
) -> Recognised:
    """What a message without an ``Idempotency-Key`` repeats; None: nothing, it is a new turn.

    Args:
        messages: that came.
        living: the session's turns that wait or run, in order.
        last: the turn that ended last.
        now: seconds since the epoch.
    """
    once = brings_results(messages)  # the calls of a client's tools get their results once
    alive = False
    for turn in living:
        alive = True
        if (once or turn.caller_left) and turn.sent == messages:
            return SameTurn(turn_id=turn.turn_id)
    if alive or last is None or not _may_be_repeated(last, now, once=once) or came_with(last.rows) != messages:
        return None
    if last.state == "failed":
        if any(_CALLS_TOOLS in row for row in last.rows[len(messages) :]):  # what they did stays in the transcript
            return None
        return TakesPlace(turn_id=last.turn_id)
    return SameTurn(turn_id=last.turn_id)


def _may_be_repeated(last: PastTurn, now: float, *, once: bool) -> bool:
    age_s = now - last.ended_at if last.ended_at is not None else float("inf")
    match last.state:
        case "completed":
            return once or (last.unheard and age_s < UNHEARD_S)
        case "failed":
            return age_s < FAILED_S
        case "interrupted":
            return age_s < CUT_S
        case _:
            return False
