"""The process that tries models: the configuration on stdin, a report a line on stdout, both JSON.

The order is ``{"config", "environment"}``, as a worker gets them. :func:`hermes_actors.pool.probe.probe` says what a
report is.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import orjson
import structlog
import uvloop

from hermes_actors.config.model import Config, from_plain
from workers.probe.checks import checks_of
from workers.probe.models import endpoints, seen_of


async def reports(config: Config, environment: dict[str, str]) -> AsyncIterator[dict[str, Any]]:
    """What each model does, one after the other, so that none disturbs another."""
    for name, endpoint, wanted in endpoints(config):
        seen = await seen_of(endpoint, wanted.model, environment)
        checks = [asdict(check) for check in checks_of(seen, wanted)]
        yield {"about": "model", "name": name, "detail": wanted.model, "checks": checks}


async def _tell(order: dict[str, Any]) -> None:
    async for report in reports(from_plain(order["config"]), order["environment"]):
        sys.stdout.buffer.write(orjson.dumps(report) + b"\n")
        sys.stdout.buffer.flush()


def main() -> None:
    """Do what stdin says."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    uvloop.run(_tell(orjson.loads(sys.stdin.buffer.read())))


if __name__ == "__main__":
    main()
