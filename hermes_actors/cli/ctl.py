"""``hermes-ctl``: an operator's questions to a running gateway, and a conversation with it.

What costs time to import is imported by the command that needs it: rich takes 60 ms, aiohttp 170 ms, the readers of
the configuration 60 ms, where ``--help`` takes 70 ms in all.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from io import TextIOWrapper
from typing import Any, TextIO

import click

from hermes_actors.cli import marks
from hermes_actors.cli.command import (
    CliCommand,
    Failed,
    example,
    from_workers,
    home_option,
    json_option,
    print_json,
    request,
    show,
)
from hermes_actors.cli.drain import drain, restart, stop
from hermes_actors.cli.ledger import ledger
from hermes_actors.cli.mcp import mcp
from hermes_actors.cli.why import why
from hermes_actors.home import Home
from hermes_actors.operations.requests import ListAllSessions, Reload, ShowSession, ShowStatus
from hermes_actors.operators import client

PAGE = 50
LARGEST_PAGE = 500
DEFAULT_SESSION = "cli"
MAX_SESSION_NAME = 256  # characters of the header in which it travels

_GROUP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


@click.group(
    context_settings=_GROUP,
    epilog=example(
        "hermes-ctl status",
        'hermes-ctl chat -m "Hello"',
        "hermes-ctl why cli",
        "hermes-ctl drain --plan",
        "hermes-ctl restart",
    ),
)
@click.version_option(package_name="hermes-actors", prog_name="hermes-ctl")
def ctl() -> None:
    """Control a running gateway, and talk to it."""


@ctl.command(cls=CliCommand, epilog=example("hermes-ctl status", "hermes-ctl status --json | jq -r .phase"))
@home_option
@json_option
def status(home: Home, as_json: bool) -> None:
    """Show the supervisor, its workers, and what is broken."""
    data = client.ask(home, ShowStatus())
    show(data, as_json, lambda render: render.status(data, time.time()))


@ctl.command(cls=CliCommand, epilog=example("hermes-ctl workers"))
@home_option
@json_option
def workers(home: Home, as_json: bool) -> None:
    """Show the worker processes: their state, load and restarts."""
    rows = client.ask(home, ShowStatus()).workers
    show({"workers": rows}, as_json, lambda render: render.workers(rows))


@ctl.group()
def sessions() -> None:
    """List sessions, change their marks, and stop their turns.

    Without a running supervisor they are read, and their marks changed, on the disk.
    """


@sessions.command(
    "list",
    cls=CliCommand,
    epilog=example("hermes-ctl sessions list --limit 10", "hermes-ctl sessions list --all --json"),
)
@click.option(
    "--limit", type=click.IntRange(1, LARGEST_PAGE), default=PAGE, show_default=True, help="At most this many."
)
@click.option("--after", metavar="CURSOR", help="Continue after the page that named this cursor.")
@click.option("--all", "everything", is_flag=True, help="Print all pages.")
@home_option
@json_option
def list_sessions(limit: int, after: str | None, everything: bool, home: Home, as_json: bool) -> None:
    """List sessions, most recently active first."""
    page = request(home, ListAllSessions(limit=LARGEST_PAGE if everything else limit, after=after))
    rows = page.sessions
    while everything and page.next:
        page = request(home, ListAllSessions(limit=LARGEST_PAGE, after=page.next), done="")
        rows += page.sessions
    show({"sessions": rows, "next": page.next}, as_json, lambda render: render.sessions(rows, time.time()))
    if page.next:
        click.echo(f"more: add --after {page.next}", err=True)


@sessions.command(
    "show",
    cls=CliCommand,
    short_help="Show one session, with its worker's view of it.",
    epilog=example("hermes-ctl sessions show api:default:cli", "hermes-ctl sessions show cli"),
)
@click.argument("session")
@home_option
@json_option
def show_session(session: str, home: Home, as_json: bool) -> None:
    """Show one session: SESSION is its key, or a last part that only one key has."""
    data = request(home, ShowSession(session=session))
    show(data, as_json, lambda render: render.session(data, time.time()))


@ctl.command(cls=CliCommand, epilog=example("hermes-ctl reload", "hermes-ctl reload --json | jq -r '.changes[].key'"))
@home_option
@json_option
def reload(home: Home, as_json: bool) -> None:
    """Apply a changed configuration, and show what changes when. An invalid one changes nothing."""
    data = from_workers(home, Reload())
    show(data, as_json, lambda render: render.changes(data.changes))


for change in (marks.suspend, marks.resume, marks.reset, marks.stop):
    sessions.add_command(change)
for command in (drain, restart, stop, ledger, mcp, why):
    ctl.add_command(command)


def _session_name(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if not value.isprintable() or not value.strip() or len(value) > MAX_SESSION_NAME:
        raise click.BadParameter(f"a session's name is 1 to {MAX_SESSION_NAME} printable characters, not blanks alone")
    return value


@ctl.command(
    cls=CliCommand,
    epilog=example(
        "hermes-ctl chat", 'hermes-ctl chat work -m "What is left to do?"', "git diff | hermes-ctl chat -m -"
    ),
)
@click.argument("session", default=DEFAULT_SESSION, callback=_session_name)
@click.option("-m", "--message", metavar="TEXT", help="Send this, print the reply, and end; - reads it from stdin.")
@click.option("--key-env", metavar="NAME", help="The variable with the API key, in the environment or the home's .env.")
@home_option
@json_option
def chat(session: str, message: str | None, key_env: str | None, home: Home, as_json: bool) -> None:
    """Talk to SESSION (default: cli) over the gateway's HTTP API.

    Ctrl-C stops waiting for a reply, Ctrl-D ends. The address comes from the running supervisor, the key from the home.
    """
    if as_json and message is None:
        raise click.UsageError("--json needs one message: use -m")
    from hermes_actors.cli import endpoint, render, repl
    from hermes_actors.cli.chat import WRONG_KEY, ChatFailed, Endpoint

    url = endpoint.public_url(home)
    key = endpoint.api_key(home, key_env, os.environ)
    target = Endpoint(url=url, key=key.value, session=session)
    source = _forgiving(sys.stdin)
    screen = repl.Screen(_forgiving(sys.stdout), render.console(stderr=True))
    text = source.read() if message == "-" else message
    if text is not None and not text.strip():
        raise click.UsageError("the message is empty")
    try:
        if text is None:
            repl.converse(target, source, screen)
        elif as_json:
            print_json(repl.collect(target, text))
        else:
            repl.say(target, text, screen)
    except ChatFailed as failed:
        why = f"{failed} It is that of {key.origin}." if failed.code == WRONG_KEY else str(failed)
        raise Failed(failed.code, why) from failed
    except KeyboardInterrupt as let_go:
        raise Failed("interrupted", repl.LET_GO) from let_go


@ctl.command(cls=CliCommand, epilog=example("hermes-ctl attach work", "hermes-ctl attach work --json | tee turn.jsonl"))
@click.argument("session", callback=_session_name)
@click.option("--key-env", metavar="NAME", help="The variable with the API key, in the environment or the home's .env.")
@home_option
@json_option
def attach(session: str, key_env: str | None, home: Home, as_json: bool) -> None:
    """Show the turn that runs in SESSION live, from its beginning.

    Ctrl-C detaches, and the turn goes on. With --json each event is a line of JSON. Exit code 1 where no turn runs.
    """
    from hermes_actors.cli import attach as attaching
    from hermes_actors.cli import endpoint, render, repl
    from hermes_actors.cli.chat import WRONG_KEY, ChatFailed, Endpoint

    key = endpoint.api_key(home, key_env, os.environ)
    target = Endpoint(url=endpoint.public_url(home), key=key.value, session=session)
    screen = repl.Screen(_forgiving(sys.stdout), render.console(stderr=True))

    def show_event(data: dict[str, Any]) -> None:
        if as_json:
            click.echo(json.dumps(data))
        event = attaching.shown(data)
        if event is not None and not as_json:
            screen.show(event)

    try:
        with contextlib.nullcontext() if as_json else screen.waiting():
            attaching.attach(target, show_event)
    except attaching.NothingRuns as idle:
        raise Failed("nothing_runs", str(idle)) from idle
    except ChatFailed as failed:
        why = f"{failed} It is that of {key.origin}." if failed.code == WRONG_KEY else str(failed)
        raise Failed(failed.code, why) from failed
    except KeyboardInterrupt as let_go:
        raise Failed("interrupted", attaching.LET_GO) from let_go


def _forgiving(stream: TextIO) -> TextIO:
    """The stream, made to replace what its encoding does not have: a model may say anything, a diff hold any bytes."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="replace")
    return stream


def main() -> None:
    """The entry point of ``hermes-ctl``."""
    ctl()
