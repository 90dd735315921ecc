"""What operators see, as plain data (hermes_actors.operators.messages)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hermes_actors.core.drain.plan import RunningTurn
from hermes_actors.core.sessions.marks import Standing
from hermes_actors.core.state import Drain, Owner, Phase, SessionEntry, State, Worker

DRAIN_FIELDS = ("then", "by", "asker", "began_at", "deadline_at", "left_s")
MOST_TURNS = 200  # shown of a drain, the oldest; all are counted


def status(state: State, now: float) -> dict[str, Any]:
    """The part of the status that the state knows."""
    broken = [
        {"shard": shard, "why": fault.why, "set_aside": fault.set_aside, "serving": fault.serving}
        for shard, fault in sorted(state.broken.items())
    ]
    return {
        "phase": state.phase.value,
        "workers": [_worker_line(state, worker, now) for worker in state.workers],
        "shards": {"total": len(state.owners), "broken": broken},
        "preparing": state.preparation is not None,
        "drain": None if state.drain is None else _drain_line(state, state.drain, now),
    }


def drain_shown(state: State, turns: Sequence[RunningTurn], queued: int, now: float) -> dict[str, Any]:
    """How far the drain is; without one, what runs all the same."""
    line = dict.fromkeys(DRAIN_FIELDS) if state.drain is None else _drain_line(state, state.drain, now)
    lines = [
        {
            "worker": turn.worker,
            "key": turn.key,
            "turn_id": turn.turn_id,
            "started_at": turn.started_at,
            "stateless": turn.stateless,
        }
        for turn in turns[:MOST_TURNS]
    ]
    known = {"phase": state.phase.value, "preparing": state.preparation is not None, **line}
    return {**known, "turns": lines, "count": len(turns), "queued": queued}


def _drain_line(state: State, drain: Drain, now: float) -> dict[str, Any]:
    over = state.phase in (Phase.STOPPING, Phase.STOPPED)  # nothing is waited for any more
    left_s = None if over else round(max(0.0, drain.deadline - now), 3)
    times = (state.wall(drain.began_at), state.wall(drain.deadline), left_s)
    return dict(zip(DRAIN_FIELDS, (drain.then.value, drain.by, drain.asker, *times), strict=True))


def _worker_line(state: State, worker: Worker, now: float) -> dict[str, Any]:
    load = worker.load
    return {
        "slot": worker.slot,
        "generation": worker.generation,
        "pid": worker.pid,
        "state": worker.state.value,
        "shards": list(state.shards_of(worker.slot)),
        "resident": load.resident,
        "running": load.running,
        "queued": load.queued,
        "turns": load.turns,
        "mcp": load.mcp,
        "heartbeat_age_s": None if worker.ready_at is None else round(now - worker.heard_at, 3),
        "restarts": max(0, worker.generation - 1),
        "last_exit": worker.last_exit,
    }


def session_line(entry: SessionEntry, owners: tuple[Owner, ...], up: tuple[int, ...], strikes: int) -> dict[str, Any]:
    """A session as operators see it in a list."""
    slot = owners[entry.shard].slot
    standing = entry.marks.standing
    return {
        "key": entry.key,
        "session_id": entry.session_id,
        "worker": slot,
        "state": "available" if slot in up else "unavailable",
        "suspended": standing is Standing.SUSPENDED,
        "resume_pending": standing is Standing.RESUME_PENDING,
        "resume_reason": entry.marks.reason if standing is Standing.RESUME_PENDING else None,
        "strikes": strikes,
        "created_at": entry.created_at,
        "last_active_at": entry.last_active_at,
    }


def session_shown(
    entry: SessionEntry, owners: tuple[Owner, ...], up: tuple[int, ...], strikes: int, known: Mapping[str, Any]
) -> dict[str, Any]:
    """A session with all that is known of it; ``known``: by its worker, None where that knows nothing."""
    told = {name: value for name, value in known.items() if value is not None}
    actor = {
        **told.get("actor", {}),
        "generation": entry.actor.generation,
        "restarts": entry.actor.restarts,
        "last_restart_reason": entry.actor.last_restart_reason,
        "last_restart_at": entry.actor.last_restart_at,
    }
    marks = {
        "standing": entry.marks.standing.value,
        "reason": entry.marks.reason,
        "at": entry.marks.at,
        "turn_id": entry.marks.turn_id,
        "former_id": entry.marks.former_id,
    }
    line = session_line(entry, owners, up, strikes)
    return {**line, "mcp": [], "turns": {}, **told, "actor": actor, "marks": marks}
