"""What failures cost: of models, of tool servers. Each measurement is a function of the stage that gives figures.

docs/howto/measure.md says what they mean.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from operator import attrgetter, methodcaller
from typing import Any

from fakes.mcp_counting import Counting
from scaling import hanging
from scaling.figures import Figure, Limit, Spread, compared
from scaling.load import TOOLS
from scaling.stage import IN_FLIGHT, MODEL, SERVED, WORKERS, Phase, PhaseFailed, Stage, Target, spread

NO_MODEL = "ping [[http:400]]"  # no provider knows the model: the founding incident
NO_PRIMARY = "ping [[http:400:ok]]"  # the fallback does
FAILED = 400
FAILING_TURNS = 200
SERVERS = ("one", "two", "three")
CONNECTED, CONNECTED_NAME = 8, "connected"  # sessions with a server each, whose turns are compared
TURNS_EACH = 20  # of a comparison: histories stay short
FOR_EVER_S = 600
FLAPPING_LIMIT = Limit("at most", 5.0)  # percent of a core, of a gateway whose servers flap
ASKED_EVERY_S = 1.0  # a session whose server flaps
PACE_S = 0.2  # of a session beside one that hangs: the machine is busy, not swamped
START_S = 2.0  # of a load generator, at most
STOPPED_AFTER_S = 0.5  # a tool that hangs
LONGEST_S = 60.0  # of a phase that ends by its turns
ENDLESS = 1_000_000  # turns of a session, where the phase ends by its time


def failure(stage: Stage) -> Iterator[Figure]:
    """A turn that the model refuses with HTTP 400 beside one that succeeds."""
    good = stage.plan(concurrency=IN_FLIGHT)
    bad = stage.plan(concurrency=IN_FLIGHT, message=NO_MODEL, expect_status=FAILED)
    with stage.gateway(workers=WORKERS) as gateway:
        phases = stage.rounds({"good": (gateway, good), "bad": (gateway, bad)})
    yield _cpu("failed turn", phases["bad"], phases["good"], budget=Limit("at most", 1.25))


def _cpu(turn: str, phases: list[Phase], good: list[Phase], budget: Limit | None = None) -> Figure:
    read = methodcaller("cpu_ms", SERVED)
    value, baseline = spread(phases, read), spread(good, read)
    return compared(f"CPU of a {turn}", "ms", value, baseline, against="a good turn", budget=budget)


# -- tool servers ---------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def _with_tools(
    stage: Stage, names: Sequence[str], *, spare: bool = False, **settings: Any
) -> Iterator[tuple[Target, Counting]]:
    """A gateway with counting MCP servers of these names, and a fallback if there is to be a spare."""
    tools = Counting(stage.place("tools"))
    entry = tools.entry(**settings).model_dump(mode="json", exclude_unset=True)
    sections: dict[str, Any] = {"mcp_servers": dict.fromkeys(names, entry)}
    if spare:
        base_url = stage.model.url.removesuffix("/chat/completions")
        sections["fallback_providers"] = [{"provider": "custom", "model": "spare", "base_url": base_url}]
    with stage.gateway(workers=WORKERS, sections=sections, tool_servers=str(tools.directory)) as gateway:
        yield gateway, tools


def _call(server: str, tool: str, arguments: str = "{}") -> str:
    return f"[[tool:{server}__{tool}:{arguments}]]"


def _once(stage: Stage, gateway: Target, name: str, message: str, *, sessions: int = 1) -> None:
    """Send one message to each of the sessions of a name."""
    stage.drive(
        gateway,
        stage.plan(
            concurrency=sessions, sessions=sessions, named=name, message=message, turns_per_session=1, turn_s=LONGEST_S
        ),
    )


def _tally(stage: Stage, gateway: Target, tools: Counting, sessions: Sequence[str]) -> Counter[str]:
    """What has happened so far."""
    shown = [stage.ctl(gateway, "sessions", "show", f"api:default:{session}") for session in sessions]
    return Counter(
        {
            "MCP starts": len(tools.starts),
            "actor restarts": sum(session["actor"]["restarts"] for session in shown),
            "model requests": sum(stage.model_requests().values()),
        }
    )


def _since(before: Counter[str], after: Counter[str]) -> dict[str, int]:
    return {what: after[what] - before[what] for what in after}


def _count(name: str, unit: str, count: float, target: float | None = None) -> Figure:
    limit = None if target is None else Limit("at most", target)
    return Figure(name=name, unit=unit, value=Spread((count,)), target=limit)


# -- models that fail -----------------------------------------------------------------------------------------------
def failing(stage: Stage) -> Iterator[Figure]:
    """Hundreds of failing turns in a session with three MCP servers, without and with a fallback that fails too."""
    with _with_tools(stage, SERVERS) as (gateway, tools):
        yield from _failing(stage, gateway, tools, "failing turns", providers=1)
        yield from _cpu_connected(stage, gateway)
    with _with_tools(stage, SERVERS, spare=True) as (gateway, tools):
        yield from _failing(stage, gateway, tools, "turns failing on both", providers=2)


def _failing(stage: Stage, gateway: Target, tools: Counting, turns: str, *, providers: int) -> Iterator[Figure]:
    use_tools = " ".join(_call(server, "pid") for server in SERVERS)
    _once(stage, gateway, "failing", use_tools)
    before = _tally(stage, gateway, tools, ["failing-0"])
    if before["MCP starts"] != len(SERVERS):
        raise PhaseFailed(f"{before['MCP starts']} MCP servers were started by a turn that calls {len(SERVERS)}")
    bad = {"message": NO_MODEL, "expect_status": FAILED, "turns_per_session": FAILING_TURNS}
    stage.drive(gateway, stage.plan(named="failing", sessions=1, seconds=LONGEST_S, **bad))
    after = _tally(stage, gateway, tools, ["failing-0"])
    _once(stage, gateway, "failing", use_tools)  # what the failures broke would be made again now
    counted = _since(before, _tally(stage, gateway, tools, ["failing-0"]))
    asked = _since(before, after)["model requests"] / FAILING_TURNS
    yield _count(f"{FAILING_TURNS} {turns}: MCP starts", "starts", counted["MCP starts"], 0)
    yield _count(f"{FAILING_TURNS} {turns}: actor restarts", "restarts", counted["actor restarts"], 0)
    yield _count(f"{FAILING_TURNS} {turns}: requests a turn", "requests", asked, providers)


def _cpu_connected(stage: Stage, gateway: Target) -> Iterator[Figure]:
    """A failed turn beside a good one, in sessions that are connected to a tool server."""
    bad = {"message": NO_MODEL, "expect_status": FAILED}
    phases = _alternate(stage, gateway, {"bad": bad, "good": {}}, concurrency=CONNECTED)
    yield _cpu("failed turn, with MCP", phases["bad"], phases["good"], budget=Limit("at most", 1.25))


def _alternate(
    stage: Stage, gateway: Target, turns: dict[str, dict[str, Any]], *, concurrency: int
) -> dict[str, list[Phase]]:
    """Drive connected sessions with one kind of turns and the other, A B A B, each time from a fresh conversation."""
    _once(stage, gateway, CONNECTED_NAME, _call("one", "pid"), sessions=CONNECTED)
    phases: dict[str, list[Phase]] = {kind: [] for kind in turns}
    for _ in range(stage.effort.rounds):
        for kind, plan in turns.items():
            _once(stage, gateway, CONNECTED_NAME, "/reset", sessions=CONNECTED)
            whole = {"sessions": CONNECTED, "turns_per_session": TURNS_EACH, "seconds": LONGEST_S}
            phases[kind].append(
                stage.drive(gateway, stage.plan(named=CONNECTED_NAME, concurrency=concurrency, **whole, **plan))
            )
    return phases


def fallback(stage: Stage) -> Iterator[Figure]:
    """A turn that succeeds on a fallback, and the restart of its actor that follows, beside a turn on the primary."""
    sessions = [f"{CONNECTED_NAME}-{number}" for number in range(CONNECTED)]
    with _with_tools(stage, ["one"], spare=True) as (gateway, tools):
        phases = _alternate(stage, gateway, {"fallback": {"message": NO_PRIMARY}, "good": {}}, concurrency=1)
        before = _tally(stage, gateway, tools, sessions)
        _once(stage, gateway, CONNECTED_NAME, NO_PRIMARY, sessions=CONNECTED)
        _once(stage, gateway, CONNECTED_NAME, _call("one", "pid"), sessions=CONNECTED)
        counted = _tally(stage, gateway, tools, sessions)
    yield _cpu("turn on a fallback", phases["fallback"], phases["good"])
    took = {kind: spread(of, methodcaller("latency_ms", 0.5)) for kind, of in phases.items()}
    yield compared("turn on a fallback p50", "ms", took["fallback"], took["good"], against="a good turn")
    restarts = _since(before, counted)["actor restarts"] / CONNECTED
    yield _count("restarts by a turn on a fallback", "restarts", restarts, 1)
    yield _count("MCP starts by all of them", "starts", counted["MCP starts"] - CONNECTED, 0)


# -- tool servers that fail -----------------------------------------------------------------------------------------
def flapping(stage: Stage) -> Iterator[Figure]:
    """Sessions whose MCP servers die on each call, beside as many whose servers work; at first, and later."""
    flapping, starts = _paced_calls(stage, "crash", "{}")
    working, _ = _paced_calls(stage, "echo", '{"text":"ping"}')
    all_of_them = f"{stage.effort.flapping} servers flap"

    def beside(name: str, unit: str, read: Callable[[Phase], float], target: Limit | None = None) -> Figure:
        value, baseline = spread(flapping, read), spread(working, read)
        ratio = value.over(baseline)
        return Figure(
            name=f"{all_of_them}: {name}",
            unit=unit,
            value=value,
            baseline=baseline,
            against="none flaps",
            ratio=ratio,
            target=target,
        )

    yield beside("gateway", "% of a core", _percent(SERVED), FLAPPING_LIMIT)
    yield Figure(
        name=f"{all_of_them}: beyond such turns",
        unit="% of a core",
        value=Spread(tuple(_beyond(bad, good) for bad, good in zip(flapping, working, strict=True))),
        target=FLAPPING_LIMIT,
    )
    yield beside(TOOLS, "% of a core", _percent(TOOLS))
    yield beside(MODEL, "% of a core", _percent(MODEL))
    yield beside("turns", "/s", attrgetter("turns_per_s"))
    yield beside("p50 of a turn", "ms", methodcaller("latency_ms", 0.5))
    yield _count(f"{all_of_them}: MCP starts", "starts", starts)


def _beyond(flapping: Phase, working: Phase) -> float:
    """CPU of the gateway, in percent of one core, less what so many turns with servers that work cost."""
    return _percent(SERVED)(flapping) - working.cpu_ms(SERVED) * flapping.turns_per_s / 10


def _percent(of: str) -> Callable[[Phase], float]:
    """CPU in percent of one core."""
    return lambda phase: 100 * phase.outcome.cpu_s[of] / phase.outcome.seconds


def _paced_calls(stage: Stage, tool: str, arguments: str) -> tuple[list[Phase], int]:
    """Two phases in which sessions call a tool of their connected servers all the time; how many were started anew."""
    plan = stage.plan(
        concurrency=stage.effort.flapping,
        named="paced",
        message=_call("one", tool, arguments),
        turns_per_session=ENDLESS,
        pace_s=ASKED_EVERY_S,
        warm_up_s=0.0,
        seconds=stage.effort.flapping_s,
        turn_s=LONGEST_S,  # servers come up a few at a time
    )
    with _with_tools(stage, ["one"]) as (gateway, tools):
        _once(stage, gateway, "paced", _call("one", "pid"), sessions=plan.concurrency)
        return [stage.drive(gateway, plan) for _ in range(2)], len(tools.starts) - plan.concurrency


def hung(stage: Stage) -> Iterator[Figure]:
    """Sessions beside one whose tool hangs, and beside one whose tool is stopped and asked for again, all the time."""
    plan = stage.plan(concurrency=IN_FLIGHT, pace_s=PACE_S)
    phases: dict[str, list[Phase]] = {name: [] for name in ("quiet", "hanging", "quiet again", "stopped")}
    length_s = plan.warm_up_s + plan.seconds + START_S
    stopped_ms: list[float] = []
    with _with_tools(stage, ["one"], timeout=float(FOR_EVER_S)) as (gateway, tools):
        _once(stage, gateway, "hanging", "ping", sessions=2 * WORKERS)  # each worker learns the server's tools
        for _ in range(stage.effort.rounds):
            phases["quiet"].append(stage.drive(gateway, plan))
            with _hanging(stage, gateway, tools, length_s, length_s):
                phases["hanging"].append(stage.drive(gateway, plan, beside="a tool hangs"))
            phases["quiet again"].append(stage.drive(gateway, plan))
            with _hanging(stage, gateway, tools, STOPPED_AFTER_S, length_s) as nuisance:
                phases["stopped"].append(stage.drive(gateway, plan, beside="a tool hangs, is stopped, hangs again"))
            stopped_ms += nuisance.result()["stopped_ms"]
    took = {name: spread(of, methodcaller("latency_ms", 0.99)) for name, of in phases.items()}
    itself = took["quiet again"].over(took["quiet"])
    noise = Limit("at most", round(max(itself.high, 1 / itself.low), 2))  # more than that can be measured
    of = f"p99 of {IN_FLIGHT} sessions"
    yield compared(f"{of}, a tool hangs", "ms", took["hanging"], took["quiet"], against="none", target=noise)
    yield compared(
        f"{of}, it is stopped and asked", "ms", took["stopped"], took["quiet again"], against="none", target=noise
    )
    yield compared(f"{of}, none and again none", "ms", took["quiet again"], took["quiet"], against="none")
    yield Figure(
        name="servers of the tool that is stopped", unit="% of a core", value=spread(phases["stopped"], _percent(TOOLS))
    )
    yield Figure(name="/stop until its turn is answered", unit="ms", value=Spread(tuple(stopped_ms)))


@contextlib.contextmanager
def _hanging(
    stage: Stage, gateway: Target, tools: Counting, hang_s: float, seconds: float
) -> Iterator[Future[dict[str, Any]]]:
    """Meanwhile, a tool of one more session hangs; it does when the block begins."""
    plan = hanging.Plan(
        url=gateway.url,
        token=str(gateway.token),
        session="hanging-0",
        message=_call("one", "sleep", f'{{"seconds":{FOR_EVER_S}}}'),
        calls=str(tools.directory / "calls"),
        hang_s=hang_s,
        seconds=seconds,
    )
    with ThreadPoolExecutor(1) as pool:
        before = len(tools.calls)
        nuisance = pool.submit(
            stage.instrument, "scaling.hanging", asdict(plan), seconds + hang_s + 3 * hanging.REACTION_S
        )
        while len(tools.calls) == before and not nuisance.done():
            time.sleep(hanging.POLL_S)
        yield nuisance
        nuisance.result()
