"""The reports of ``check-config --probe`` as people see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hermes_actors.terminal import printable

_STYLES = {"ok": "green", "note": "yellow", "bad": "bold red"}
_MARKS = {"ok": "ok", "note": "note", "bad": "BAD"}


def report(one: Mapping[str, Any]) -> RenderableType:
    """One model or tool server: its name, then a line for each thing that was looked at, and the remedy below it."""
    heading = Text(f"{one['name']}  ", style="bold").append(printable(one["detail"]), style="dim")
    table = Table.grid(padding=(0, 1))
    table.add_column(min_width=15)
    table.add_column(min_width=4)
    table.add_column(overflow="fold")
    for check in one["checks"]:
        seen = Text(printable(check["seen"]))
        if check["remedy"]:
            seen.append(f"\nWhat to do: {printable(check['remedy'])}.", style="italic")
        table.add_row(f"  {check['what']}", Text(_MARKS[check["level"]], style=_STYLES[check["level"]]), seen)
    return Group(heading, table)


def verdict(reports: Iterable[Mapping[str, Any]]) -> str:
    """The last line: how many things would fail in every turn, and how many are worth a look."""
    levels = [check["level"] for one in reports for check in one["checks"]]
    bad, notes = levels.count("bad"), levels.count("note")
    if bad:
        return f"{_things(bad)} would fail every turn, or be missing in it; {_things(notes)} worth a look."
    return f"Nothing would fail every turn; {_things(notes)} worth a look."


def is_bad(reports: Iterable[Mapping[str, Any]]) -> bool:
    """Whether something would fail every turn."""
    return any(check["level"] == "bad" for one in reports for check in one["checks"])


def _things(number: int) -> str:
    return f"{number} thing{'s' if number != 1 else ''}"
