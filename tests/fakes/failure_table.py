"""The page of failures as data: one row of a Markdown table for each, read, compared and written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

from fakes.pages import ROOT

PAGE = ROOT / "docs/explanation/failures.md"

_HEAD = """\
| what happens | the caller sees | model requests | MCP starts | actor restarts | the next message |
|---|---|---|---|---|---|
"""
_TABLE = re.compile(re.escape(_HEAD) + r"((?:\|.*\n)*)")
_CELL = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A failure and what it costs, as the page tells it."""

    failure: str
    seen: str
    requests: str
    starts: str
    restarts: str
    following: str

    def __str__(self) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in astuple(self))} |\n"


def parsed(line: str) -> Row:
    """A row from its line."""
    cells = [cell.strip().replace("\\|", "|") for cell in _CELL.split(line.strip())[1:-1]]
    return Row(**dict(zip(Row.__slots__, cells, strict=True)))


def tables() -> list[dict[str, Row]]:
    """The rows of each table of the page, by failure."""
    bodies = _TABLE.findall(PAGE.read_text())
    return [{row.failure: row for row in map(parsed, body.splitlines())} for body in bodies]


def write(order: Sequence[Sequence[str]], measured: Sequence[Mapping[str, Row]]) -> None:
    """Write each table with these failures, in this order: as measured, or as they stand where they were not."""
    known = [{**table, **rows} for table, rows in zip(tables(), measured, strict=True)]
    bodies = [
        "".join(str(rows[name]) for name in names if name in rows) for names, rows in zip(order, known, strict=True)
    ]
    left = iter(bodies)
    PAGE.write_text(_TABLE.sub(lambda _: _HEAD + next(left), PAGE.read_text()))
