"""Data to what people see: pure functions from replies of the control socket to rich renderables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Column, Table
from rich.text import Text

from hermes_actors.terminal import printable

PIPE_COLUMNS = 240  # width where there is no terminal: `grep` wants a row on one line
LONGEST_ROW = 2000
NOTHING = "-"

_STATE_STYLES = {
    **dict.fromkeys(("serving", "ready", "available", "up"), "green"),
    **dict.fromkeys(("starting", "stopping", "restarting", "connecting", "waiting"), "yellow"),
    **dict.fromkeys(("killed", "given_up", "unavailable"), "red"),
}
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
            ("sessions", _text(data.get("sessions"))),
            ("shards", _text(f"{total}, {len(broken)} broken" if broken else total)),
        )
    )
    return Group(head, *(_broken(shard) for shard in broken), Text(), workers(data.get("workers") or []))


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
    table = Rows("session", "id", "worker", "state", "last active")
    for row in rows:
        table.add(
            *(_text(row.get(name)) for name in ("key", "session_id", "worker")),
            _state(row.get("state")),
            _text(ago(row.get("last_active_at"), now)),
        )
    return table


def session(data: Mapping[str, Any], now: float) -> RenderableType:
    """One session of ``sessions show``, with what its worker knows."""
    facts = [(name, _fact(name, value, now)) for name, value in data.items() if name != "mcp"]
    servers = data.get("mcp") or []
    return Group(_facts(facts), Text(), _servers(servers, now)) if servers else _facts(facts)


def connections(rows: Sequence[Mapping[str, Any]], now: float) -> RenderableType:
    """The reply to ``mcp``."""
    return _servers(rows, now) if rows else _text("no connections")


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


def _state(value: Any) -> Text:
    return _text(value, _STATE_STYLES.get(str(value), ""))


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
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Rows(*map(_words, names))
    for row in rows:
        table.add(*(_fact(name, row.get(name), now) for name in names))
    return table


def _broken(shard: Mapping[str, Any]) -> Text:
    kept = f"; the broken file is kept as {shard['set_aside']}" if shard.get("set_aside") else ""
    serves = "goes on empty" if shard.get("serving") else "does not serve"
    return _text(f"shard {shard.get('shard')} {serves}: {shard.get('why')}{kept}", "red")
