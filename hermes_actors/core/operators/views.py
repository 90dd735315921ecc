"""The state and sessions as operators see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hermes_actors.core.sessions.marks import Standing
from hermes_actors.core.state import DrainInProgress, Owner, SessionEntry, Slot, State
from hermes_actors.operations.plain import parts
from hermes_actors.operations.results import (
    ActorShown,
    BrokenShard,
    DrainFacts,
    DrainShown,
    MarksShown,
    Phase,
    RunningTurn,
    SessionLine,
    SessionShown,
    Shards,
    Status,
    StoredFacts,
    WorkerShown,
)
from hermes_actors.operations.workers import SessionKnown

MOST_TURNS = 200  # shown of a drain, the oldest; all are counted

_NO_DRAIN = DrainFacts(then=None, by=None, asker=None, began_at=None, deadline_at=None, left_s=None)


def status(state: State, stored: StoredFacts, now: float) -> Status:
    """The status, from the state and the records."""
    broken = tuple(
        BrokenShard(shard=shard, why=fault.why, set_aside=fault.set_aside, serving=fault.serving)
        for shard, fault in sorted(state.broken.items())
    )
    return Status(
        **parts(stored),
        phase=state.phase,
        workers=tuple(_worker(state, worker, now) for worker in state.workers),
        shards=Shards(total=len(state.owners), broken=broken),
        preparing=state.preparation is not None,
        drain=None if state.drain is None else _facts(state, state.drain, now),
    )


def drain_shown(
    state: State, turns: Sequence[RunningTurn], queued: int, missing: tuple[int, ...], now: float
) -> DrainShown:
    """How far the drain is; without one, what runs."""
    return DrainShown(
        **parts(_NO_DRAIN if state.drain is None else _facts(state, state.drain, now)),
        phase=state.phase,
        preparing=state.preparation is not None,
        turns=tuple(replace(turn, usual_s=None) for turn in turns[:MOST_TURNS]),
        count=len(turns),
        queued=queued,
        missing=missing,
    )


def _facts(state: State, drain: DrainInProgress, now: float) -> DrainFacts:
    over = state.phase in (Phase.STOPPING, Phase.STOPPED)  # it waits for no turn any more
    return DrainFacts(
        then=drain.then,
        by=drain.by,
        asker=drain.asker,
        began_at=state.wall(drain.began_at),
        deadline_at=state.wall(drain.deadline),
        left_s=None if over else round(max(0.0, drain.deadline - now), 3),
    )


def _worker(state: State, worker: Slot, now: float) -> WorkerShown:
    return WorkerShown(
        slot=worker.slot,
        generation=worker.generation,
        pid=worker.pid,
        state=worker.state,
        shards=tuple(state.shards_of(worker.slot)),
        resident=worker.load.resident,
        running=worker.load.running,
        queued=worker.load.queued,
        turns=worker.load.turns,
        mcp=worker.load.mcp,
        heartbeat_age_s=None if worker.ready_at is None else round(now - worker.heard_at, 3),
        restarts=max(0, worker.generation - 1),
        last_exit=worker.last_exit,
    )


def session_line(entry: SessionEntry, owners: tuple[Owner, ...], up: tuple[int, ...], strikes: int) -> SessionLine:
    """A session in a list."""
    slot = owners[entry.shard].slot
    standing = entry.marks.standing
    return SessionLine(
        key=entry.key,
        session_id=entry.session_id,
        worker=slot,
        state="available" if slot in up else "unavailable",
        suspended=standing is Standing.SUSPENDED,
        resume_pending=standing is Standing.RESUME_PENDING,
        resume_reason=entry.marks.reason if standing is Standing.RESUME_PENDING else None,
        strikes=strikes,
        created_at=entry.created_at,
        last_active_at=entry.last_active_at,
    )


def session_shown(
    entry: SessionEntry, owners: tuple[Owner, ...], up: tuple[int, ...], strikes: int, known: SessionKnown | None
) -> SessionShown:
    """A session with all that is known of it. ``known``: by its worker; None where no worker responded."""
    line = session_line(entry, owners, up, strikes)
    if known is not None:
        line = replace(line, state=known.state, session_id=known.session_id or line.session_id)
    actor, marks = entry.actor, entry.marks
    return SessionShown(
        **parts(line),
        mcp=() if known is None else known.mcp,
        turns={} if known is None else known.turns,
        actor=ActorShown(
            generation=actor.generation,
            restarts=actor.restarts,
            last_restart_reason=actor.last_restart_reason,
            last_restart_at=actor.last_restart_at,
        ),
        marks=MarksShown(
            standing=marks.standing.value,
            reason=marks.reason,
            at=marks.at,
            turn_id=marks.turn_id,
            former_id=marks.former_id,
        ),
        model=None if known is None else known.model,
        summary=None if known is None else known.summary,
    )
