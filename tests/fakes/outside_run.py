"""What the runs share that meet software of others: their options, where they install, and how they end."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from fakes.pages import rewritten
from rich.console import Console

SEEN = 200  # characters of an error that a table quotes


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of a situation."""

    held: bool
    seen: str  # what is written into the table

    def __str__(self) -> str:
        return f"{'yes' if self.held else '**no**'}{': ' if self.seen else ''}{self.seen}"


async def tried(situation: Awaitable[Outcome]) -> Outcome:
    """The situation's outcome; one that breaks off did not hold."""
    try:
        return await situation
    except (AssertionError, TimeoutError, aiohttp.ClientError, KeyError, IndexError, ValueError) as error:
        return Outcome(held=False, seen=" ".join(f"{type(error).__name__}: {error}".split())[:SEEN])


def announce(console: Console, name: str, title: str, outcome: Outcome) -> None:
    """One line about a situation of a server or client, as soon as it is over."""
    verdict = "ok  " if outcome.held else "FAIL"
    console.print(f"{verdict} {name}: {title}: {outcome.seen}", highlight=False, soft_wrap=True, markup=False)


def named_of(known: Collection[str]) -> Callable[[str], list[str]]:
    """The type of an option that takes names, with commas between them."""

    def names(text: str) -> list[str]:
        wanted = [name.strip() for name in text.split(",")]
        if unknown := [name for name in wanted if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
        return wanted

    return names


def options(description: str | None, page: Path, *, only: str) -> argparse.ArgumentParser:
    """The options of each run; ``only`` says what the one of that name chooses."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--only", metavar="WORDS", default="", help=only)
    parser.add_argument("--folder", type=Path, metavar="DIRECTORY", help="install there, and keep it for the next run")
    parser.add_argument("--write", action="store_true", help=f"write the tables into docs/reference/{page.name}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results there")
    return parser


@contextmanager
def installing_in(folder: Path | None) -> Iterator[Path]:
    """The given folder, made where it is missing, or one for this run alone."""
    with tempfile.TemporaryDirectory(prefix="outside-") as own:
        chosen = folder or Path(own)
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen.resolve()


def row(cells: Sequence[str]) -> str:
    """Of a table in Markdown."""
    return f"| {' | '.join(' '.join(cell.replace('|', '/').split()) for cell in cells)} |"


def concluded(
    arguments: argparse.Namespace, page: Path, text: str, plain: Any, *, failed: bool, missing: bool, console: Console
) -> int:
    """Write and print the results as the options say; the exit code."""
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(plain, indent=1) + "\n")
    if arguments.write:
        page.write_text(rewritten(page, text))
    console.out(text)
    return 1 if failed else 2 if missing else 0


def table(lines: Mapping[str, Mapping[str, Any]], titles: Sequence[str]) -> list[str]:
    """Lines of a table in Markdown: ``titles`` are its columns; a cell that a line lacks is a dash."""
    head = ["", *titles]
    rows = [[name, *(str(line.get(title, "-")) for title in titles)] for name, line in lines.items()]
    return [row(head), row(["---"] * len(head)), *map(row, rows)]
