"""How large a request is, and how it is made to fit the window of a model, purely.

A size is in bytes; :class:`workers.models.gauge.Gauge` says how many tokens they are for a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from workers.models.gauge import LEAST_WINDOW, TOKENS_PER_BYTE, Gauge
from workers.models.provider import ModelRequest
from workers.turns import PastTurn

PICTURE_TOKENS = 1500  # of a picture, whose bytes say nothing; what providers charge for one of the usual sizes
LEAST_SHARE = 0.5  # of a window that is left to the request, however long an answer the caller asks for
LEAST_ANSWER_SHARE = 1 / 16  # of a window that an answer may always have
ESTIMATE_SHARE = 0.05  # of a window that stays free beside request and answer: sizes are estimates
SHORTENED_BYTES = 600  # a tool result is never shortened below this
TEXT_PARTS = 6  # of the room, for each text of a turn that is too large by itself
NOTE_BYTES = 200  # of a shortened result, for the line that says so and the message around it
HEAD_SHARE = 2 / 3  # of a shortened result: its beginning says more than its end

_PICTURE_BEGINS = b"data:image/"
_PICTURE = re.compile(rb"data:image/[^\"]*")
_ANSWER_LIMITS = ("max_tokens", "max_completion_tokens")


def size_of(request: ModelRequest) -> int:
    """The bytes of a request that count, pictures at :data:`PICTURE_TOKENS` of the usual ratio."""
    size = len(request.system) + len(request.tools.joined) + rows_size(request.messages)
    for turn in request.past:  # the hot path of a turn: a long conversation is not measured again each time
        size += turn.size if turn.size >= 0 else turn_size(turn)
    return size


def turn_size(turn: PastTurn) -> int:
    """The bytes of a past turn that count."""
    if turn.size < 0:
        turn.size = rows_size(turn.rows)
    return turn.size


def rows_size(rows: Iterable[bytes]) -> int:
    """The bytes of messages that count."""
    size = 0
    for row in rows:  # no calls for what has no picture
        size += len(row) if _PICTURE_BEGINS not in row else row_size(row)
    return size


def row_size(row: bytes) -> int:
    """The bytes of a message that count: a picture inside it counts as a picture."""
    if _PICTURE_BEGINS not in row:
        return len(row)
    pictures = _PICTURE.findall(row)
    return len(row) - sum(map(len, pictures)) + len(pictures) * round(PICTURE_TOKENS / TOKENS_PER_BYTE)


def room_bytes(gauge: Gauge, share: float, parameters: Mapping[str, Any]) -> int | None:
    """How many bytes a request to this model may have; None where its window is not known.

    Args:
        gauge: of the model.
        share: of the window that a request may fill; the rest is the answer's.
        parameters: of the request; an answer that may be long leaves less.
    """
    if gauge.window is None:
        return None
    answers = [limit for name in _ANSWER_LIMITS if isinstance(limit := parameters.get(name), int)]
    left = min(share * gauge.window, gauge.window - max(answers, default=0))
    return gauge.bytes(max(int(left), int(LEAST_SHARE * gauge.window)))


def fitted(request: ModelRequest, room: int, *, leave_out_turns: bool = True) -> ModelRequest:
    """A request of at most ``room`` bytes, as far as that is possible without touching what people said.

    The largest tool results are shortened to one common length, then the texts of past turns that alone would fill half
    of the room; where that is not enough, the oldest turns are left out, a summary of earlier ones last. The transcript
    keeps all of it.

    Args:
        request: as it is.
        room: bytes.
        leave_out_turns: whether turns may be left out.
    """
    excess = size_of(request) - room
    if excess <= 0:
        return request
    rows = [row for turn in request.past for row in turn.rows] + list(request.messages)
    cap = common_cap([len(row) for row in rows if is_result(row)], excess)
    if cap is not None:
        request = replace(
            request,
            past=[replace(turn, rows=_capped(turn.rows, cap)) for turn in request.past],
            messages=_capped(request.messages, cap),
        )
        excess = size_of(request) - room
    kept = list(request.past)
    if excess > 0:
        kept = [turn if turn_size(turn) <= room // 2 else _with_short_texts(turn, room) for turn in kept]
        excess -= sum(map(turn_size, request.past)) - sum(map(turn_size, kept))
    while leave_out_turns and excess > 0 and kept:
        oldest = 1 if kept[0].is_summary and len(kept) > 1 else 0
        excess -= turn_size(kept.pop(oldest))
    return replace(request, past=kept if len(kept) == len(request.past) else _begun_with_words(kept))


def _begun_with_words(past: list[PastTurn]) -> list[PastTurn]:
    """The turns without results whose calls were left out with the turns before."""
    first = 1 if past and past[0].is_summary else 0
    return [
        replace(turn, rows=turn.rows[leading_results(turn.rows) :]) if at == first else turn
        for at, turn in enumerate(past)
    ]


def with_room_for_answer(request: ModelRequest, gauge: Gauge) -> ModelRequest:
    """The request with a bound for its answer that the window holds beside it, where the caller's is larger.

    Servers that add both up (vLLM, Anthropic) refuse a request for no other reason. A smaller bound is no loss: beyond
    the window no answer goes.
    """
    if gauge.window is None:
        return request
    left = gauge.window - gauge.tokens(size_of(request)) - int(ESTIMATE_SHARE * gauge.window)
    most = max(left, int(LEAST_ANSWER_SHARE * gauge.window))
    larger = [name for name in _ANSWER_LIMITS if type(asked := request.parameters.get(name)) is int and asked > most]
    if not larger:
        return request
    return replace(request, parameters={**request.parameters, **dict.fromkeys(larger, most)})


def advice_on_length(request: ModelRequest, gauge: Gauge) -> str:
    """What to do about a refused request where neither a summary nor a fresh conversation helps; else empty.

    Args:
        request: as it was refused.
        gauge: of the model, after that.
    """
    tools, said = len(request.tools.joined), rows_size(request.messages)
    if gauge.window is None or gauge.tokens(len(request.system) + tools + said) <= gauge.window:
        return ""
    what, remedy = (
        ("the tools alone have", "choose which to offer with mcp_servers.<server>.tools.include")
        if tools >= said
        else ("this message alone has", "make it shorter")
    )
    lengths = f"about {gauge.tokens(max(tools, said))} tokens, and the model takes {gauge.window}"
    return f"{what} {lengths}: {remedy}, or choose another model with /model"


def common_cap(sizes: Sequence[int], excess: int) -> int | None:
    """The length to which tool results of these sizes are shortened so that ``excess`` bytes go; None for no results.

    The cap is as high as possible, and never below :data:`SHORTENED_BYTES`.
    """
    falling = sorted(sizes, reverse=True)
    above = 0
    for count, size in enumerate(falling, 1):
        above += size
        following = falling[count] if count < len(falling) else 0
        cap = (above - excess) // count
        if cap >= following:
            return max(cap, SHORTENED_BYTES)
    return SHORTENED_BYTES if falling else None


def is_result(row: bytes) -> bool:
    """Whether a message is the result of a tool call."""
    return b'"tool_call_id"' in row


def leading_results(rows: Sequence[bytes]) -> int:
    """How many results of tools a turn begins with: those of calls in the turn before, which the client ran."""
    return next((at for at, row in enumerate(rows) if not is_result(row)), len(rows))


def _capped(rows: Sequence[bytes], cap: int) -> tuple[bytes, ...]:
    return tuple(shortened(row, cap) if len(row) > cap and is_result(row) else row for row in rows)


def _with_short_texts(turn: PastTurn, room: int) -> PastTurn:
    """A past turn that is too large by itself, as a message may be that its model refused for its length."""
    cap = max(room // TEXT_PARTS, SHORTENED_BYTES)
    rows = (row if len(row) <= cap or b'"made_by"' in row else shortened(row, cap) for row in turn.rows)
    return replace(turn, rows=tuple(rows))


def shortened(row: bytes, size: int) -> bytes:
    """A message of about ``size`` bytes whose text says how much of it is left out; other contents stay."""
    message = orjson.loads(row)
    content = message.get("content")
    if not isinstance(content, str):
        return row
    kept = int(len(content) * max(size - NOTE_BYTES, 0) / len(row))
    head = int(kept * HEAD_SHARE)
    left_out = len(content) - kept
    note = f"[… {left_out:,} characters were left out here: this is too large for the model …]"
    message["content"] = f"{content[:head]}\n{note}\n{content[head + left_out :]}"
    return orjson.dumps(message)


def window_in(listing: Any, model: str) -> int | None:
    """The window, in tokens, that a provider's list of models (``GET /v1/models``) states for a model; None: none.

    llama.cpp says ``meta.n_ctx``, vLLM ``max_model_len``, OpenRouter and Together ``context_length``, Groq
    ``context_window``, Mistral ``max_context_length``, LM Studio ``loaded_context_length``.
    """
    entries = listing.get("data") if isinstance(listing, dict) else listing
    models = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    named = [entry for entry in models if entry.get("id") == model]
    for entry in named or (models if len(models) == 1 else []):  # a server of one model answers under any name
        meta = entry.get("meta")
        told = [meta.get("n_ctx")] if isinstance(meta, dict) else []
        told += [entry.get(name) for name in _WINDOW_NAMES]
        for window in told:
            if type(window) is int and window >= LEAST_WINDOW:
                return window
    return None


_WINDOW_NAMES = (
    "loaded_context_length",
    "max_model_len",
    "context_length",
    "context_window",
    "max_context_length",
)
