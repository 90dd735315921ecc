"""How a session recovers from what a provider refuses again and again: pure.

A failed turn is carried like others, for nothing that a person said is forgotten. Where it is what the provider cannot
take, every later turn would fail as it did. So where a provider refuses two turns in a row with the same words, the
second is sent once more, without the failed turns before it. If that is answered, they were the cause: this provider is
not sent them any more. If not, they were not, and nothing is left out. A turn whose tools were called is never left
out; its results are shortened instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from workers.models.cause import Cause
from workers.models.context import is_result, shortened
from workers.models.provider import ModelFailure, ModelRequest
from workers.models.retry import gist
from workers.turns import PastTurn

RESULT_BYTES = 512  # kept of each tool result of a failed turn
_REFUSING_STATUSES = frozenset({500, None})  # of a provider that fails inside: it may be what it was sent

Who = tuple[str, str]  # a provider's name, and the model that it was asked for

HEALED = (
    "[The provider refused this conversation twice with the same words. It is not sent the messages of the turns that "
    "failed any more; the transcript keeps them.]"
)


class Healing:
    """What the providers of one session refused, and which of its turns each is not sent any more."""

    __slots__ = ("_before", "_left_out", "_now")

    def __init__(self) -> None:
        self._before: Mapping[Who, str] = {}  # what each refused the last turn with
        self._now: dict[Who, str] = {}  # and this one
        self._left_out: dict[Who, frozenset[str]] = {}  # turn ids

    @property
    def leaves_out(self) -> bool:
        """Whether a provider is not sent everything."""
        return bool(self._left_out)

    def sent(self, who: Who, request: ModelRequest) -> ModelRequest:
        """The request as this provider gets it."""
        left_out = self._left_out.get(who)
        return request if left_out is None else _without(request, left_out)

    def once_more(self, who: Who, failure: ModelFailure, request: ModelRequest) -> ModelRequest | None:
        """What is sent once more after a refusal; None where that would not help.

        Args:
            who: refused.
            failure: how.
            request: what was refused.
        """
        if not is_refusal(failure):
            return None
        said = gist(failure.text)
        self._now[who] = said
        if self._before.get(who) != said:
            return None
        smaller = _without(request, _failed(request.past))
        return None if list(smaller.past) == list(request.past) else smaller

    def healed(self, who: Who, request: ModelRequest) -> int:
        """The request was answered once its failed turns were left out, so they are left out from now on; how many."""
        failed = _failed(request.past)
        self._left_out[who] = self._left_out.get(who, frozenset()) | failed
        self._now.pop(who, None)
        return len(failed)

    def turn_ended(self) -> None:
        """What comes now is another turn."""
        self._before, self._now = self._now, {}


def is_refusal(failure: ModelFailure) -> bool:
    """Whether a provider may have failed because of what it was sent, rather than of who sent it, how much or when."""
    if failure.kind != "status" or failure.delivered:
        return False
    if failure.cause is Cause.DOWN:
        return failure.status in _REFUSING_STATUSES
    return failure.cause in (Cause.REQUEST, Cause.CONTENT, Cause.PICTURE, Cause.TOOLS)


def _failed(past: Sequence[PastTurn]) -> frozenset[str]:
    return frozenset(turn.turn_id for turn in past if turn.failed)


def _without(request: ModelRequest, turns: frozenset[str]) -> ModelRequest:
    past = [_shortened(turn) if turn.turn_id in turns else turn for turn in request.past]
    return replace(request, past=[turn for turn in past if turn is not None])


def _shortened(turn: PastTurn) -> PastTurn | None:
    """A failed turn with less of what its tools gave; None for one that called none."""
    if not any(b'"tool_call' in row for row in turn.rows):
        return None
    rows = [shortened(row, RESULT_BYTES) if is_result(row) and len(row) > RESULT_BYTES else row for row in turn.rows]
    return replace(turn, rows=rows)
