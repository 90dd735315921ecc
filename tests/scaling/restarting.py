"""Restart a gateway in place under a steady stream of requests, and see what its callers notice.

    python -m scaling.restarting < plan.json > outcome.json

Requests come at a fixed pace, each on a connection of its own, whether earlier ones are answered or not. What counts is
the longest time in which no turn was answered, and every request that failed.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import orjson
import uvloop
from scaling.http1 import Connection, ConnectionClosed, completion_request

from hermes_actors.home import Home
from hermes_actors.operations.requests import BeginDrain, ShowStatus
from hermes_actors.operations.results import Then
from hermes_actors.operators import client

RESTART_S = 60.0  # the longest that a restart takes, its preparation included
ANSWER_S = 20.0  # for every request to have its answer after the last was sent
LEAD_S = 1.0  # of requests before the restart is asked for, and after it


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which gateway, and how often it is asked."""

    url: str
    token: str
    home: str
    per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the callers noticed."""

    gap_ms: float  # the longest time without an answered turn
    restart_ms: float  # from the wish to a successor that serves
    answered: int  # turns
    turned_away: int  # answers that said the gateway drains
    refused: int  # connections
    cut: int  # connections that ended without an answer


class Restarting:
    """A plan being carried out.

    Args:
        restart: returns when the successor serves; it may block.
    """

    def __init__(self, plan: Plan, restart: Callable[[], None]) -> None:
        self._plan = plan
        self._restart = restart
        self._request = completion_request(plan.url, "ping", token=plan.token)
        self._answered_at: list[float] = []
        self._turned_away = self._refused = self._cut = 0

    async def run(self) -> Outcome:
        """Carry the plan out.

        Raises:
            TimeoutError: no successor served, or requests hung.
        """
        async with asyncio.TaskGroup() as asking:
            stream = asking.create_task(self._stream(asking))
            await asyncio.sleep(LEAD_S)
            began = time.perf_counter()
            await asyncio.to_thread(self._restart)
            took_s = time.perf_counter() - began
            await asyncio.sleep(LEAD_S)
            stream.cancel()
        answered = sorted(self._answered_at)
        return Outcome(
            gap_ms=1000 * max(later - earlier for earlier, later in itertools.pairwise(answered)),
            restart_ms=1000 * took_s,
            answered=len(answered),
            turned_away=self._turned_away,
            refused=self._refused,
            cut=self._cut,
        )

    async def _stream(self, asking: asyncio.TaskGroup) -> None:
        first = time.perf_counter()
        for number in itertools.count():
            await asyncio.sleep(first + number / self._plan.per_second - time.perf_counter())
            asking.create_task(self._ask())

    async def _ask(self) -> None:
        try:
            connection = await Connection.open(self._plan.url)
        except OSError:
            self._refused += 1
            return
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await connection.ask(self._request)
        except ConnectionClosed:
            self._cut += 1
            return
        finally:
            connection.close()
        if answer.status == 200:
            self._answered_at.append(answer.done_at)
        else:
            self._turned_away += 1


def restart_in_place(home: Home) -> None:
    """Restart a gateway and wait until its successor serves.

    Raises:
        TimeoutError: none does.
        NotRunning, NoAnswer, OperationFailed: see :mod:`hermes_actors.operators.client`.
    """
    with client.connect(home) as control:
        boot = control.ask(ShowStatus()).boot
        operation = BeginDrain(then=Then.RESTART)
        control.begin(operation)
        if not control.responded(RESTART_S):
            raise TimeoutError
        control.result(operation)
    if client.wait_successor(home, boot, RESTART_S) is None:
        raise TimeoutError


def main() -> None:
    """Read a plan, carry it out, write the outcome; exit 1 with the reason on stderr where it could not be."""
    plan = Plan(**orjson.loads(sys.stdin.buffer.read()))
    try:
        outcome = uvloop.run(Restarting(plan, partial(restart_in_place, Home(Path(plan.home)))).run())
    except* TimeoutError:
        sys.exit("no successor served, or requests hung")
    except* (client.NotRunning, client.NoAnswer, client.OperationFailed, OSError) as errors:
        sys.exit(str(errors.exceptions[0]))
    sys.stdout.buffer.write(orjson.dumps(asdict(outcome)))


if __name__ == "__main__":
    main()
