"""What people see of tool servers: pure functions from reports to rich renderables, within 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from hermes_actors.cli.render import ago, plain, servers

ESTIMATE = "tokens: an estimate, 0.3 for each byte of the definition that a request carries"
_APART = ("last_error", "detail")  # of a connection: below the table


def connections(rows: Sequence[Mapping[str, Any]], now: float) -> RenderableType:
    """The reply to ``mcp``: a table, and below it why connections failed, each reason once."""
    if not rows:
        return plain("no connections")
    known = [{name: value for name, value in row.items() if name not in _APART} for row in rows]
    parts: list[RenderableType] = [servers(known, now)]
    whys = {(row["last_error"], row.get("detail")): row for row in rows if row.get("last_error")}
    for (why, detail), row in whys.items():
        parts += [Text(), plain(f"{why} ({ago(row['since'], now)})"), *_quoted(detail)]
    return Group(*parts)


def trial(report: Mapping[str, Any]) -> RenderableType:
    """The report of ``mcp test``: a line for each step."""
    table = Table.grid(Column(), Column(style="dim"), Column(overflow="fold"), padding=(0, 2))
    for step in report["steps"]:
        mark = Text("ok", style="green") if step["ok"] else Text("failed", style="red")
        table.add_row(mark, step["what"], plain(step["seen"]))
    return Group(table, *_warned(report["warnings"]), *_quoted(report["detail"]))


def offered(data: Mapping[str, Any]) -> RenderableType:
    """The report of ``mcp tools``: a table for each server, and the totals."""
    parts: list[RenderableType] = []
    for report in data["servers"]:
        parts += [_tools(report), *_quoted(report["detail"]), Text()]
    total = f"{data['offered']} tools offered, about {data['tokens']} tokens in each request ({ESTIMATE})"
    return Group(*parts, plain(total), *_warned(data["warnings"]))


def _tools(report: Mapping[str, Any]) -> RenderableType:
    if not report["ok"]:
        failed = next(step["seen"] for step in report["steps"] if not step["ok"])
        return Group(_title(report["server"]), plain(f"  cannot be used: {failed}"))
    table = Table.grid(
        Column(overflow="fold"), Column(justify="right"), Column(overflow="fold", style="dim"), padding=(0, 2)
    )
    for tool in report["tools"]:
        note = f"left out: {tool['left_out']}" if tool["left_out"] else tool["tool"] if tool["is_renamed"] else ""
        tokens = "-" if tool["left_out"] else str(tool["tokens"])
        table.add_row(plain(f"  {tool['name'] or tool['tool']}"), tokens, plain(note))
    if not report["tools"]:
        table.add_row(plain("  no tools"), "", "")
    return Group(_title(report["server"]), table)


def _title(server: str) -> Text:
    title = plain(server)
    title.stylize("bold")
    return title


def _quoted(detail: str | None) -> Iterable[RenderableType]:
    """What a server itself said last."""
    if detail:
        yield plain("  the server said:")
        yield plain("\n".join(f"  | {line}" for line in detail.splitlines()))


def _warned(warnings: Iterable[str]) -> Iterable[RenderableType]:
    for warning in warnings:
        text = plain(f"warning: {warning}")
        text.stylize("yellow")
        yield text
