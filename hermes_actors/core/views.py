"""What operators see, as plain data (hermes_actors.control.messages)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hermes_actors.core.model import Owner, SessionEntry, State, Worker


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
    }


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


def session_line(entry: SessionEntry, owners: tuple[Owner, ...], up: tuple[int, ...]) -> dict[str, Any]:
    """A session as operators see it in a list."""
    slot = owners[entry.shard].slot
    return {
        "key": entry.key,
        "session_id": entry.session_id,
        "worker": slot,
        "state": "available" if slot in up else "unavailable",
        "created_at": entry.created_at,
        "last_active_at": entry.last_active_at,
    }


def session_shown(
    entry: SessionEntry, owners: tuple[Owner, ...], up: tuple[int, ...], known: Mapping[str, Any]
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
    return {**session_line(entry, owners, up), "mcp": [], "turns": {}, **told, "actor": actor}
