"""What people read of a session: how it stands, and what was said in it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import orjson

from hermes_actors.wire.refusals import RefusalCode
from workers.gateway import SessionView, TranscriptPage
from workers.models.attached import shown
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.residents import Residents
from workers.store.shard import Summary
from workers.turns import Refusal

MAX_PAGE_BYTES = 4 * 1024 * 1024  # of messages in one page of a transcript, when there are several


async def describe(sessions: Residents, key: str, shard: OwnedShard) -> SessionView:
    """How a session is; of a passivated one only what is on disk.

    Raises:
        Refusal: ``session_not_found``.
        StoreFailed: the disk does not answer.
    """
    resident, store = sessions.get(key), shard.store
    turns = await store.counts(key)
    try:
        summary = await store.summary(await sessions.session_id(key, shard))
    except Refusal as refusal:
        if refusal.code == RefusalCode.SESSION_NOT_FOUND and resident is None and not any(turns.values()):
            raise  # else the registry does not answer, or knows it no more: the rest is still worth telling
        summary = None
    title = (await store.titles([key])).get(key)
    view: SessionView = {
        "key": key,
        "state": "passivated",
        "title": title,
        "running": None,
        "turns": turns,
        "summary": _summarised(summary),
    }
    if resident is not None:
        view["state"] = "busy" if resident.busy else "idle"
        running = resident.mailbox.running
        view["running"] = running.turn_id if running is not None and running.is_turn else None
        if resident.ready is None:
            session = resident.session
            view["session_id"], view["model"] = session.session_id, session.model
            view["marks"] = asdict(session.marks)
    return view


def _summarised(summary: Summary | None) -> dict[str, Any] | None:
    """How much of a conversation its model gets as a summary, and since when in seconds since the epoch, if it does."""
    return None if summary is None else {"turns": summary.turns, "made_at": summary.made_at}


async def page(sessions: Residents, key: str, shard: OwnedShard, after: int, limit: int) -> TranscriptPage:
    """A page of a session's transcript, oldest first, and the cursor of the next; large messages make it shorter.

    Raises:
        Refusal: ``session_not_found``.
        StoreFailed: the disk does not answer.
    """
    rows = await shard.store.page(await sessions.session_id(key, shard), after, limit + 1)
    messages: list[dict[str, Any]] = []
    size = 0
    for row in rows[:limit]:
        size += len(row.body)
        if messages and size > MAX_PAGE_BYTES:
            break
        messages.append({"seq": row.seq, "turn_id": row.turn_id, "message": shown(orjson.loads(row.body))})
    return {"messages": messages, "next": messages[-1]["seq"] if len(rows) > len(messages) else None}
