"""What is measured: each measurement is a function of the stage that gives figures.

docs/howto/measure.md says what they mean.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict
from operator import attrgetter, methodcaller

from scaling import recovery
from scaling.failures import failing, failure, fallback, flapping, hung
from scaling.figures import Figure, Limit, Spread, compared
from scaling.load import LOAD
from scaling.processes import cpu_between, cpu_by_pid, pss_mib
from scaling.restarts import cuts, restart, start
from scaling.stage import IN_FLIGHT, MODEL, SERVED, WORKERS, Phase, PhaseFailed, Stage, Target, spread

Measurement = Callable[[Stage], Iterator[Figure]]

FULL_HOUSE = 10_000  # sessions that the memory figure is told for
STREAM_TOKENS = 20
RECOVERING_SESSIONS = 32
REPORTED_S = 30.0  # until all resident sessions are: heartbeats tell of them


def throughput(stage: Stage) -> Iterator[Figure]:
    """Stateful turns at 64 in flight."""
    plan = stage.plan(concurrency=IN_FLIGHT)
    with stage.floor(WORKERS) as floor, stage.gateway(workers=WORKERS) as gateway:
        phases = stage.rounds({"floor": (floor, plan), "gateway": (gateway, plan)})
    yield from _flow("turn", phases, target=Limit("at least", 0.35), budget=Limit("at least", 0.5))


def _flow(
    turn: str, phases: dict[str, list[Phase]], *, target: Limit | None = None, budget: Limit | None = None
) -> Iterator[Figure]:
    """Rate, latencies and costs of a loaded gateway beside the floor; ``turn`` says what a turn is called."""

    def pair(read: Callable[[Phase], float]) -> tuple[Spread, Spread]:
        return spread(phases["gateway"], read), spread(phases["floor"], read)

    rates = pair(attrgetter("turns_per_s"))
    yield compared(f"{turn}s, {IN_FLIGHT} in flight", "/s", *rates, target=target, budget=budget)
    for share in (0.5, 0.95, 0.99):
        yield compared(f"{turn} p{share * 100:.0f}", "ms", *pair(methodcaller("latency_ms", share)))
    yield compared(f"CPU of a {turn}", "ms", *pair(methodcaller("cpu_ms", SERVED)))
    for of in (MODEL, LOAD):
        yield compared(f"CPU of a {turn}, {of}", "ms", *pair(methodcaller("cpu_ms", of)))


def latency(stage: Stage) -> Iterator[Figure]:
    """What is added to a call of the model server, one turn at a time."""
    plan = stage.plan()
    with stage.floor(WORKERS) as floor, stage.gateway(workers=WORKERS) as gateway:
        phases = stage.rounds({"direct": (stage.model, plan), "floor": (floor, plan), "gateway": (gateway, plan)})
    limits = {0.5: (Limit("at most", 3.0), Limit("at most", 2.0))}
    for share in (0.5, 0.95):
        took = {name: spread(of, methodcaller("latency_ms", share)) for name, of in phases.items()}
        yield _added(f"added p{share * 100:.0f}, one at a time", took, *limits.get(share, (None, None)))


def _added(name: str, took: dict[str, Spread], target: Limit | None = None, budget: Limit | None = None) -> Figure:
    """What gateway and floor add to a direct call; judged as it is, in milliseconds."""
    added, floor_added = (took[name].minus(took["direct"]) for name in ("gateway", "floor"))
    return Figure(
        name=name,
        unit="ms",
        value=added,
        baseline=floor_added,
        ratio=added.over(floor_added),
        target=target,
        budget=budget,
    )


def streaming(stage: Stage) -> Iterator[Figure]:
    """Streams of 20 tokens: their rate, and when the first token comes."""
    burst = stage.plan(concurrency=IN_FLIGHT, stream=True, message=f"[[tokens:{STREAM_TOKENS}]]")
    paced = stage.plan(stream=True, message=f"[[tokens:{STREAM_TOKENS}:1]]")
    with stage.floor(WORKERS) as floor, stage.gateway(workers=WORKERS) as gateway:
        flow = stage.rounds({"floor": (floor, burst), "gateway": (gateway, burst)})
        pace = stage.rounds({"direct": (stage.model, paced), "floor": (floor, paced), "gateway": (gateway, paced)})
    yield from _flow("stream", flow)
    for share in (0.5, 0.95):
        took = {name: spread(of, methodcaller("first_token_ms", share)) for name, of in pace.items()}
        yield _added(f"first token, added p{share * 100:.0f}", took)


def workers(stage: Stage) -> Iterator[Figure]:
    """What four workers cost a turn beside one."""
    plan = stage.plan(concurrency=IN_FLIGHT)
    with stage.gateway(workers=1) as one, stage.gateway(workers=4) as four:
        phases = stage.rounds({"one": (one, plan), "four": (four, plan)})
    cpu = {name: spread(of, methodcaller("cpu_ms", SERVED)) for name, of in phases.items()}
    yield compared(
        "CPU of a turn with 4 workers",
        "ms",
        cpu["four"],
        cpu["one"],
        against="1 worker",
        budget=Limit("at most", 1.15),
    )


def memory(stage: Stage) -> Iterator[Figure]:
    """What resident idle sessions take."""
    count = stage.effort.resident
    roomy = {"sessions": {"max_resident_per_worker": 2 * FULL_HOUSE, "idle_ttl_seconds": 86_400.0}}
    with stage.gateway(workers=WORKERS, sections=roomy) as gateway:
        stage.settle()
        empty = pss_mib(gateway.roots[0])
        stage.drive(gateway, stage.plan(concurrency=IN_FLIGHT, turns_per_session=1, sessions=count, seconds=120.0))
        _await_resident(stage, gateway, count)
        full = pss_mib(gateway.roots[0])
    yield Figure(
        name=f"{FULL_HOUSE:,} idle sessions, above empty" + ("" if count == FULL_HOUSE else f" (from {count:,})"),
        unit="MiB",
        value=Spread(((full - empty) * FULL_HOUSE / count,)),
        target=Limit("at most", 250.0),
        budget=Limit("at most", 150.0),
    )


def _await_resident(stage: Stage, gateway: Target, expected: int) -> None:
    """Wait until the workers' heartbeats have told that all sessions are in memory.

    Raises:
        PhaseFailed: they are not.
    """
    deadline = time.monotonic() + REPORTED_S
    while True:
        stage.settle()
        resident = sum(int(worker["resident"]) for worker in stage.ctl(gateway, "status")["workers"])
        if resident >= expected:
            return
        if time.monotonic() > deadline:
            raise PhaseFailed(f"only {resident:,} of {expected:,} sessions are in memory")


def idle(stage: Stage) -> Iterator[Figure]:
    """What a gateway costs that nobody uses."""
    with stage.gateway(workers=WORKERS) as gateway:
        stage.settle()
        stage.say(f"watching an idle gateway for {stage.effort.idle_s:.0f} s")
        before, began = cpu_by_pid(gateway.roots), time.monotonic()
        time.sleep(stage.effort.idle_s)
        cpu_s, seconds = cpu_between(before, cpu_by_pid(gateway.roots)), time.monotonic() - began
        mib = pss_mib(gateway.roots[0])
    share = Spread((100 * cpu_s / seconds,))
    yield Figure(name="idle CPU", unit="% of a core", value=share, budget=Limit("at most", 0.5))
    yield Figure(name="idle memory", unit="MiB", value=Spread((mib,)), budget=Limit("at most", 150.0))


def recover(stage: Stage) -> Iterator[Figure]:
    """A worker killed with SIGKILL: when its sessions answer again. Each worker of a life dies once."""
    took, refused = [], 0
    for _ in range(stage.effort.lives):
        with stage.gateway(workers=WORKERS) as gateway:
            for worker in stage.ctl(gateway, "status")["workers"]:
                stage.say(f"killing worker {worker['slot']}")
                plan = recovery.Plan(
                    url=gateway.url,
                    token=str(gateway.token),
                    sessions=[f"recover-{uuid.uuid4().hex[:8]}" for _ in range(RECOVERING_SESSIONS)],
                    kill=worker["pid"],
                )
                outcome = stage.instrument("scaling.recovery", asdict(plan), 3 * recovery.RECOVER_S)
                took.append(max(outcome["answered_ms"]))
                refused += outcome["refused_connections"]
    yield Figure(
        name="worker killed until its sessions answer",
        unit="ms",
        value=Spread(tuple(took)),
        target=Limit("at most", 500.0),
        budget=Limit("at most", 500.0),
    )
    yield Figure(name="connections refused meanwhile", unit="", value=Spread((refused,)))


MEASUREMENTS: dict[str, Measurement] = {
    measure.__name__: measure
    for measure in (
        throughput,
        latency,
        streaming,
        failure,
        failing,
        fallback,
        flapping,
        hung,
        workers,
        memory,
        idle,
        recover,
        cuts,
        restart,
        start,
    )
}
