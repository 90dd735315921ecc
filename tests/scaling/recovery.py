"""Kill a worker and see when every session answers again: a process of its own, so that nothing else delays its clock.

    python -m scaling.recovery < plan.json > outcome.json

Some of the sessions live on the killed worker, some elsewhere; each is sent one message right after the kill, again and
again on new connections until it is answered. What counts is the time from the kill to the last session's answer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass

import orjson
import uvloop
from scaling.http1 import Connection, ConnectionClosed, completion_request

RECOVER_S = 30.0  # the longest that is waited for
RETRY_S = 0.005  # between two tries of a session


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Whom to kill, whom to ask."""

    url: str
    token: str
    sessions: list[str]
    kill: int  # pid of the worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What it took."""

    answered_ms: list[float]  # from the kill to the answer, of each session
    refused_connections: int  # how often nobody listened


class Recovery:
    """A plan being carried out."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._refused = 0

    async def run(self) -> Outcome:
        """Give each session a turn, kill, and wait until each has had another.

        Raises:
            TimeoutError: a session did not answer.
        """
        async with asyncio.timeout(RECOVER_S):
            await asyncio.gather(*(self._until_answered(session) for session in self._plan.sessions))
        self._refused = 0
        os.kill(self._plan.kill, signal.SIGKILL)
        killed = time.perf_counter()
        async with asyncio.timeout(RECOVER_S):
            answered = await asyncio.gather(*(self._until_answered(session) for session in self._plan.sessions))
        return Outcome(
            answered_ms=[(at - killed) * 1000 for at in answered],
            refused_connections=self._refused,
        )

    async def _until_answered(self, session: str) -> float:
        request = completion_request(self._plan.url, "ping", token=self._plan.token, session=session)
        while True:
            answered_at = await self._try(request)
            if answered_at is not None:
                return answered_at
            await asyncio.sleep(RETRY_S)

    async def _try(self, request: bytes) -> float | None:
        try:
            connection = await Connection.open(self._plan.url)
        except OSError:
            self._refused += 1
            return None
        try:
            answer = await connection.ask(request)
        except ConnectionClosed:
            return None
        finally:
            connection.close()
        return answer.done_at if answer.status == 200 else None


def main() -> None:
    """Read a plan, carry it out, write the outcome; exit 1 with the reason on stderr where it could not be."""
    plan = Plan(**orjson.loads(sys.stdin.buffer.read()))
    try:
        outcome = uvloop.run(Recovery(plan).run())
    except TimeoutError:
        sys.exit(f"a session did not answer within {RECOVER_S:.0f} s")
    sys.stdout.buffer.write(orjson.dumps(asdict(outcome)))


if __name__ == "__main__":
    main()
