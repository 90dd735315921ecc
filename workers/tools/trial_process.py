"""The process of trials: which servers to try on stdin, a report for each on stdout, both JSON.

The order is ``{"config", "environment", "home", "servers": [names]}``, the first two as a worker gets them. A report is
a :class:`workers.tools.trial.Trial`, on one line.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import orjson
import structlog
import uvloop

from hermes_actors.config.model import from_plain
from hermes_actors.wire.ownership import owner_mark
from workers.tools.trial import trial

AT_ONCE = 4  # servers: their starts take CPU, and one that is slow holds up no other


async def _try(order: dict[str, Any]) -> None:
    servers = from_plain(order["config"]).mcp_servers
    home = Path(order["home"])
    free = asyncio.Semaphore(AT_ONCE)
    trying = asyncio.current_task()
    assert trying is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, trying.cancel)  # what was started ends too

    async def report(number: int, name: str) -> None:
        mark = owner_mark(home, f"trial-{os.getpid()}", number, 0)
        async with free:
            tried = await trial(name, servers[name], order["environment"], mark=mark, home=home)
        sys.stdout.buffer.write(orjson.dumps(tried.plain()) + b"\n")
        sys.stdout.buffer.flush()

    async with asyncio.TaskGroup() as group:
        for number, name in enumerate(order["servers"]):
            group.create_task(report(number, name))


def main() -> None:
    """Do what stdin says."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # what fails is in the reports
    uvloop.run(_try(orjson.loads(sys.stdin.buffer.read())))


if __name__ == "__main__":
    main()
