"""The documents as data: links, code blocks, commands with the output they promise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]\n]+\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A line typed at a prompt, and what the page shows of its output."""

    line: str
    shown: tuple[str, ...]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, kind: str) -> list[str]:
    return [body for found, body in _FENCE.findall(page.read_text()) if found == kind]


def commands(page: Path) -> Iterator[Command]:
    """What a reader types, in the order of the page."""
    for body in blocks(page, "console"):
        for line, shown in _COMMAND.findall(body):
            yield Command(line=line, shown=tuple(text for text in shown.splitlines() if text))


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text())


def links(page: Path) -> list[str]:
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """The fragments of a page's headings, as forges make them."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in _HEADING.findall(prose(page))}


def differences(shown: tuple[str, ...], output: str) -> list[str]:
    """The shown lines that the output does not have. ``…`` stands for anything; what holds a digit may differ."""
    told = [_masked(line) for line in output.splitlines()]
    return [line for line in shown if not any(_pattern(line).fullmatch(candidate) for candidate in told)]


def _masked(line: str) -> str:
    return re.sub(r"\w*\d\w*", "#", " ".join(line.split()))


def _pattern(line: str) -> re.Pattern[str]:
    if line.startswith("… mcp__"):  # the mark of a tool that runs
        return re.compile(re.escape(_masked(line)))
    return re.compile(".*".join(map(re.escape, _masked(line).split("…"))).replace(r"\ .*", ".*").replace(r".*\ ", ".*"))


BEGIN, END = "<!-- seen: begin -->\n", "<!-- seen: end -->"  # around what a suite writes into a page


def rewritten(page: Path, seen: str) -> str:
    """The page's text with what a suite saw between its marks."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, mark, after = rest.partition(END)
    assert mark, f"{named(page)} has no place for what was seen"
    return f"{before}{BEGIN}\n{seen.strip()}\n\n{END}{after}"
