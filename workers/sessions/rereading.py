"""Turns that are read again: from their feed while they run, from their transcript once they are over."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import orjson

from hermes_actors.wire.refusals import RefusalCode
from workers.models.attached import REASONING, shown
from workers.sessions.admission import Admission
from workers.sessions.feed import TurnFeed
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.residents import Residents
from workers.store.shard import TurnRow
from workers.turn_errors import stopped_error
from workers.turns import Ended, KeptResponse, Refusal, TurnHistory, TurnState, TurnView


async def turn_of(principal: str, turn_id: str, shard: OwnedShard) -> TurnRow:
    """A turn of a principal.

    Raises:
        Refusal: ``turn_not_found``; there is none, or it is another principal's, or it was dropped.
        StoreFailed: the disk does not answer.
    """
    row = await shard.store.turn(turn_id)
    if row is None or row.submission.principal != principal:
        raise Refusal(RefusalCode.TURN_NOT_FOUND, "There is no such turn.")
    return row


def view_of(row: TurnRow, shard: OwnedShard) -> TurnView:
    """How a turn is, whose end may be owed to the disk."""
    submission = row.submission
    ended = row.ended or shard.unstored.end_of(submission)
    return TurnView(
        turn_id=submission.turn_id,
        key=submission.key,
        stateless=submission.stateless,
        state=row.state if ended is None else cast("TurnState", ended.state),
        created_at=row.created_at,
        ended=ended,
        ended_at=row.ended_at,
    )


async def kept_response(row: TurnRow, shard: OwnedShard) -> KeptResponse:
    """A turn that is kept as a response.

    Raises:
        Refusal: ``turn_not_found``; it is kept as none.
        StoreFailed: the disk does not answer.
    """
    asked = await shard.store.response(row.submission.turn_id)
    if asked is None:
        raise _no_response()
    return KeptResponse(turn=view_of(row, shard), asked=asked, messages=row.submission.messages)


async def drop_response(row: TurnRow, shard: OwnedShard) -> None:
    """Keep a turn as a response no longer.

    Raises:
        Refusal: ``turn_not_found``; it is kept as none.
        StoreFailed: the disk does not answer.
    """
    if not await shard.store.drop_response(row.submission.turn_id):
        raise _no_response()


def _no_response() -> Refusal:
    return Refusal(RefusalCode.TURN_NOT_FOUND, "There is no such response.")


async def history_of(row: TurnRow, shard: OwnedShard, sessions: Residents) -> TurnHistory:
    """The conversation up to the end of a turn in a session.

    Raises:
        Refusal: ``shard_unavailable``.
        StoreFailed: the disk does not answer.
    """
    key = row.submission.key
    past, is_last = await shard.store.through(row.submission.turn_id)
    try:
        is_last = is_last and await sessions.session_id(key, shard) == row.session_id
    except Refusal as refusal:
        if refusal.code is not RefusalCode.SESSION_NOT_FOUND:
            raise
        is_last = False
    return TurnHistory(key=key, is_last=is_last, rows=[] if is_last else [body for turn in past for body in turn.rows])


async def readable(row: TurnRow, shard: OwnedShard, admission: Admission) -> TurnFeed:
    """The feed of a turn that is on disk, with all that the turn has said.

    Raises:
        Refusal: ``shard_unavailable``; it waits, and its session cannot be activated.
        StoreFailed: the disk does not answer.
    """
    feed = await admission.feed_of(row, shard)
    if feed.ended is None or not feed.ended.replayed:  # this worker heard it all
        return feed
    past = await shard.store.past_turn(feed.turn_id)
    return rebuilt(() if past is None else past.rows, replace(feed.ended, replayed=False))


async def cancel_turn(row: TurnRow, shard: OwnedShard, admission: Admission, sessions: Residents) -> bool:
    """Cancel a turn that runs or waits; whether it was not over. Its end comes soon.

    Raises:
        Refusal: ``shard_unavailable``; it waits, and its session cannot be activated.
        StoreFailed: the disk does not answer.
    """
    feed = await admission.feed_of(row, shard)
    session = await sessions.present(row.submission.key)
    if feed.ended is not None or session is None:
        return False
    session.cancel(feed.turn_id, stopped_error("by its caller"))
    return True


def rebuilt(rows: Sequence[bytes], ended: Ended) -> TurnFeed:
    """The feed of a turn that is over, made again from its transcript: one event for each message.

    The transcript does not say which calls of tools failed, so each is reported as completed. The text of the last
    answer is that of the end: it has what the gateway added, which is no part of the transcript.

    Args:
        rows: the turn's messages, as JSON: those that it began with, then answers and results of tools.
        ended: its end.
    """
    feed = TurnFeed(ended.turn_id, b"")
    messages = _after_the_question(rows)
    handed_over = {call["id"] for call in ended.tool_calls}
    last = _last_answer(messages, handed_over)
    if ended.text and last is None:  # of a stateless turn only the end is kept
        last = {"role": "assistant", REASONING: ended.reasoning}
        messages.append(last)
    tools: dict[str, str] = {}  # by id of the call
    for message in messages:
        if message["role"] == "assistant":
            text = ended.text if ended.text and message is last else _text(message.get("content"))
            calls = [call for call in message.get("tool_calls") or () if call["id"] not in handed_over]
            tools |= {call["id"]: call["function"]["name"] for call in calls}
            _answer(feed, message.get(REASONING), text, calls)
        elif (call_id := message.get("tool_call_id")) in tools:
            feed.tool(call_id, tools[call_id], "completed")
    feed.end(ended)
    return feed


def _after_the_question(rows: Sequence[bytes]) -> list[dict[str, Any]]:
    """What follows the last message of a person: a prompt of a tool server may bring several, and sample answers."""
    messages = [shown(orjson.loads(row)) for row in rows]
    asked = max((at for at, message in enumerate(messages) if message["role"] == "user"), default=-1)
    return messages[asked + 1 :]


def _last_answer(messages: Sequence[dict[str, Any]], handed_over: Collection[str]) -> dict[str, Any] | None:
    """The answer that ended the turn: its last message, or the one that left calls to the client."""
    message: dict[str, Any]
    for message in reversed(messages):
        calls = message.get("tool_calls") or ()
        if message["role"] == "assistant" and (not calls or any(call["id"] in handed_over for call in calls)):
            return message
        if not handed_over:
            break
    return None


def _answer(feed: TurnFeed, thoughts: str | None, text: str, calls: Iterable[dict[str, Any]]) -> None:
    feed.begin_answer()
    if thoughts:
        feed.reasoning(thoughts)
    if text:
        feed.text(text)
    for call in calls:
        feed.tool(call["id"], call["function"]["name"], "running")


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type") == "text")
    return content or ""
