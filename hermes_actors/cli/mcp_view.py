"""What people see of tool servers: pure functions from reports to rich renderables, within 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from hermes_actors.cli.render import plain, quoted

ESTIMATE = "tokens: an estimate, 0.3 for each byte of the definition that a request carries"


def trial(report: Mapping[str, Any]) -> RenderableType:
    """The report of ``mcp test``: a line for each step."""
    table = Table.grid(Column(), Column(style="dim"), Column(overflow="fold"), padding=(0, 2))
    for step in report["steps"]:
        mark = Text("ok", style="green") if step["ok"] else Text("failed", style="red")
        table.add_row(mark, step["what"], plain(step["seen"]))
    return Group(table, *_warned(report["warnings"]), *quoted(report["detail"]))


def offered(data: Mapping[str, Any]) -> RenderableType:
    """The report of ``mcp tools``: a table for each server, and the totals."""
    parts: list[RenderableType] = []
    for report in data["servers"]:
        parts += [_tools(report), *quoted(report["detail"]), Text()]
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


def _warned(warnings: Iterable[str]) -> Iterable[RenderableType]:
    for warning in warnings:
        text = plain(f"warning: {warning}")
        text.stylize("yellow")
        yield text
