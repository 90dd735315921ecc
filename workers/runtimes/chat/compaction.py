"""A conversation that outgrows its model's window: its oldest turns are summarised by the model itself.

The transcript keeps everything; the summary takes the place of those turns in requests only. The decisions are pure
functions; :class:`Fitting` asks the model, stores the summary, and only then drops the turns from memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from hermes_actors.config.model import Compaction
from workers.models.cause import Cause
from workers.models.context import (
    fitted,
    leading_results,
    room_bytes,
    rows_size,
    size_of,
    turn_size,
    with_room_for_answer,
)
from workers.models.gauge import Gauge
from workers.models.provider import ModelReply, ModelRequest, RequestedModel
from workers.models.summary import MAX_SUMMARY_CHARS, PIECE_BYTES, pieces_of, summary_request
from workers.runtimes.runtime import Memory
from workers.runtimes.transcript import brings_results, results_in, waiting_calls
from workers.store.shard import StoreFailed, Summary
from workers.turns import PastTurn

log = structlog.get_logger(__name__)

SUMMARY_S = 120.0  # for the model to write a summary, of however many pieces
SUMMARY_PAUSE_S = 60.0  # after one that failed, before a turn tries again; till then the oldest turns are left out
PIECE_SHARE = 0.5  # of the window, for the part of a conversation that one request summarises
LEAST_PIECE_SHARE = PIECE_SHARE / 4  # of the window, once the model refused larger parts
SUMMARY_SHARE = 0.125  # of the window, at most, for a summary
KEPT_SHARE = 0.5  # of the room that the turns have, for those that stay word for word
FULL_SHARE = 0.95  # of the window that a request may fill at all: sizes are estimates
REFUSED_SHARE = 0.9  # of the size of a request that was refused as too large


class NoSummary(Exception):
    """The model wrote no summary; the text says why, for people."""


class Fitting:
    """Makes the requests of one turn fit.

    Args:
        memory: the conversation; changed when turns are summarised.
        settings: ``agent.compaction``; None: turns are never summarised, nor left out.
        past: the past turns as requests carry them, made again after a change.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        memory: Memory,
        settings: Compaction | None,
        past: Callable[[], list[PastTurn]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._memory = memory
        self._settings = settings
        self._past = past
        self._clock = clock

    async def fit(self, request: ModelRequest, asked: RequestedModel, *, refused: bool) -> ModelRequest:
        """As :class:`workers.models.provider.Fit` says."""
        fitting = await self._smaller(request, asked, refused=refused)
        return with_room_for_answer(fitting, asked.gauge())

    async def _smaller(self, request: ModelRequest, asked: RequestedModel, *, refused: bool) -> ModelRequest:
        gauge = asked.gauge()
        most = room_bytes(gauge, FULL_SHARE, request.parameters)
        if refused:
            most = min(most or size_of(request), int(REFUSED_SHARE * size_of(request)))
        if most is None:
            return request
        if self._settings is None:
            return fitted(request, most, leave_out_turns=False)
        room = room_bytes(gauge, self._settings.at, request.parameters) or most
        fixed = size_of(request) - sum(map(turn_size, request.past))
        if size_of(request) > min(room, most) and fixed <= most and not self._memory.stateless:
            request = await self._compacted(request, asked, min(room, most) - fixed)
        return fitted(request, most)

    async def _compacted(self, request: ModelRequest, asked: RequestedModel, room: int) -> ModelRequest:
        """The request with a summary of the oldest turns; ``room`` is what all turns may have, in bytes."""
        memory = self._memory
        assert self._settings is not None
        if self._clock() < memory.no_summary_before:
            return request
        kept = max(int(KEPT_SHARE * room), 0)
        turns = how_many_to_summarise(
            # A turn that is too large by itself is shortened in requests, and drives no others out.
            [min(rows_size(turn.rows), kept // 2) for turn in memory.past],
            keep=self._settings.keep_turns,
            room=kept,
        )
        turns = min(turns, calls_of(request.messages, memory.past))
        if turns:
            try:
                await compact(memory, asked, turns)
            except (NoSummary, StoreFailed) as error:
                memory.no_summary_before = self._clock() + SUMMARY_PAUSE_S
                log.warning("conversation not summarised", session=memory.key, why=str(error))
                return request
        return replace(request, past=self._past())


async def compact(memory: Memory, asked: RequestedModel, turns: int) -> None:
    """Replace the oldest turns in memory, and any earlier summary, by a summary that is on disk.

    Args:
        memory: with more than ``turns`` turns.
        asked: the model that writes it.
        turns: how many.

    Raises:
        NoSummary: the model did not write one; nothing changed.
        StoreFailed: it could not be stored; nothing changed.
    """
    oldest = with_results(memory.past, turns)
    before = memory.summary
    try:
        async with asyncio.timeout(SUMMARY_S):
            text = await _summarised(oldest, before, asked)
    except TimeoutError:
        raise NoSummary(f"the model wrote no summary within {SUMMARY_S:g} s") from None
    covered = turns + (before.turns if before is not None else 0)
    await memory.summarise(Summary(through=oldest[-1].turn_id, turns=covered, text=text, made_at=time.time()), turns)
    log.info("conversation summarised", session=memory.key, turns=covered, kept=len(memory.past))


async def _summarised(turns: Sequence[PastTurn], before: Summary | None, asked: RequestedModel) -> str:
    share = PIECE_SHARE
    while True:
        most = summary_chars(asked.gauge())  # an earlier summary may be another model's, with a larger window
        text = before.text[:most] if before is not None else ""
        for piece in pieces_of([turn.rows for turn in turns], piece_bytes(asked.gauge(), share)):
            outcome = await asked.ask(summary_request(text, piece))
            if not isinstance(outcome, ModelReply):
                break
            if not outcome.text.strip():
                raise NoSummary("the model wrote an empty summary")
            text = outcome.text.strip()[:most]
        else:
            return text
        share /= 2  # the model counts otherwise than was thought, or its window is smaller
        if outcome.cause is not Cause.CONTEXT or share < LEAST_PIECE_SHARE:
            raise NoSummary(outcome.text)


# -- decisions --------------------------------------------------------------------------------------------------------
def calls_of(messages: Sequence[bytes], past: Sequence[PastTurn]) -> int:
    """The place of the first past turn that has a call which these messages answer; behind all where there is none."""
    if not brings_results(messages):
        return len(past)
    waiting = waiting_calls(past)
    return min((waiting.get(call_id, len(past)) for call_id in results_in(messages)), default=len(past))


def with_results(past: Sequence[PastTurn], turns: int) -> list[PastTurn]:
    """The oldest turns, with the results that the next turn begins with: a call and its result go together."""
    oldest = [*past[:turns]]
    following = past[turns].rows if turns < len(past) else ()
    if results := leading_results(following):
        oldest[-1] = replace(oldest[-1], rows=(*oldest[-1].rows, *following[:results]))
    return oldest


def how_many_to_summarise(sizes: Sequence[int], *, keep: int, room: int) -> int:
    """How many of the oldest turns a summary replaces: all but the newest that may stay.

    Args:
        sizes: of the turns in bytes, oldest first.
        keep: how many of the newest stay at most.
        room: bytes for those that stay; the last stays whatever its size.
    """
    kept = 0
    for size in reversed(sizes):
        room -= size
        if kept >= keep or (kept > 0 and room < 0):
            break
        kept += 1
    return len(sizes) - kept


def piece_bytes(gauge: Gauge, share: float) -> int:
    """How many bytes of a conversation one request summarises, as a share of the window."""
    return int(PIECE_BYTES * share / PIECE_SHARE) if gauge.window is None else gauge.bytes(int(share * gauge.window))


def summary_chars(gauge: Gauge) -> int:
    """How long a summary may be."""
    if gauge.window is None:
        return MAX_SUMMARY_CHARS
    return min(MAX_SUMMARY_CHARS, gauge.bytes(int(SUMMARY_SHARE * gauge.window)))
