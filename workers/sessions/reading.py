"""What people read of a session: how it stands, and what was said in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import orjson

from hermes_actors.wire.refusals import RefusalCode
from workers.gateway import SessionView, TranscriptPage
from workers.models.attached import shown
from workers.sessions.agent import Resident
from workers.store.shard import ShardStore, Summary
from workers.turns import Refusal

MAX_PAGE_BYTES = 4 * 1024 * 1024  # of messages in one page of a transcript, when there are several


async def describe(
    resident: Resident | None, key: str, store: ShardStore, session_id: Callable[[], Awaitable[str]]
) -> SessionView:
    """How a session is; of a passivated one only what is on disk.

    Args:
        resident: where it is in memory.
        key: of the session.
        store: of its shard.
        session_id: asks which transcript its key points to.

    Raises:
        Refusal: ``session_not_found``.
        StoreFailed: the disk does not answer.
    """
    turns = await store.counts(key)
    try:
        summary = await store.summary(await session_id())
    except Refusal as refusal:
        if refusal.code == RefusalCode.SESSION_NOT_FOUND and resident is None and not any(turns.values()):
            raise  # else the registry does not answer, or knows it no more: the rest is still worth telling
        summary = None
    view: SessionView = {"key": key, "state": "passivated", "turns": turns, "summary": _summarised(summary)}
    if resident is not None:
        view["state"] = "busy" if resident.busy else "idle"
        if resident.ready is None:
            session = resident.session
            view["session_id"], view["model"] = session.session_id, session.model
            view["marks"] = asdict(session.marks)
    return view


def _summarised(summary: Summary | None) -> dict[str, Any] | None:
    """How much of a conversation its model gets as a summary, and since when in seconds since the epoch, if it does."""
    return None if summary is None else {"turns": summary.turns, "made_at": summary.made_at}


async def page(store: ShardStore, session_id: str, after: int, limit: int) -> TranscriptPage:
    """A page of a transcript, oldest first, and the cursor of the next; large messages make it shorter.

    Raises:
        StoreFailed: the disk does not answer.
    """
    rows = await store.page(session_id, after, limit + 1)
    messages: list[dict[str, Any]] = []
    size = 0
    for row in rows[:limit]:
        size += len(row.body)
        if messages and size > MAX_PAGE_BYTES:
            break
        messages.append({"seq": row.seq, "turn_id": row.turn_id, "message": shown(orjson.loads(row.body))})
    return {"messages": messages, "next": messages[-1]["seq"] if len(rows) > len(messages) else None}
