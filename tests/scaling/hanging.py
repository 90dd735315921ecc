"""Keep a tool hanging in one session: ask for it, let it hang, stop the turn, ask again.

python -m scaling.hanging < plan.json > outcome.json
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
import uvloop
from scaling.http1 import Answer, Connection, ConnectionClosed, completion_request

REACTION_S = 30.0  # until the tool is called, or a stopped turn is answered
POLL_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Whom to ask, for how long."""

    url: str
    token: str
    session: str
    message: str  # that makes the model call a tool that hangs
    calls: str  # file to which the tool's server adds a line for each call
    hang_s: float  # from the call to the /stop
    seconds: float  # in all; the turn that hangs then is the last one


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of it."""

    stopped_ms: list[float]  # from each /stop to the answer of the turn that it stops


class Hanging:
    """A plan being carried out."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._turn = completion_request(plan.url, plan.message, token=plan.token, session=plan.session)
        self._stop = completion_request(plan.url, "/stop", token=plan.token, session=plan.session)

    async def run(self) -> Outcome:
        """Carry the plan out.

        Raises:
            TimeoutError: no tool was called, or /stop stopped nothing.
            ConnectionClosed: the server closed a connection.
            OSError: nobody listens there.
        """
        url = self._plan.url
        with closing(await Connection.open(url)) as asking, closing(await Connection.open(url)) as stopping:
            return Outcome(stopped_ms=await self._keep_hanging(asking, stopping))

    async def _keep_hanging(self, asking: Connection, stopping: Connection) -> list[float]:
        stopped_ms: list[float] = []
        over = time.monotonic() + self._plan.seconds
        while time.monotonic() < over:
            turn = await self._hung(asking)
            await asyncio.sleep(self._plan.hang_s)
            began = time.perf_counter()
            async with asyncio.timeout(REACTION_S):
                await stopping.ask(self._stop)
                stopped_ms.append(((await turn).done_at - began) * 1000)
        return stopped_ms

    async def _hung(self, connection: Connection) -> asyncio.Future[Answer]:
        """A turn whose tool has been called."""
        before = self._calls()
        turn = connection.ask(self._turn)
        async with asyncio.timeout(REACTION_S):
            while self._calls() == before:  # noqa: ASYNC110  # a file has no event
                await asyncio.sleep(POLL_S)
        return turn

    def _calls(self) -> int:
        path = Path(self._plan.calls)
        return path.stat().st_size if path.exists() else 0


def main() -> None:
    """Read a plan, carry it out, write the outcome; exit 1 with the reason on stderr where it could not be."""
    plan = Plan(**orjson.loads(sys.stdin.buffer.read()))
    try:
        outcome = uvloop.run(Hanging(plan).run())
    except TimeoutError:
        sys.exit(f"within {REACTION_S:.0f} s the tool was not called, or /stop stopped nothing")
    except (ConnectionClosed, OSError) as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(orjson.dumps(asdict(outcome)))


if __name__ == "__main__":
    main()
