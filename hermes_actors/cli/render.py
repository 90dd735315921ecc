"""Data to what people see: pure functions from replies of the control socket to rich renderables."""

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


class Rows:
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


def status(data: Mapping[str, Any], now: float) -> RenderableType:
    """The reply to ``status``; ``now`` in seconds since the epoch."""
    http = data.get("http") or {}
    shards = data.get("shards") or {}
    broken = shards.get("broken") or []
    total = shards.get("total")
    head = _facts(
        (
            ("phase", _state(data.get("phase"))),
            ("version", _text(data.get("version"))),
            ("pid", _text(data.get("pid"))),
            ("up", _text(span(now - data["started_at"]) if data.get("started_at") else None)),
            ("home", _text(data.get("home"))),
            ("http", _text(url(http.get("host"), http.get("port")))),
            *((("restart", _text("is being prepared", "yellow")),) if data.get("preparing") else ()),
            *((("drain", _text(drain_line(data["drain"]), "yellow")),) if data.get("drain") else ()),
            ("sessions", _text(_counted(data))),
            ("shards", _text(f"{total}, {len(broken)} broken" if broken else total)),
        )
    )
    faults = (
        *(_broken(shard) for shard in broken),
        *map(_loss, data.get("losses") or ()),
        *_ledger_faults(data.get("ledger") or {}),
    )
    return Group(head, *faults, Text(), workers(data.get("workers") or []))


def drain_line(data: Mapping[str, Any]) -> str:
    """A drain in one line, as ``drain.status`` tells it."""
    count, left_s = data.get("count"), data.get("left_s")
    parts = [f"then {data['then']}"] if data.get("then") else []
    if count is not None:
        parts.append("1 turn runs" if count == 1 else f"{count or 'no'} turn{'s run' if count else ' runs'}")
    if data.get("queued"):
        parts.append(f"{data['queued']} wait for afterwards")
    if data.get("missing"):
        parts.append(f"no answer from {slots(data['missing'])}")
    if left_s:
        parts.append(f"{round(left_s)} s left")
    return ", ".join(parts)


def slots(numbers: Sequence[int]) -> str:
    """Workers by their slots."""
    return f"worker{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def workers(rows: Iterable[Mapping[str, Any]]) -> Rows:
    """The workers of a ``status`` reply."""
    counts = ("resident", "running", "queued", "turns", "mcp")
    table = Rows("worker", "pid", "state", "shards", *counts, "heartbeat", "restarts", "last exit")
    for row in rows:
        age_s = row.get("heartbeat_age_s")
        table.add(
            _text(row.get("slot")),
            _text(row.get("pid")),
            _state(row.get("state")),
            _text(len(row.get("shards") or ())),
            *(_text(row.get(name)) for name in counts),
            _text(None if age_s is None else f"{age_s:.1f} s ago"),
            _text(row.get("restarts")),
            _text(row.get("last_exit")),
        )
    return table


def sessions(rows: Iterable[Mapping[str, Any]], now: float) -> Rows:
    """A page of ``sessions list``."""
    table = Rows("session", "id", "worker", "state", "mark", "strikes", "last active")
    for row in rows:
        table.add(
            *(_text(row.get(name)) for name in ("key", "session_id", "worker")),
            _state(row.get("state")),
            _mark(row),
            _text(row.get("strikes") or None),
            _text(ago(row.get("last_active_at"), now)),
        )
    return table


def strikes(rows: Iterable[Mapping[str, Any]], now: float) -> Rows:
    """Entries of the ledger."""
    table = Rows("session", "strikes", "causes", "last turn cut", "when")
    for row in rows:
        table.add(
            _text(row["key"]),
            _text(f"{row['strikes']} of {row['threshold']}"),
            _text(", ".join(row["causes"])),
            _text(row["last_cut"]),
            _text(ago(row["last_at"], now)),
        )
    return table


def session(data: Mapping[str, Any], now: float) -> RenderableType:
    """One session of ``sessions show``, with what its worker knows."""
    former = (data.get("marks") or {}).get("former_id")
    facts = [
        *((name, _fact(name, value, now)) for name, value in data.items() if name not in _TOLD_APART),
        ("mark", _mark(data, now)),
        *((("earlier transcript", _text(former)),) if former else ()),
    ]
    known = data.get("mcp") or []
    return Group(_facts(facts), Text(), connections(known, now)) if known else _facts(facts)


def connections(rows: Sequence[Mapping[str, Any]], now: float) -> RenderableType:
    """The reply to ``mcp``: a table, and below it why connections failed, each reason once."""
    if not rows:
        return plain("no connections")
    known = [{name: value for name, value in row.items() if name not in _TOLD_BELOW} for row in rows]
    parts: list[RenderableType] = [_servers(known, now)]
    whys = {(row["last_error"], row.get("detail")): row for row in rows if row.get("last_error")}
    for (why, detail), row in whys.items():
        parts += [Text(), plain(f"{why} ({ago(row['since'], now)})"), *quoted(detail)]
    return Group(*parts)


def quoted(detail: str | None) -> Iterable[RenderableType]:
    """What a server itself said last."""
    if detail:
        yield plain("  the server said:")
        yield plain("\n".join(f"  | {line}" for line in detail.splitlines()))


def changes(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The reply to ``reload``, by when it takes effect."""
    if not rows:
        return _text("nothing changed")
    table = Table.grid(Column(overflow="fold"), Column(overflow="fold"), padding=(0, 2))
    for when, title in _WHEN.items():
        found = [row for row in rows if row.get("when") == when]
        if found:
            table.add_row(_text(title, "bold"))
        for row in found:
            table.add_row(_text(f"  {row.get('key')}"), _text(row.get("what")))
    return table


def story(told: Story) -> RenderableType:
    """The answer to ``why``."""
    head = (
        f"{told.key}: {_words(told.standing)}, {told.strikes} of {told.threshold} strikes, transcript {told.session_id}"
    )
    parts: list[RenderableType] = [_text(head, "bold")]
    happened = Table.grid(Column(), Column(overflow="fold"), padding=(0, 2), pad_edge=True)
    for line in told.lines:
        happened.add_row(_text(_when(line.at)), _text(line.what))
        if line.rule:
            happened.add_row("", _text(line.rule, "dim"))
    if not (told.lines or told.strikes):
        happened.add_row(_text("Nothing was ever cut."))
    sections: tuple[tuple[str, Table], ...] = (
        ("what happened", happened),
        ("what happens next", _pairs((words, "") for words in told.next)),
        ("what you can do", _pairs((action.do, action.effect) for action in told.actions)),
        ("what would change it", _pairs((f"{one.key} = {one.value:g}", one.meaning) for one in told.settings)),
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


def url(host: str | None, port: int | None) -> str | None:
    """Where a client on this machine finds a listener of ours."""
    if not host or not port:
        return None
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


def _mark(row: Mapping[str, Any], now: float | None = None) -> Text:
    """How a session stands; with a time, also since when, and for which turn."""
    if row.get("suspended"):
        words, style = "suspended", "red"
    elif row.get("resume_pending"):
        words, style = f"resume pending ({row.get('resume_reason')})", "yellow"
    else:
        return _text(None)
    marks = row.get("marks") or {}
    since = () if now is None else (ago(marks.get("at"), now), marks.get("turn_id"))
    return _text(", ".join(filter(None, (words, *since))), style)


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


def _servers(rows: Sequence[Any], now: float) -> Rows:
    """Connections to tool servers."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Rows(*map(_words, names))
    for row in rows:
        table.add(*(_fact(name, row.get(name), now) for name in names))
    return table


def _counted(data: Mapping[str, Any]) -> str | None:
    """How many sessions there are, and how many of them are marked."""
    if data.get("sessions") is None:
        return None
    marked = (f"{data[name]} {_words(name)}" for name in ("suspended", "resume_pending") if data.get(name))
    return ", ".join((str(data["sessions"]), *marked))


def _ledger_faults(ledger: Mapping[str, Any]) -> Iterator[Text]:
    if ledger.get("fault"):
        yield _text(f"strikes are only remembered until the end of this supervisor: {ledger['fault']}", "red")
    if ledger.get("set_aside"):
        yield _text(f"the ledger was corrupt and began anew; the broken file is kept as {ledger['set_aside']}", "red")


def _broken(shard: Mapping[str, Any]) -> Text:
    kept = f"; the broken file is kept as {shard['set_aside']}" if shard.get("set_aside") else ""
    serves = "goes on with what is left" if shard.get("serving") else "does not serve"
    return _text(f"shard {shard.get('shard')} {serves}: {shard.get('why')}{kept}", "red")


def _loss(loss: Mapping[str, Any]) -> Text:
    """Something that a file lost, as ``status`` tells it."""
    when = _when(loss["at"])
    kept = f"; the damaged file is kept as {loss['set_aside']}" if loss.get("set_aside") else ""
    if loss.get("shard") is None:
        found = f"{loss.get('sessions') or 'no'} session{'' if loss.get('sessions') == 1 else 's'}"
        return _text(
            f"{when}: the registry was behind: {loss.get('why')}; {found} found in the shard files{kept}", "red"
        )
    gone = "all it had" if loss.get("what") == "all" else "its end"
    return _text(f"{when}: shard {loss['shard']} lost {gone}: {loss.get('why')}{kept}", "red")
