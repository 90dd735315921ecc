"""The gateway with tool servers of others: what its model is sent of their tools, results and instructions.

    python tests/real_tools/run.py [--only NAME] [--folder DIRECTORY] [--write] [--json FILE]

Installs each server, pinned, in a folder of its own (kept for the next run with --folder; npm is needed for some), puts
it behind a gateway, and judges the requests that a model which keeps them all gets. --write puts the table into
docs/reference/mcp-servers.md. Exits 1 where something was wrong, 2 where a server is not to be had.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes.outside import Unavailable
from fakes.outside_run import concluded, installing_in, options, row
from real_tools.meeting import Seen, meet, meet_all
from real_tools.servers import SERVERS
from rich.console import Console

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "mcp-servers.md"
TOGETHER = ("excel", "atlassian")  # more than 128 tools
HEAD = (
    "server",
    "package",
    "tools offered",
    "kB",
    "left out",
    "instructions",
    "called",
    "after a refusal",
    "as wanted",
)


async def meetings(folder: Path, only: str, told: Callable[[Seen], None]) -> list[Seen]:
    """Every server alone, then two together."""
    planned: dict[str, Callable[[Path], Awaitable[Seen]]] = {
        server.name: lambda work, server=server: meet(server, folder, work)  # type: ignore[misc]  # a default that binds
        for server in SERVERS
    }
    pair = [server for server in SERVERS if server.name in TOGETHER]
    planned[" + ".join(TOGETHER)] = lambda work: meet_all(pair, folder, work)
    all_seen = []
    for name, meeting in planned.items():
        if only not in name:
            continue
        with tempfile.TemporaryDirectory(prefix="real-tools-") as work:
            try:
                seen = await meeting(Path(work).resolve())
            except Unavailable as why:
                seen = Seen(name=name, missing=str(why))
            except AssertionError as error:
                seen = Seen(name=name, wrong=[" ".join(str(error).split())[:400]])
        told(seen)
        all_seen.append(seen)
    return all_seen


def table(all_seen: Sequence[Seen]) -> str:
    """Markdown."""
    rows = [row(HEAD), row(["---"] * len(HEAD))]
    for seen in all_seen:
        if seen.missing:
            rows.append(row([seen.name, "not run", *[""] * (len(HEAD) - 2)]))
            continue
        instructions = {None: "none", True: "sent", False: "not sent"}[seen.instructions]
        wanted = "yes" if not seen.wrong else f"**no**: {seen.wrong[0][:160]}"
        cells = [seen.name, seen.package.replace("==", " "), str(seen.offered), f"{seen.kilobytes:.1f}"]
        cells += [", ".join(seen.left_out) or "none", instructions, seen.called, seen.shortened or "", wanted]
        rows.append(row(cells))
    return "\n".join(rows)


def main(arguments: argparse.Namespace) -> int:
    """Meet them one after the other."""
    console = Console(stderr=True)

    def told(seen: Seen) -> None:
        verdict = "MISSING" if seen.missing else "FAIL" if seen.wrong else "ok  "
        about = f"{seen.offered} tools, {seen.kilobytes:.1f} kB {seen.shortened}"
        console.print(f"{verdict} {seen.name}: {seen.missing or about}", highlight=False, markup=False, soft_wrap=True)
        for line in seen.wrong:
            console.print(f"       {line}", highlight=False, markup=False, soft_wrap=True)

    with installing_in(arguments.folder) as folder:
        all_seen = asyncio.run(meetings(folder, arguments.only, told))
    return concluded(
        arguments,
        PAGE,
        table(all_seen),
        [dataclasses.asdict(seen) for seen in all_seen],
        failed=any(seen.wrong for seen in all_seen),
        missing=any(seen.missing for seen in all_seen),
        console=console,
    )


if __name__ == "__main__":
    sys.exit(main(options(__doc__, PAGE, only="servers whose name contains this").parse_args()))
