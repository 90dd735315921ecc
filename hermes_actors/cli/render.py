"""Data to what people see: pure functions from results of operations to rich renderables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import click
from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Column, Table
from rich.text import Text

from hermes_actors.core.sessions.why import Story
from hermes_actors.operations.plain import to_plain
from hermes_actors.operations.results import (
    BrokenShard,
    Change,
    Connection,
    DrainFacts,
    LedgerFacts,
    Loss,
    SessionLine,
    SessionShown,
    Status,
    WorkerShown,
)
from hermes_actors.terminal import printable

PIPE_COLUMNS = 240  # width where there is no terminal: `grep` wants a row on one line
LONGEST_ROW = 2000
NOTHING = "-"

_STATE_STYLES = {
    **dict.fromkeys(("serving", "ready", "available", "up"), "green"),
    **dict.fromkeys(("starting", "draining", "held", "stopping", "restarting", "connecting", "waiting"), "yellow"),
    **dict.fromkeys(("killed", "given_up", "unavailable"), "red"),
}
_TOLD_APART = {"mcp", "marks", "suspended", "resume_pending", "resume_reason"}  # of a session
_TOLD_BELOW = ("last_error", "detail")  # of a connection: below the table
_WHEN = {"now": "now", "next_turn": "at the next turn", "restart": "only after a restart"}
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


class RowTable:
    """A table with a row a line: a narrower terminal wraps the line, and ids in it can still be read and copied."""

    def __init__(self, *names: str) -> None:
        self._table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
        for name in names:
            self._table.add_column(name)

    def add(self, *cells: Text) -> None:
        """One more row."""
        self._table.add_row(*cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self._table, options.update(max_width=LONGEST_ROW))


def console(*, stderr: bool = False) -> Console:
    """A console that colours on terminals alone, and not where ``NO_COLOR`` is set."""
    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = PIPE_COLUMNS
    return made


def write(drawn: RenderableType) -> None:
    """Print on stdout; without the blanks at the ends of lines where there is no terminal."""
    screen = console()
    if screen.is_terminal:
        screen.print(drawn, crop=False)
        return
    with screen.capture() as captured:
        screen.print(drawn, crop=False)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def status(data: Status, now: float) -> RenderableType:
    """The result of ``status``; ``now`` in seconds since the epoch."""
    total, broken = data.shards.total, data.shards.broken
    head = _facts(
        (
            ("phase", _state(data.phase)),
            ("version", _text(data.version)),
            ("pid", _text(data.pid)),
            ("up", _text(span(now - data.started_at))),
            ("home", _text(data.home)),
            ("http", _text(data.http and url(data.http.host, data.http.port))),
            *((("restart", _text("is being prepared", "yellow")),) if data.preparing else ()),
            *((("drain", _text(f"then {data.drain.then}{left(data.drain)}", "yellow")),) if data.drain else ()),
            ("sessions", _text(_counted(data))),
            ("shards", _text(f"{total}, {len(broken)} broken" if broken else total)),
        )
    )
    faults = (*map(_broken, broken), *map(_loss, data.losses), *_ledger_faults(data.ledger))
    return Group(head, *faults, Text(), workers(data.workers))


def left(drain: DrainFacts) -> str:
    """How long a drain waits, behind what else is said of it."""
    return f", {round(drain.left_s)} s left" if drain.left_s else ""


def slots(numbers: Sequence[int]) -> str:
    """Workers by their slots."""
    return f"worker{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def workers(rows: Iterable[WorkerShown]) -> RowTable:
    """The workers of a status."""
    counts = ("resident", "running", "queued", "turns", "mcp")
    table = RowTable("worker", "pid", "state", "shards", *counts, "heartbeat", "restarts", "last exit")
    for row in rows:
        age_s = row.heartbeat_age_s
        table.add(
            _text(row.slot),
            _text(row.pid),
            _state(row.state),
            _text(len(row.shards)),
            *(_text(getattr(row, name)) for name in counts),
            _text(None if age_s is None else f"{age_s:.1f} s ago"),
            _text(row.restarts),
            _text(row.last_exit),
        )
    return table


def sessions(rows: Iterable[SessionLine], now: float) -> RowTable:
    """A page of ``sessions list``."""
    table = RowTable("session", "id", "worker", "state", "mark", "strikes", "last active")
    for row in rows:
        table.add(
            *map(_text, (row.key, row.session_id, row.worker)),
            _state(row.state),
            _text(*_mark(row)),
            _text(row.strikes or None),
            _text(ago(row.last_active_at, now)),
        )
    return table


def strikes(rows: Iterable[Mapping[str, Any]], now: float) -> RowTable:
    """Entries of the ledger."""
    table = RowTable("session", "strikes", "causes", "last turn cut", "when")
    for row in rows:
        table.add(
            _text(row["key"]),
            _text(f"{row['strikes']} of {row['threshold']}"),
            _text(", ".join(row["causes"])),
            _text(row["last_cut"]),
            _text(ago(row["last_at"], now)),
        )
    return table


def session(data: SessionShown, now: float) -> RenderableType:
    """One session of ``sessions show``, with what its worker knows."""
    words, style = _mark(data)
    since = (ago(data.marks.at, now), data.marks.turn_id) if words else ()
    facts = [
        *((name, _fact(name, value, now)) for name, value in to_plain(data).items() if name not in _TOLD_APART),
        ("mark", _text(", ".join(filter(None, (words, *since))) or None, style)),
        *((("earlier transcript", _text(data.marks.former_id)),) if data.marks.former_id else ()),
    ]
    return Group(_facts(facts), Text(), connections(data.mcp, now)) if data.mcp else _facts(facts)


def connections(rows: Sequence[Connection], now: float) -> RenderableType:
    """The result of ``mcp``: a table, and below it why connections failed, each reason once."""
    if not rows:
        return plain("no connections")
    known = [{name: value for name, value in to_plain(row).items() if name not in _TOLD_BELOW} for row in rows]
    parts: list[RenderableType] = [_servers(known, now)]
    whys = {(row.last_error, row.detail): row.since for row in rows if row.last_error}
    for (why, detail), since in whys.items():
        parts += [Text(), plain(f"{why} ({ago(since, now)})"), *quoted(detail)]
    return Group(*parts)


def quoted(detail: str | None) -> Iterable[RenderableType]:
    """What a server itself said last."""
    if detail:
        yield plain("  the server said:")
        yield plain("\n".join(f"  | {line}" for line in detail.splitlines()))


def changes(rows: Sequence[Change]) -> RenderableType:
    """The result of ``reload``, by when each change applies."""
    if not rows:
        return _text("nothing changed")
    table = Table.grid(Column(overflow="fold"), Column(overflow="fold"), padding=(0, 2))
    for when, title in _WHEN.items():
        found = [row for row in rows if row.when == when]
        if found:
            table.add_row(_text(title, "bold"))
        for row in found:
            table.add_row(_text(f"  {row.key}"), _text(row.what))
    return table


def story(data: Story) -> RenderableType:
    """The answer to ``why``."""
    head = (
        f"{data.key}: {_words(data.standing)}, {data.strikes} of {data.threshold} strikes, transcript {data.session_id}"
    )
    parts: list[RenderableType] = [_text(head, "bold")]
    happened = Table.grid(Column(), Column(overflow="fold"), padding=(0, 2), pad_edge=True)
    for line in data.lines:
        happened.add_row(_text(_when(line.at)), _text(line.what))
        if line.rule:
            happened.add_row("", _text(line.rule, "dim"))
    if not (data.lines or data.strikes):
        happened.add_row(_text("Nothing was ever cut."))
    sections: tuple[tuple[str, Table], ...] = (
        ("what happened", happened),
        ("what happens next", _pairs((words, "") for words in data.next)),
        ("what you can do", _pairs((action.do, action.effect) for action in data.actions)),
        ("what would change it", _pairs((f"{one.key} = {one.value:g}", one.meaning) for one in data.settings)),
    )
    for title, table in sections:
        if table.row_count:
            parts += [_text(""), _text(title, "bold"), table]
    return Group(*parts)


def plain(text: str) -> Text:
    """A sentence that may name what users chose."""
    return _text(text)


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and values, a pair a line."""
    return _facts((name, _text(value)) for name, value in rows)


def url(host: str, port: int) -> str:
    """Where a client on this machine finds a listener of ours."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared with, not bound
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def ago(then: float | None, now: float) -> str | None:
    """How long ago a time was."""
    return None if then is None else f"{span(now - then)} ago"


def span(seconds: float) -> str:
    """A duration in its largest unit, rounded down."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def _text(value: Any, style: str = "") -> Text:
    """A value as text: never as markup, and without control characters."""
    return Text(NOTHING if value is None else printable(str(value)), style=style)


def _pairs(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(Column(overflow="fold"), Column(overflow="fold"), padding=(0, 2), pad_edge=True)
    for row in rows:
        table.add_row(*map(_text, row))
    return table


def _when(at: float) -> str:
    """A time on this machine's clock."""
    return f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M:%S}"


def _state(value: Any) -> Text:
    return _text(value, _STATE_STYLES.get(str(value), ""))


def _mark(row: SessionLine) -> tuple[str | None, str]:
    """Whether a session is marked, in words and style; None where it is not marked."""
    if row.suspended:
        return "suspended", "red"
    return (f"resume pending ({row.resume_reason})", "yellow") if row.resume_pending else (None, "")


def _fact(name: str, value: Any, now: float) -> Text:
    if (name == "since" or name.endswith("_at")) and isinstance(value, int | float):
        return _text(ago(value, now))
    if name == "state":
        return _state(value)
    if isinstance(value, Mapping):
        said = (f"{_words(inner)} {_fact(inner, known, now)}" for inner, known in value.items() if known is not None)
        return _text(", ".join(said) or None)
    return _text(value)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _facts(rows: Iterable[tuple[str, Text]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(_words(name), value)
    return table


def _servers(rows: Sequence[Any], now: float) -> RowTable:
    """Connections to tool servers."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = RowTable(*map(_words, names))
    for row in rows:
        table.add(*(_fact(name, row.get(name), now) for name in names))
    return table


def _counted(data: Status) -> str:
    """How many sessions there are, and how many of them are marked."""
    marked = (("suspended", data.suspended), ("resume pending", data.resume_pending))
    return ", ".join((str(data.sessions), *(f"{count} {words}" for words, count in marked if count)))


def _ledger_faults(ledger: LedgerFacts) -> Iterator[Text]:
    if ledger.fault:
        yield _text(f"strikes are kept only until this supervisor ends: {ledger.fault}", "red")
    if ledger.set_aside:
        yield _text(
            f"the ledger was corrupt; it starts empty, and the broken file is kept as {ledger.set_aside}", "red"
        )


def _broken(shard: BrokenShard) -> Text:
    serves = "continues with what is left" if shard.serving else "does not serve"
    return _text(f"shard {shard.shard} {serves}: {shard.why}{_kept('broken', shard.set_aside)}", "red")


def _loss(loss: Loss) -> Text:
    """Something that a file lost."""
    kept = _kept("damaged", loss.set_aside)
    if loss.shard is None:
        found = f"{loss.sessions or 'no'} session{'' if loss.sessions == 1 else 's'}"
        what = f"the registry was behind: {loss.why}; {found} found in the shard files"
    else:
        what = f"shard {loss.shard} lost {'all it had' if loss.what == 'all' else 'its end'}: {loss.why}"
    return _text(f"{_when(loss.at)}: {what}{kept}", "red")


def _kept(how: str, path: str | None) -> str:
    return f"; the {how} file is kept as {path}" if path else ""
