"""Let many turns run, drain with no time left, and see when marks and strikes are on disk.

    python -m scaling.cutting < plan.json > outcome.json

What counts is the time from the request for the drain to the moment at which another process can read every mark in the
registry and every strike in the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
import uvloop
from fakes.asking import ask
from scaling.http1 import Connection, ConnectionClosed, completion_request

from hermes_actors.home import Home
from hermes_actors.operators import client

RUNNING_S = 30.0  # until all turns run
DURABLE_S = 10.0  # the longest that marks and strikes are waited for
POLL_S = 0.002
CONNECTIONS_AT_ONCE = 50
MARKED = "SELECT count(*) FROM sessions WHERE mark = 'resume_pending'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which gateway, and how many turns."""

    url: str
    token: str
    home: str
    turns: int
    message: str  # whose answer takes longer than the measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What it took."""

    durable_ms: float
    told: int  # callers who heard the end of their turn


class Cutting:
    """A plan being carried out."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._home = Home(Path(plan.home))

    async def run(self) -> Outcome:
        """Carry the plan out.

        Raises:
            TimeoutError: turns did not come to run, or marks did not come to disk.
        """
        async with contextlib.AsyncExitStack() as stack:
            gate = asyncio.Semaphore(CONNECTIONS_AT_ONCE)
            asking = [asyncio.create_task(self._ask(stack, gate, number)) for number in range(self._plan.turns)]
            async with asyncio.timeout(RUNNING_S):
                while await asyncio.to_thread(self._running) < self._plan.turns:  # noqa: ASYNC110  # another process has no event for us
                    await asyncio.sleep(0.1)
            began = time.perf_counter()
            drain = asyncio.create_task(asyncio.to_thread(self._drain))
            durable_at = await asyncio.to_thread(self._durable)
            await drain
            async with asyncio.timeout(RUNNING_S):
                answers = await asyncio.gather(*asking)
        return Outcome(durable_ms=(durable_at - began) * 1000, told=sum(answers))

    async def _ask(self, stack: contextlib.AsyncExitStack, gate: asyncio.Semaphore, number: int) -> bool:
        async with gate:
            connection = await Connection.open(self._plan.url)
            stack.callback(connection.close)
            request = completion_request(
                self._plan.url, self._plan.message, token=self._plan.token, session=f"cut-{number}"
            )
            answer = connection.ask(request)
        try:
            return (await answer).status == 503
        except ConnectionClosed:
            return False

    def _running(self) -> int:
        return sum(worker["running"] for worker in ask(self._home, "status")["workers"])

    def _drain(self) -> None:
        ask(self._home, "drain", timeout=0.0, then="stop", asker=None)

    def _durable(self) -> float:
        with self._registry() as registry:
            until = time.perf_counter() + DURABLE_S
            while not (self._marked(registry) and self._struck()):
                if time.perf_counter() > until:
                    raise TimeoutError
                time.sleep(POLL_S)
        return time.perf_counter()

    @contextlib.contextmanager
    def _registry(self) -> Iterator[sqlite3.Connection]:
        path = f"{self._home.registry.as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(path, uri=True)) as registry:
            yield registry

    def _marked(self, registry: sqlite3.Connection) -> bool:
        return bool(registry.execute(MARKED).fetchone() == (self._plan.turns,))

    def _struck(self) -> bool:
        try:
            ledger = orjson.loads(self._home.ledger.read_bytes())
        except FileNotFoundError:
            return False
        return len(ledger["sessions"]) == self._plan.turns


def main() -> None:
    """Read a plan, carry it out, write the outcome; exit 1 with the reason on stderr where it could not be."""
    plan = Plan(**orjson.loads(sys.stdin.buffer.read()))
    try:
        outcome = uvloop.run(Cutting(plan).run())
    except TimeoutError:
        sys.exit("the turns did not all come to run, or their marks not to disk")
    except (client.NoAnswer, client.OperationFailed, OSError) as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(orjson.dumps(asdict(outcome)))


if __name__ == "__main__":
    main()
