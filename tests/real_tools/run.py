"""The gateway with tool servers of others: what its model is sent of their tools, results and instructions.

    python tests/real_tools/run.py [--only NAME] [--folder DIRECTORY] [--write] [--json FILE]

Installs each server, pinned, in a folder of its own (kept for the next run with --folder; npm is needed for some), puts
it behind a gateway, and judges the requests that a model which keeps them all gets. --write puts the table into
docs/reference/mcp-servers.md. Exits 1 where something was wrong, 2 where a server is not to be had.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes.outside import Unavailable
from fakes.pages import rewritten
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
    rows = [_row(HEAD), _row(["---"] * len(HEAD))]
    for seen in all_seen:
        if seen.missing:
            rows.append(_row([seen.name, "not run", *[""] * (len(HEAD) - 2)]))
            continue
        instructions = {None: "none", True: "sent", False: "not sent"}[seen.instructions]
        wanted = "yes" if not seen.wrong else f"**no**: {seen.wrong[0][:160]}"
        cells = [seen.name, seen.package.replace("==", " "), str(seen.offered), f"{seen.kilobytes:.1f}"]
        cells += [", ".join(seen.left_out) or "none", instructions, seen.called, seen.shortened or "", wanted]
        rows.append(_row(cells))
    return "\n".join(rows)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(' '.join(cell.replace('|', '/').split()) for cell in cells)} |"


def main(arguments: argparse.Namespace) -> int:
    """Meet them one after the other."""
    console = Console(stderr=True)

    def told(seen: Seen) -> None:
        verdict = "MISSING" if seen.missing else "FAIL" if seen.wrong else "ok  "
        about = f"{seen.offered} tools, {seen.kilobytes:.1f} kB {seen.shortened}"
        console.print(f"{verdict} {seen.name}: {seen.missing or about}", highlight=False, markup=False, soft_wrap=True)
        for line in seen.wrong:
            console.print(f"       {line}", highlight=False, markup=False, soft_wrap=True)

    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="real-tools-")))
        folder.mkdir(parents=True, exist_ok=True)
        all_seen = asyncio.run(meetings(folder.resolve(), arguments.only, told))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([dataclasses.asdict(seen) for seen in all_seen], indent=1) + "\n")
    if arguments.write:
        PAGE.write_text(rewritten(PAGE, table(all_seen)))
    console.out(table(all_seen))
    if any(seen.wrong for seen in all_seen):
        return 1
    return 2 if any(seen.missing for seen in all_seen) else 0


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="NAME", default="", help="servers whose name contains this")
    parser.add_argument("--folder", type=Path, metavar="DIRECTORY", help="install there, and keep it for the next run")
    parser.add_argument("--write", action="store_true", help="write the table into docs/reference/mcp-servers.md")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was seen there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(parsed(sys.argv[1:])))
