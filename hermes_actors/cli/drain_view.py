"""What people see of a drain: who would be cut, what still runs, how it went."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hermes_actors.cli.render import RowTable, console, left, slots, span
from hermes_actors.operations.results import Drained, DrainPlanned, DrainShown, PlannedTurn, RunningTurn, Then
from hermes_actors.terminal import printable

TURNS_SHOWN = 10  # of those that still run, the oldest
KEYS_SHOWN = 20  # of sessions that were cut
LINE_INTERVAL_S = 5.0  # between two lines where there is no terminal
LEDGER = "hermes-ctl ledger show"
PREPARING = "preparing the new start; nothing drains yet"
NOT_BEGUN = "nothing drains yet"

Show: TypeAlias = Callable[[DrainShown], None]

_OUTCOMES = {"finishes": ("finishes", "green"), "cut": ("is cut", "red"), "unknown": ("unknown", "yellow")}

_COUNTED = (
    ("finishes", "would finish"),
    ("cut", "would be cut"),
    ("unknown", "may finish or not"),
    ("queued", "wait and run afterwards"),
)


def plan(data: DrainPlanned) -> RenderableType:
    """The result of ``drain.plan``."""
    counts = ", ".join(f"{count} {words}" for name, words in _COUNTED if (count := getattr(data, name)))
    head = Text(f"with {span(data.timeout_s)}: {counts or 'nothing runs'}", style="bold")
    if not data.turns:
        return head
    table = RowTable("session", "worker", "running for", "usually takes", "outcome", "strikes")
    for turn in data.turns:
        words, style = _OUTCOMES[turn.outcome]
        would = "would be" if turn.outcome == "cut" else "if cut, it is"
        table.add(
            _label(turn),
            Text(str(turn.worker)),
            Text(span(turn.age_s)),
            Text(_usual(turn.usual_s)),
            Text(words, style),
            Text(f"{turn.strikes}{f', {would} suspended' if turn.suspends else ''}"),
        )
    return Group(head, Text(), table)


def running(data: DrainShown, now: float) -> RenderableType:
    """The result of ``drain.status``: what is waited for; ``now`` in seconds since the epoch."""
    if data.then is None:
        return Text(_before(data), style="dim")
    if not data.turns:
        return Text(summary(data))
    table = Table.grid(padding=(0, 2))
    for _ in range(3):
        table.add_column(no_wrap=True, overflow="ellipsis")
    for turn in data.turns[:TURNS_SHOWN]:
        runs = f"runs for {span(now - turn.started_at)}"
        table.add_row(_label(turn), Text(f"worker {turn.worker}", style="dim"), Text(runs))
    more = data.count - min(len(data.turns), TURNS_SHOWN)
    return Group(Text(summary(data)), table, *([Text(f"and {more} more", style="dim")] if more > 0 else ()))


def _before(data: DrainShown) -> str:
    return PREPARING if data.preparing else NOT_BEGUN


def summary(data: DrainShown) -> str:
    """The same in one line."""
    count = data.count
    runs = "1 turn runs" if count == 1 else f"{count or 'no'} turn{'s run' if count else ' runs'}"
    queued = f", {data.queued} wait for afterwards" if data.queued else ""
    missing = f", no answer from {slots(data.missing)}" if data.missing else ""
    return f"{data.phase}: {runs}{queued}{missing}{left(data)}"


def outcome(drained: Drained, threshold: int) -> str:
    """How it went, with what became of the gateway.

    Args:
        drained: the result of ``drain``.
        threshold: with how many cuts in a row a session is suspended.
    """
    lines = [ENDS[drained.then]]
    suspended = drained.suspended
    resumed = [key for key in drained.cut if key not in set(suspended)]
    count = drained.marked - len(suspended)
    if count > 0:
        lines.append(f"cut at the deadline and marked, continue with their next message: {_named(count, resumed)}")
    elif not suspended and not drained.silent:
        lines.append("all turns finished")
    if drained.silent:
        who = slots(drained.silent)
        lines.append(f"{who} died or did not answer: their turns count as cut by a crash; see: {LEDGER}")
    if drained.waiting:
        sessions = "1 session" if drained.waiting == 1 else f"{drained.waiting} sessions"
        lines.append(f"messages waiting in {sessions} are kept, and run once the gateway serves")
    if drained.stateless:
        lines.append(f"cut conversations without a session: {drained.stateless}")
    if suspended:
        fresh = "will start fresh after the next restart" if drained.then is Then.HOLD else "starts fresh"
        lines.append(
            f"cut {threshold} times in a row: {_named(len(suspended), suspended)}: "
            f"the next message {fresh}; hermes-ctl sessions resume brings it back"
        )
    return "\n".join(lines)


def unsaid(then: Then) -> str:
    """The same where the supervisor ended before it said how it went."""
    return f"{ENDS[then]}\nthe supervisor ended before it reported the cut sessions; see: {LEDGER}"


ENDS = {
    "stop": "stopped",
    "restart": "restarted",
    "hold": "held: no turn starts until you cancel it with: hermes-ctl drain --cancel",
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
        self._shown: tuple[object, ...] = ()
        self._shown_at = -LINE_INTERVAL_S

    def show(self, data: DrainShown) -> None:
        """Tell it if it is new; before the drain has begun, once that it is prepared."""
        if data.then is None:
            if not self._shown:
                self._shown = (None,)
                self._write(_before(data))
            return
        news = (data.phase, data.count, data.queued)
        if news != self._shown and self._clock() - self._shown_at >= LINE_INTERVAL_S:
            self._shown, self._shown_at = news, self._clock()
            self._write(summary(data))


def _usual(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return span(seconds) if seconds >= 1 else "<1 s"


def _label(turn: RunningTurn | PlannedTurn) -> Text:
    return Text("(no session)" if turn.stateless else printable(turn.key))


def _named(count: int, keys: Sequence[str]) -> str:
    shown = [printable(key) for key in keys[:KEYS_SHOWN]]
    if count > len(shown):
        shown.append(f"and {count - len(shown)} more")
    return f"{count} ({', '.join(shown)})"
