"""The turns that run in a worker, for the operator who wants to know how long a drain may take."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from statistics import median
from typing import Any

import structlog

from workers.sessions.agent import Resident
from workers.sessions.session import Session
from workers.store.shard import ShardStore, StoreFailed

log = structlog.get_logger(__name__)

USUAL_TURNS = 10  # of a session, that say how long its turns usually take


async def running_turns(residents: Iterable[Resident]) -> list[dict[str, Any]]:
    """The turns that run, the oldest first, as plain data.

    ``started_at`` is in seconds since the epoch; ``usual_s`` the median of how long the last turns of the session took
    that completed, None where there are none.
    """
    running = [
        (resident.session, work) for resident in residents for work in resident.mailbox.items.values() if work.begun
    ]
    usual = await _usual_s({session for session, _ in running if not session.stateless})
    turns = [
        {
            "key": session.key,
            "turn_id": work.turn_id,
            "started_at": work.since,
            "stateless": session.stateless,
            "usual_s": usual.get(session.key),
        }
        for session, work in running
    ]
    return sorted(turns, key=lambda turn: turn["started_at"])


async def _usual_s(sessions: Iterable[Session]) -> dict[str, float]:
    keys: defaultdict[ShardStore, list[str]] = defaultdict(list)
    for session in sessions:
        keys[session.store].append(session.key)
    answers = await asyncio.gather(*(_durations(store, of) for store, of in keys.items()))
    return {key: median(durations) for answer in answers for key, durations in answer.items() if durations}


async def _durations(store: ShardStore, keys: list[str]) -> dict[str, list[float]]:
    try:
        return await store.durations(keys, USUAL_TURNS)
    except StoreFailed as error:  # the answer has the turns without it
        log.warning("past turns not read", why=str(error))
        return {}
