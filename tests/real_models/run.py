"""The gateway on real model servers: what each does with what we send, and what people then see.

    python tests/real_models/run.py [--servers NAME,…] [--only WORDS] [--folder DIRECTORY] [--write] [--json FILE]

Installs each server, pinned, in a folder of its own (several gigabytes for all of them; kept for the next run with
--folder), gives it the automaton as its model, asks it directly, and then through a gateway. --write puts the result
into docs/reference/model-servers.md. Exits 1 where something did not hold, 2 where a server is not to be had.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes.outside import Unavailable
from fakes.outside_run import Outcome, announce, concluded, installing_in, named_of, options, table
from real_models import directly
from real_models.directly import DIRECTLY
from real_models.servers import SERVERS
from real_models.through import THROUGH, play
from rich.console import Console

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "model-servers.md"


@dataclass(slots=True, kw_only=True)
class Report:
    """Of one server."""

    name: str
    versions: str = ""
    missing: str = ""  # why there is none
    directly: Mapping[str, str] = field(default_factory=dict)
    through: Mapping[str, Outcome] = field(default_factory=dict)

    @property
    def fell(self) -> list[str]:
        """The situations that did not hold."""
        return [title for title, outcome in self.through.items() if not outcome.held]


def meet(name: str, folder: Path, only: str, console: Console) -> Report:
    """One server: install, start, ask, end."""
    report = Report(name=name)
    began = time.monotonic()

    try:
        with SERVERS[name](folder) as server, tempfile.TemporaryDirectory(prefix="real-models-") as homes:
            report.versions = server.versions
            report.directly = {} if only else asyncio.run(directly.ask(server))
            report.through = asyncio.run(play(server, Path(homes) / "home", only, partial(announce, console, name)))
    except Unavailable as why:
        report.missing = str(why)
        console.print(f"MISSING {name}: {why}", highlight=False, soft_wrap=True, markup=False)
    console.print(f"     {name} took {time.monotonic() - began:.0f} s", highlight=False, soft_wrap=True)
    return report


def tables(reports: Sequence[Report]) -> str:
    """Markdown: the versions, what the servers do, what people see."""
    there = [report for report in reports if not report.missing]
    lines = [f"- **{report.name}**: {report.versions}" for report in there]
    lines += [f"- **{report.name}**: not run" for report in reports if report.missing]
    lines += ["", "### Asked directly", "", *_table(there, DIRECTLY, lambda report: report.directly)]
    lines += ["", "### Through the gateway", "", *_table(there, THROUGH, lambda report: report.through)]
    return "\n".join(lines)


def _table(reports: Sequence[Report], titles: Iterable[str], of: Callable[[Report], Mapping[str, object]]) -> list[str]:
    lines = {title: {report.name: of(report).get(title, "-") for report in reports} for title in titles}
    return table(lines, [report.name for report in reports])


def plain(report: Report) -> dict[str, object]:
    """A report for a file."""
    through = {title: {"held": outcome.held, "seen": outcome.seen} for title, outcome in report.through.items()}
    return {
        "server": report.name, "versions": report.versions, "missing": report.missing,
        "directly": dict(report.directly), "through": through,
    }  # fmt: skip


def main(arguments: argparse.Namespace) -> int:
    """Meet them one after the other."""
    console = Console(stderr=True)
    with installing_in(arguments.folder) as folder:
        reports = [meet(name, folder, arguments.only, console) for name in arguments.servers]
    return concluded(
        arguments,
        PAGE,
        tables(reports),
        [plain(report) for report in reports],
        failed=any(report.fell for report in reports),
        missing=any(report.missing for report in reports),
        console=console,
    )


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = options(__doc__, PAGE, only="situations whose title contains this")
    names, known = ", ".join(SERVERS), named_of(SERVERS)
    parser.add_argument("--servers", type=known, default=list(SERVERS), metavar="NAME,…", help=f"of {names}")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(parsed(sys.argv[1:])))
