"""What a planned stop, restart and start cost: marks of many turns, callers meanwhile, a registry of many sessions."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from scaling import cutting, restarting
from scaling.figures import Figure, Limit, Spread
from scaling.stage import WORKERS, PhaseFailed, Stage

from hermes_actors.core.sessions.ids import session_id
from hermes_actors.core.state import SessionEntry
from hermes_actors.home import Home
from hermes_actors.pool.cores import usable_cores, usual_shards
from hermes_actors.records.registry import Registry
from hermes_actors.wire.sharding import shard_of

LONGEST_S = 90.0  # of a round
ENDLESS = "[[slow:600000]]"
REQUESTS_PER_S = 200.0  # beside a restart


def cuts(stage: Stage) -> Iterator[Figure]:
    """Many turns run at the deadline of a drain: until their marks and strikes are on disk."""
    turns = stage.effort.running
    took = []
    for _ in range(stage.effort.lives):
        with stage.gateway(workers=WORKERS) as gateway:
            assert gateway.token is not None
            stage.say(f"gateway: {turns} turns run, and are cut")
            plan = cutting.Plan(
                url=gateway.url, token=gateway.token, home=str(gateway.home), turns=turns, message=ENDLESS
            )
            outcome = cutting.Outcome(**stage.instrument("scaling.cutting", asdict(plan), LONGEST_S))
        if outcome.told != turns:
            raise PhaseFailed(f"{turns - outcome.told} of {turns} callers were not told that their turn was cut")
        took.append(outcome.durable_ms)
    yield Figure(
        name=f"{turns} turns are cut: marks on disk",
        unit="ms",
        value=Spread(tuple(took)),
        target=Limit("at most", 250.0),
        budget=Limit("at most", 250.0),
    )


def restart(stage: Stage) -> Iterator[Figure]:
    """A restart in place under a steady stream of requests: how long nobody is served, and who fails."""
    outcomes = []
    with stage.gateway(workers=WORKERS) as gateway:
        assert gateway.token is not None
        plan = restarting.Plan(url=gateway.url, token=gateway.token, home=str(gateway.home), per_second=REQUESTS_PER_S)
        for _ in range(stage.effort.lives):
            stage.say(f"gateway: restarts in place under {REQUESTS_PER_S:.0f} requests/s")
            outcomes.append(restarting.Outcome(**stage.instrument("scaling.restarting", asdict(plan), LONGEST_S)))
    yield Figure(
        name="restart in place: no turn is answered for",
        unit="ms",
        value=Spread(tuple(outcome.gap_ms for outcome in outcomes)),
        target=Limit("at most", 2000.0),
        budget=Limit("at most", 2000.0),
    )
    yield Figure(
        name="connections refused or cut meanwhile",
        unit="",
        value=Spread(tuple(float(outcome.refused + outcome.cut) for outcome in outcomes)),
        target=Limit("at most", 0.0),
        budget=Limit("at most", 0.0),
    )
    yield Figure(
        name="requests told that it drains",
        unit="",
        value=Spread(tuple(float(outcome.turned_away) for outcome in outcomes)),
    )


def start(stage: Stage) -> Iterator[Figure]:
    """From the command to a gateway that serves: an empty home, and one with many registered sessions."""
    sessions = stage.effort.registered
    stage.say(f"registering {sessions} sessions")
    template = stage.place("registered")
    register(template, sessions)
    took: dict[int, list[float]] = {0: [], sessions: []}
    for _ in range(stage.effort.rounds):
        for count, seconds in took.items():
            began = time.perf_counter()
            copying = 0.0

            def fill(home: Path, count: int = count) -> None:
                nonlocal copying
                before = time.perf_counter()
                if count:
                    shutil.copytree(template, home, dirs_exist_ok=True)
                copying = time.perf_counter() - before

            with stage.gateway(workers=WORKERS, fill=fill):
                seconds.append(time.perf_counter() - began - copying)
    empty, full = (Spread(tuple(seconds)) for seconds in took.values())
    yield Figure(
        name=f"start to ready, {sessions} sessions", unit="s", value=full, baseline=empty, against="an empty home"
    )
    yield Figure(
        name=f"{sessions} sessions add to a start",
        unit="s",
        value=full.minus(empty),
        target=Limit("at most", 0.5),
    )


def register(root: Path, sessions: int) -> None:
    """A home whose registry has so many sessions."""
    home = Home(root)
    home.make()
    shards = usual_shards(usable_cores())
    registry = Registry.open(home, shards=None, usual_shards=shards, durability="process")
    with contextlib.closing(registry):
        for number in range(sessions):
            key = f"api:default:registered-{number:07}"
            registry.write(
                SessionEntry(
                    key=key,
                    session_id=session_id(float(number), f"{number:020x}"),
                    principal="default",
                    shard=shard_of(key, shards),
                    created_at=float(number),
                    last_active_at=float(number),
                )
            )
        registry.commit()
