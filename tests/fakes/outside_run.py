"""What the runs share that meet software of others: their options, where they install, and how they end."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fakes.pages import rewritten
from rich.console import Console


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
