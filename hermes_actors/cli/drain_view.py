"""What people see of a drain: who would be cut, what still runs, how it went."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hermes_actors.cli.render import Rows, console, drain_line, slots, span
from hermes_actors.terminal import printable

TURNS_SHOWN = 10  # of those that still run, the oldest
KEYS_SHOWN = 20  # of sessions that were cut
LINE_INTERVAL_S = 5.0  # between two lines where there is no terminal
LEDGER = "hermes-ctl ledger show"
PREPARING = "a new start is prepared; nothing drains yet"
NOT_BEGUN = "nothing drains yet"

Show: TypeAlias = Callable[[Mapping[str, Any]], None]

_OUTCOMES = {"finishes": ("finishes", "green"), "cut": ("is cut", "red"), "unknown": ("unknown", "yellow")}

_COUNTED = (
    ("finishes", "would finish"),
    ("cut", "would be cut"),
    ("unknown", "may finish or not"),
    ("queued", "wait and run afterwards"),
)


def plan(data: Mapping[str, Any]) -> RenderableType:
    """The reply to ``drain.plan``."""
    counts = ", ".join(f"{data[name]} {words}" for name, words in _COUNTED if data.get(name))
    head = Text(f"with {span(data['timeout_s'])}: {counts or 'nothing runs'}", style="bold")
    if not data["turns"]:
        return head
    table = Rows("session", "worker", "running for", "usually takes", "outcome", "strikes")
    for turn in data["turns"]:
        words, style = _OUTCOMES.get(turn["outcome"], (turn["outcome"], ""))
        would = "would be" if turn["outcome"] == "cut" else "if cut, it is"
        suspends = f", {would} suspended" if turn.get("suspends") else ""
        table.add(
            _label(turn),
            Text(str(turn["worker"])),
            Text(span(turn["age_s"])),
            Text(_usual(turn.get("usual_s"))),
            Text(words, style),
            Text(f"{turn.get('strikes', 0)}{suspends}"),
        )
    return Group(head, Text(), table)


def running(data: Mapping[str, Any], now: float) -> RenderableType:
    """The reply to ``drain.status``: what is waited for; ``now`` in seconds since the epoch."""
    if data.get("then") is None:
        return Text(_before(data), style="dim")
    turns = data.get("turns") or []
    if not turns:
        return Text(summary(data))
    table = Table.grid(padding=(0, 2))
    for _ in range(3):
        table.add_column(no_wrap=True, overflow="ellipsis")
    for turn in turns[:TURNS_SHOWN]:
        runs = f"runs for {span(now - turn['started_at'])}"
        table.add_row(_label(turn), Text(f"worker {turn['worker']}", style="dim"), Text(runs))
    more = data.get("count", len(turns)) - min(len(turns), TURNS_SHOWN)
    return Group(Text(summary(data)), table, *([Text(f"and {more} more", style="dim")] if more > 0 else ()))


def _before(data: Mapping[str, Any]) -> str:
    return PREPARING if data.get("preparing", True) else NOT_BEGUN


def summary(data: Mapping[str, Any]) -> str:
    """The same in one line."""
    return f"{data.get('phase')}: {drain_line({**data, 'then': None})}"


def outcome(data: Mapping[str, Any], threshold: int) -> str:
    """How it went: the reply to ``drain``, with what became of the gateway.

    Args:
        data: the reply.
        threshold: with how many cuts in a row a session is suspended.
    """
    lines = [_END[data["then"]]]
    if data.get("marked") is None:
        return f"{lines[0]}\nthe supervisor did not come to say whom it cut; see: {LEDGER}"
    suspended = data.get("suspended") or []
    resumed = [key for key in data.get("cut") or () if key not in set(suspended)]
    count = data["marked"] - len(suspended)
    if count > 0:
        lines.append(f"cut at the deadline and marked, to go on with the next message: {_named(count, resumed)}")
    elif not suspended and not data.get("silent"):
        lines.append("no session was cut")
    if data.get("silent"):
        who = slots(data["silent"])
        lines.append(f"{who} died or gave no answer: what ran there is cut as by a crash; see: {LEDGER}")
    if data.get("waiting"):
        sessions = "1 session" if data["waiting"] == 1 else f"{data['waiting']} sessions"
        lines.append(f"messages that wait in {sessions} are kept, and run once the gateway serves")
    if data.get("stateless"):
        lines.append(f"cut conversations without a session: {data['stateless']}")
    if suspended:
        fresh = "will start fresh after the next restart" if data["then"] == "hold" else "starts fresh"
        lines.append(
            f"cut {threshold} times in a row: {_named(len(suspended), suspended)}: "
            f"the next message {fresh}; hermes-ctl sessions resume brings it back"
        )
    return "\n".join(lines)


_END = {
    "stop": "stopped",
    "restart": "restarted",
    "hold": "held: no turn begins until it is cancelled, with: hermes-ctl drain --cancel",
}


@contextmanager
def progress(*, quiet: bool) -> Iterator[Show]:
    """Shows on stderr what is waited for: live at a terminal, else a line now and then, or not at all."""
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        with Live(console=console(stderr=True), auto_refresh=False, transient=True) as live:
            yield lambda data: live.update(running(data, time.time()), refresh=True)
    else:
        yield Lines(lambda line: click.echo(line, err=True)).show


class Lines:
    """A line for each change, and not more than one in :data:`LINE_INTERVAL_S`."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._told: tuple[object, ...] = ()
        self._told_at = -LINE_INTERVAL_S

    def show(self, data: Mapping[str, Any]) -> None:
        """Tell it if it is new; before the drain has begun, once that it is prepared."""
        if data.get("then") is None:
            if not self._told:
                self._told = (None,)
                self._write(_before(data))
            return
        news = tuple(data.get(name) for name in ("phase", "count", "queued"))
        if news != self._told and self._clock() - self._told_at >= LINE_INTERVAL_S:
            self._told, self._told_at = news, self._clock()
            self._write(summary(data))


def _usual(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return span(seconds) if seconds >= 1 else "<1 s"


def _label(turn: Mapping[str, Any]) -> Text:
    return Text("(no session)" if turn.get("stateless") else printable(turn["key"]))


def _named(count: int, keys: list[str]) -> str:
    shown = [printable(key) for key in keys[:KEYS_SHOWN]]
    if count > len(shown):
        shown.append(f"and {count - len(shown)} more")
    return f"{count} ({', '.join(shown)})"
