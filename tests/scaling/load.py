"""The load generator: a process of its own, so that its CPU is accounted apart.

    python -m scaling.load < plan.json > outcome.json

Each of ``concurrency`` connections takes a session, runs its turns one after the other, and takes the next session:
a session never has two turns in flight. A turn counts when it ends between the end of the warm-up and the end of the
phase. Any answer that was not expected ends the phase: figures of a system that errs are worth nothing.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import orjson
import uvloop
from scaling.http1 import Answer, Connection, ConnectionClosed, completion_request
from scaling.model_server import FIRST_TOKEN
from scaling.processes import cpu_apart, cpu_between, cpu_by_pid, machine_busy_seconds

TURN_S = 30.0  # the longest that a turn takes
SHOWN_BYTES = 300  # of an answer that was not expected
LOAD, TOOLS = "load generator", "tool servers"  # whose CPU is accounted, besides those of `Plan.watch`


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One phase of load."""

    url: str  # of chat completions
    token: str | None = None
    stateful: bool = False  # name the session in X-Hermes-Session-Id
    message: str = "ping"
    stream: bool = False
    concurrency: int = 1
    turns_per_session: int = 10
    named: str = ""  # sessions are called so, with a number: the same as in another phase; none: new ones
    pace_s: float = 0.0  # from the start of a session's turn to that of its next, at least
    warm_up_s: float = 0.5
    seconds: float = 2.0
    turn_s: float = TURN_S  # the phase waits no longer beyond its time: every turn in flight has ended by then
    sessions: int | None = None  # that many sessions in full, without a warm-up; `seconds` bounds them
    expect_status: int = 200
    watch: dict[str, list[int]] = field(default_factory=dict)  # whose CPU is wanted: name -> roots of process trees
    tool_servers: str = ""  # in the command lines of MCP servers among the watched: their CPU is told apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a phase measured."""

    seconds: float
    latencies_ms: list[float]  # of every turn that counts, raw
    first_token_ms: list[float]  # of every streamed turn that counts
    cpu_s: dict[str, float]  # by name of `Plan.watch`, and LOAD, and TOOLS where they are told apart
    others_percent: float  # CPU of everything else on the machine meanwhile, in percent of one core
    steal_percent: float  # what the hypervisor took meanwhile, in percent of one core

    @property
    def turns(self) -> int:
        """The turns that count."""
        return len(self.latencies_ms)


class Unexpected(Exception):
    """The system under test did not answer as the plan expects."""


class Load:
    """A plan being carried out."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._sessions = self._names()
        self._over = False
        self._latencies_ms: list[float] = []
        self._first_token_ms: list[float] = []

    async def run(self) -> Outcome:
        """Carry the plan out.

        Raises:
            Unexpected: an answer was not as expected, or a connection was closed.
            TimeoutError: turns hung.
        """
        visits = [self._visit(number) for number in range(self._plan.concurrency)]
        async with asyncio.timeout(self._plan.warm_up_s + self._plan.seconds + self._plan.turn_s):
            if self._plan.sessions is None:
                window = asyncio.ensure_future(self._window())
                await asyncio.gather(window, *visits)
                before, after = window.result()
            else:
                before = self._look()
                await asyncio.gather(*visits)
                after = self._look()
        return _outcome(before, after, self._latencies_ms, self._first_token_ms)

    async def _window(self) -> tuple[_Look, _Look]:
        """From the end of the warm-up to the end of the phase."""
        await asyncio.sleep(self._plan.warm_up_s)
        self._latencies_ms.clear()
        self._first_token_ms.clear()
        before = self._look()
        await asyncio.sleep(self._plan.seconds)
        after = self._look()
        self._over = True
        return before, after

    def _names(self) -> Iterator[str]:
        name = self._plan.named or f"bench-{uuid.uuid4().hex[:8]}"
        numbers = itertools.count() if self._plan.sessions is None else range(self._plan.sessions)
        return (f"{name}-{number}" for number in numbers)

    async def _visit(self, number: int) -> None:
        plan = self._plan
        await asyncio.sleep(plan.pace_s * number / plan.concurrency)  # turns that are paced do not come all at once
        connection = await Connection.open(plan.url, FIRST_TOKEN.encode() if plan.stream else None)
        try:
            for session in self._sessions:
                named = session if plan.stateful else None
                request = completion_request(
                    plan.url, plan.message, token=plan.token, session=named, stream=plan.stream
                )
                for _ in range(plan.turns_per_session):
                    if self._over:
                        return
                    began = time.perf_counter()
                    self._count(began, await connection.ask(request))
                    if plan.pace_s:
                        await asyncio.sleep(began + plan.pace_s - time.perf_counter())
        except ConnectionClosed as error:
            raise Unexpected(str(error)) from error
        finally:
            connection.close()

    def _count(self, began: float, answer: Answer) -> None:
        if answer.status != self._plan.expect_status:
            shown = answer.body[:SHOWN_BYTES].decode(errors="replace")
            raise Unexpected(f"HTTP {answer.status} where {self._plan.expect_status} was expected: {shown}")
        if self._over:
            return
        self._latencies_ms.append((answer.done_at - began) * 1000)
        if answer.marked_at is not None:
            self._first_token_ms.append((answer.marked_at - began) * 1000)
        elif self._plan.stream:
            raise Unexpected(f"a stream without a token: {answer.body[:SHOWN_BYTES].decode(errors='replace')}")

    def _look(self) -> _Look:
        cpu = {LOAD: {os.getpid(): time.process_time()}}
        tools_s = 0.0
        for name, roots in self._plan.watch.items():
            if self._plan.tool_servers:
                cpu[name], of_these_s = cpu_apart(roots, self._plan.tool_servers)
                tools_s += of_these_s
            else:
                cpu[name] = cpu_by_pid(roots)
        if self._plan.tool_servers:
            cpu[TOOLS] = {0: tools_s}
        return _Look(time.perf_counter(), cpu, *machine_busy_seconds())


@dataclass(frozen=True, slots=True)
class _Look:
    """The clocks at one moment."""

    at: float
    cpu: dict[str, dict[int, float]]
    busy_s: float
    steal_s: float


def _outcome(before: _Look, after: _Look, latencies_ms: list[float], first_token_ms: list[float]) -> Outcome:
    seconds = after.at - before.at
    cpu_s = {name: cpu_between(before.cpu[name], after.cpu[name]) for name in after.cpu}
    others_s = max(0.0, after.busy_s - before.busy_s - sum(cpu_s.values()))
    return Outcome(
        seconds=seconds,
        latencies_ms=latencies_ms,
        first_token_ms=first_token_ms,
        cpu_s=cpu_s,
        others_percent=100 * others_s / seconds,
        steal_percent=100 * (after.steal_s - before.steal_s) / seconds,
    )


def main() -> None:
    """Read a plan, carry it out, write the outcome; exit 1 with the reason on stderr where it could not be."""
    plan = Plan(**orjson.loads(sys.stdin.buffer.read()))
    gc.disable()  # a phase makes no cycles worth collecting, and a pause would be counted as the server's
    try:
        outcome = uvloop.run(Load(plan).run())
    except TimeoutError:
        sys.exit(f"turns were still in flight {plan.turn_s:.0f} s after the end of the phase")
    except (Unexpected, OSError) as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(orjson.dumps(asdict(outcome)))


if __name__ == "__main__":
    main()
