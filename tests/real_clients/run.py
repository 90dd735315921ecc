"""The gateway with clients of other people: what their users get, and how often a message of theirs is run.

    python tests/real_clients/run.py [--only NAME] [--situations WORDS] [--folder DIRECTORY] [--write] [--json FILE]

Installs each client, pinned, in a folder of its own (kept for the next run with --folder; npm is needed for some), and
lets a program that uses it as its manual says send messages to a gateway, whose model server counts. --write puts the
tables into docs/reference/clients.md. Exits 1 where something did not hold, 2 where a client is not to be had.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes.outside import Unavailable
from fakes.outside_run import Outcome, announce, concluded, installing_in, options, table, tried
from real_clients import open_webui
from real_clients.clients import CLIENTS, Client
from real_clients.meeting import Meeting, before_a_gateway
from real_clients.situations import ONCE, WORKS, Situation, can
from rich.console import Console

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "clients.md"
AT_ONCE = 3  # programs of a client


@dataclass(slots=True, kw_only=True)
class Report:
    """Of one client."""

    name: str
    versions: str
    missing: str = ""  # why it was not met
    outcomes: dict[str, Outcome] = field(default_factory=dict)  # by the title of the situation


async def meet(client: Client, folder: Path, wanted: Sequence[Situation], console: Console) -> Report:
    """One client: install it, then all that it can do; what restarts a process of the gateway comes last and alone."""
    report = Report(name=client.name, versions=client.versions)
    began = time.monotonic()
    try:
        command = await asyncio.to_thread(client.installed, folder)
    except Unavailable as why:
        return _missing(report, why, console)
    slots = asyncio.Semaphore(AT_ONCE)

    async def play(situation: Situation, at: Meeting) -> None:
        async with slots:
            outcome = await tried(situation.play(dataclasses.replace(at, tag=situation.tag)))
        report.outcomes[situation.title] = outcome
        announce(console, client.name, situation.title, outcome)

    possible = [situation for situation in wanted if can(client, situation)]
    with tempfile.TemporaryDirectory(prefix="real-clients-") as work:
        async with before_a_gateway(client, command, Path(work).resolve()) as at:
            await asyncio.gather(*(play(situation, at) for situation in possible if not situation.alone))
            for situation in possible:
                if situation.alone:
                    await play(situation, at)
    console.print(f"     {client.name} took {time.monotonic() - began:.0f} s", highlight=False, soft_wrap=True)
    return report


def _missing(report: Report, why: Unavailable, console: Console) -> Report:
    report.missing = str(why)
    console.print(f"MISSING {report.name}: {why}", highlight=False, soft_wrap=True, markup=False)
    return report


async def meet_open_webui(folder: Path, console: Console) -> Report:
    """Open WebUI in a browser."""
    report = Report(name=open_webui.NAME, versions=open_webui.VERSIONS)
    with tempfile.TemporaryDirectory(prefix="real-clients-") as work:
        try:
            told = partial(announce, console, report.name)
            report.outcomes = await open_webui.meet(folder, Path(work).resolve(), told)
        except Unavailable as why:
            return _missing(report, why, console)
    return report


async def meet_all(folder: Path, only: str, wanted: Sequence[Situation], console: Console) -> list[Report]:
    """One client after the other."""
    reports = [await meet(client, folder, wanted, console) for client in CLIENTS if only in client.name]
    if only in open_webui.NAME:
        reports.append(await meet_open_webui(folder, console))
    return reports


def tables(reports: Sequence[Report]) -> str:
    """Markdown: the versions, what works, and what was one turn."""
    lines = [f"- **{report.name}**: {'not run' if report.missing else report.versions}" for report in reports]
    programs = {report.name: report.outcomes for report in reports if not report.missing}
    browser = {open_webui.NAME: programs.pop(open_webui.NAME, {})}
    lines += ["", "### What works", "", *table(programs, [situation.title for situation in WORKS])]
    lines += ["", "### One message, one turn", "", *table(programs, [situation.title for situation in ONCE])]
    lines += ["", "### Open WebUI in a browser", "", *table(browser, open_webui.TITLES)]
    return "\n".join(lines)


def main(arguments: argparse.Namespace) -> int:
    """Meet them one after the other."""
    console = Console(stderr=True)
    wanted = [situation for situation in (*WORKS, *ONCE) if arguments.situations in situation.title]
    with installing_in(arguments.folder) as folder:
        reports = asyncio.run(meet_all(folder, arguments.only, wanted, console))
    return concluded(
        arguments,
        PAGE,
        tables(reports),
        [dataclasses.asdict(report) for report in reports],
        failed=any(not outcome.held for report in reports for outcome in report.outcomes.values()),
        missing=any(report.missing for report in reports),
        console=console,
    )


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = options(__doc__, PAGE, only="clients whose name contains this")
    parser.add_argument("--situations", metavar="WORDS", default="", help="situations whose title contains this")
    chosen = parser.parse_args(arguments)
    if chosen.write and (chosen.only or chosen.situations):
        parser.error("--write needs all clients and situations: the tables of the page are of one run")
    return chosen


if __name__ == "__main__":
    sys.exit(main(parsed(sys.argv[1:])))
