"""A real gateway asked what its OpenAPI document allows, and what it does not, thousands of times.

    python tests/openapi/run.py [--seconds N] [--seed N] [--folder DIRECTORY]

Installs schemathesis, pinned, in a folder of its own (kept for the next run with --folder), and lets it make requests
from /openapi.json. An answer is wrong if its status, its media type or its body is not in the document, or if it is a
server error that is not there. Exits 1 if an answer was wrong or the requests were too few, 2 if schemathesis is not to
be had.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes.model_server import ModelServer
from fakes.outside import Unavailable, python_env
from fakes.outside_run import installing_in
from fakes.running_gateway import KEY, RunningGateway
from rich.console import Console

TOOL = "schemathesis==4.32.5"
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
MIN_REQUESTS = 5_000
SECONDS = 300  # by then a machine with two cores has sent them
END_S = 60.0  # for the tool to end after its time
REQUEST_S = 30  # of one request
REPORT = "report.json"


async def asked(python: Path, work: Path, *, seconds: int, seed: int) -> tuple[int, bool]:
    """Ask a gateway for some time: how many requests that were, and whether all was described."""
    async with ModelServer() as model:
        config = {"model": {"provider": "custom", "default": "fake", "base_url": model.base_url}}
        async with RunningGateway(work / "home", config) as gateway:
            process = await asyncio.create_subprocess_exec(
                str(python.with_name("schemathesis")),
                "run",
                f"{gateway.url}/openapi.json",
                *("--header", f"Authorization: Bearer {KEY}"),
                *("--checks", ",".join(CHECKS)),
                *("--phases", "coverage,fuzzing"),
                *("--workers", "1"),  # several are threads that parse Python: CPython 3.11 fails at that (gh-106905)
                *("--request-timeout", str(REQUEST_S)),
                *("--max-time", str(seconds)),
                *("--seed", str(seed)),
                *("--report", "json", "--report-json-path", REPORT),
                "--continue-on-failure",
                cwd=work,
            )
            try:
                code = await asyncio.wait_for(process.wait(), seconds + END_S)
            except TimeoutError:
                process.kill()
                await process.wait()
                raise
    report = json.loads((work / REPORT).read_text())
    return int(report["test_cases"]["generated"]), code == 0


def main(arguments: argparse.Namespace) -> int:
    """Install, ask, judge."""
    console = Console(stderr=True)
    with installing_in(arguments.folder) as folder, tempfile.TemporaryDirectory(prefix="openapi-") as work:
        try:
            python = python_env(folder / "schemathesis", TOOL)
        except Unavailable as why:
            console.print(f"MISSING {TOOL}: {why}", highlight=False, markup=False, soft_wrap=True)
            return 2
        count, described = asyncio.run(
            asked(python, Path(work).resolve(), seconds=arguments.seconds, seed=arguments.seed)
        )
    enough = count >= MIN_REQUESTS
    console.print(f"{'ok  ' if described else 'FAIL'} the document describes each answer", highlight=False)
    console.print(
        f"{'ok  ' if enough else 'FAIL'} {count} requests; at least {MIN_REQUESTS} are wanted", highlight=False
    )
    return 0 if described and enough else 1


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=SECONDS, metavar="N", help=f"ask for so long ({SECONDS})")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the requests (1)")
    parser.add_argument("--folder", type=Path, metavar="DIRECTORY", help="install there, and keep it for the next run")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(parsed()))
