"""``hermes-ctl ledger``: who was cut how often. It is read from the disk, whether a supervisor runs or not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from hermes_actors.cli.command import CHANGED, CliCommand, Failed, example, home_option, json_option, request, show
from hermes_actors.home import Home
from hermes_actors.operations.requests import ClearStrikes
from hermes_actors.operators.client import NotRunning

if TYPE_CHECKING:
    from hermes_actors.core.sessions.ledger import Entry


@click.group(short_help="Show and clear strikes.")
def ledger() -> None:
    """Show and clear strikes: how often in a row a restart or a crash cut a session's running turn."""


@ledger.command(
    "show",
    cls=CliCommand,
    short_help="Show sessions with strikes: how many, and why.",
    epilog=example("hermes-ctl ledger show", "hermes-ctl ledger show api:default:cli --json"),
)
@click.argument("session", required=False)
@home_option
@json_option
def show_ledger(session: str | None, home: Home, as_json: bool) -> None:
    """Show the strikes of SESSION (its key, or a last part that only one has), or of all sessions that have some."""
    from hermes_actors.config.load import stored

    entries = _entries(home)
    keys = sorted(entries) if session is None else [_meant(home, session, entries)]
    none = "no strikes" if session is None else f"{keys[0]} has no strikes"
    threshold = stored(home).supervisor.stuck_threshold
    rows = [_row(key, entries[key], threshold) for key in keys if key in entries]
    show({"sessions": rows}, as_json, lambda render: render.strikes(rows, time.time()) if rows else render.plain(none))


@ledger.command("clear", cls=CliCommand, epilog=example("hermes-ctl ledger clear cli", "hermes-ctl ledger clear --all"))
@click.argument("session", required=False)
@click.option("--all", "everything", is_flag=True, help="The strikes of all sessions.")
@home_option
@json_option
def clear(session: str | None, everything: bool, home: Home, as_json: bool) -> None:
    """Clear the strikes of SESSION, or of all. Marks stay; hermes-ctl sessions resume lifts a suspension."""
    if (session is None) == (not everything):
        raise click.UsageError("name one session, or use --all")
    key = None if session is None else _meant(home, session, _entries(home))
    data = request(home, ClearStrikes(session=key), done=CHANGED)
    show(data, as_json, lambda render: render.plain(f"cleared: {', '.join(data.cleared) or 'there were no strikes'}"))


def _entries(home: Home) -> dict[str, Entry]:
    """The ledger on disk; no file is no strikes.

    Raises:
        Failed: it cannot be read.
        NotRunning: there is no such home.
    """
    if not home.root.is_dir():
        raise NotRunning(f"no supervisor runs on {home.root}")
    from hermes_actors.records.ledger_file import LedgerUnusable, read

    try:
        return dict(read(home.ledger).entries)
    except LedgerUnusable as error:
        raise Failed("unreadable", str(error)) from error


def _meant(home: Home, session: str, entries: dict[str, Entry]) -> str:
    """The key that is named, in full or by a last part: of a session with strikes, else of any.

    Raises:
        Failed, RequestFailed: there is none, or several.
    """
    from hermes_actors.core.sessions.names import ambiguous

    found = [session] if session in entries else sorted(key for key in entries if key.endswith(f":{session}"))
    if not found:
        from hermes_actors.cli import disk

        return disk.found(home, session).key
    if len(found) > 1:
        several = ambiguous(session, found)
        raise Failed(several.code, str(several))
    return found[0]


def _row(key: str, entry: Entry, threshold: int) -> dict[str, Any]:
    return {
        "key": key,
        "strikes": entry.count,
        "threshold": threshold,
        "causes": list(entry.causes),
        "last_cut": entry.last_cut,
        "last_at": entry.last_at,
    }
