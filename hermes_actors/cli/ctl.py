"""``hermes-ctl``: an operator's questions to a running gateway, and a conversation with it.

What costs time to import is imported by the command that needs it: rich takes 60 ms, aiohttp 170 ms, the readers of
the configuration 60 ms, where ``--help`` takes 70 ms in all.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from io import TextIOWrapper
from typing import Any, TextIO

import click

from hermes_actors.cli.command import (
    BadConfiguration,
    Command,
    Failed,
    Group,
    example,
    home_option,
    json_option,
    print_json,
)
from hermes_actors.control import client
from hermes_actors.home import Home

STOP_S = 300.0  # well above agent.restart_drain_timeout: a clean stop must not look like a failed one
PAGE = 50
LARGEST_PAGE = 500
DEFAULT_SESSION = "cli"
MAX_SESSION_NAME = 256  # characters of the header in which it travels

_GROUP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


@click.group(context_settings=_GROUP, epilog=example("hermes-ctl status", 'hermes-ctl chat -m "Hello"'))
@click.version_option(package_name="hermes-actors", prog_name="hermes-ctl")
def ctl() -> None:
    """Look after a running gateway, and talk to it."""


@ctl.command(cls=Command, epilog=example("hermes-ctl status", "hermes-ctl status --json | jq -r .phase"))
@home_option
@json_option
def status(home: Home, as_json: bool) -> None:
    """Show the supervisor, its workers, and what is broken."""
    data = client.ask(home, "status")
    _show(data, as_json, lambda render: render.status(data, time.time()))


@ctl.command(cls=Command, epilog=example("hermes-ctl workers"))
@home_option
@json_option
def workers(home: Home, as_json: bool) -> None:
    """Show the worker processes: their state, load and restarts."""
    rows = client.ask(home, "status")["workers"]
    _show({"workers": rows}, as_json, lambda render: render.workers(rows))


@ctl.group()
def sessions() -> None:
    """Find sessions. Without a running supervisor they are read from the disk."""


@sessions.command(
    "list", cls=Command, epilog=example("hermes-ctl sessions list --limit 10", "hermes-ctl sessions list --all --json")
)
@click.option(
    "--limit", type=click.IntRange(1, LARGEST_PAGE), default=PAGE, show_default=True, help="At most this many."
)
@click.option("--after", metavar="CURSOR", help="Go on after the page that named this cursor.")
@click.option("--all", "everything", is_flag=True, help="Page by page until the end.")
@home_option
@json_option
def list_sessions(limit: int, after: str | None, everything: bool, home: Home, as_json: bool) -> None:
    """List sessions, those active last first."""
    ask = _knowing(home)
    page = ask("sessions.list", limit=LARGEST_PAGE if everything else limit, after=after)
    rows = list(page["sessions"])
    while everything and page["next"]:
        page = ask("sessions.list", limit=LARGEST_PAGE, after=page["next"])
        rows += page["sessions"]
    _show({**page, "sessions": rows}, as_json, lambda render: render.sessions(rows, time.time()))
    if page["next"]:
        click.echo(f"more: add --after {page['next']}", err=True)


@sessions.command(
    "show", cls=Command, epilog=example("hermes-ctl sessions show api:default:cli", "hermes-ctl sessions show cli")
)
@click.argument("session")
@home_option
@json_option
def show_session(session: str, home: Home, as_json: bool) -> None:
    """Show one session: SESSION is its key, or a last part that only one key has."""
    data = _knowing(home)("sessions.show", session=session)
    _show(data, as_json, lambda render: render.session(data, time.time()))


@ctl.group(cls=Group, invoke_without_command=True, epilog=example("hermes-ctl mcp", "hermes-ctl mcp restart files"))
@home_option
@json_option
@click.pass_context
def mcp(context: click.Context, home: Home, as_json: bool) -> None:
    """Show the connections to MCP servers, of all workers."""
    if context.invoked_subcommand is not None:
        context.default_map = {context.invoked_subcommand: {"home": home.root, "as_json": as_json}}
        return
    data = _workers_asked(home, "mcp")
    _show(data, as_json, lambda render: render.connections(data["connections"], time.time()))


@mcp.command("restart", cls=Command, epilog=example("hermes-ctl mcp restart files"))
@click.argument("name")
@home_option
@json_option
def restart_mcp(name: str, home: Home, as_json: bool) -> None:
    """End all connections to the MCP server NAME.

    What they started ends too; they are made again when a turn needs them.
    """
    data = _workers_asked(home, "mcp.restart", server=name)
    _show(data, as_json, lambda _: f"connections of {name} restarted: {data['restarted']}")


@ctl.command(cls=Command, epilog=example("hermes-ctl reload", "hermes-ctl reload --json | jq -r '.changes[].key'"))
@home_option
@json_option
def reload(home: Home, as_json: bool) -> None:
    """Take a changed configuration over, and say what changes when. A bad one changes nothing."""
    try:
        data = _workers_asked(home, "reload")
    except client.ControlFailed as error:
        if error.code != "configuration":
            raise
        raise BadConfiguration(error.code, f"{error}\nNothing changed.") from error
    _show(data, as_json, lambda render: render.changes(data["changes"]))


@ctl.command(cls=Command, epilog=example("hermes-ctl stop", "hermes-ctl stop --now --timeout 20"))
@click.option("--now", is_flag=True, help="Give running turns no time to finish.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=STOP_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait until the supervisor is gone.",
)
@home_option
@json_option
def stop(now: bool, timeout: float, home: Home, as_json: bool) -> None:
    """Stop the gateway, and wait until it is gone.

    No turn is begun any more; running ones get the configured time to finish.
    """
    with _spinner("stopping: running turns may finish" if not now else "stopping", quiet=as_json):
        gone = client.stop(home, now=now, timeout_s=timeout)
    if not gone:
        raise Failed("timeout", f"not gone after {timeout:g} s; it goes on stopping. Look with: hermes-ctl status")
    if as_json:
        print_json({"stopped": True})
    else:
        click.echo("stopped")


def _session_name(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if not value.isprintable() or not value.strip() or len(value) > MAX_SESSION_NAME:
        raise click.BadParameter(f"a session's name is 1 to {MAX_SESSION_NAME} printable characters, not blanks alone")
    return value


@ctl.command(
    cls=Command,
    epilog=example(
        "hermes-ctl chat", 'hermes-ctl chat work -m "What is left to do?"', "git diff | hermes-ctl chat -m -"
    ),
)
@click.argument("session", default=DEFAULT_SESSION, callback=_session_name)
@click.option("-m", "--message", metavar="TEXT", help="Say this, print the reply, and end; - reads it from stdin.")
@click.option("--key-env", metavar="NAME", help="The variable with the API key, in the environment or the home's .env.")
@home_option
@json_option
def chat(session: str, message: str | None, key_env: str | None, home: Home, as_json: bool) -> None:
    """Talk to SESSION (default: cli) over the gateway's HTTP API.

    Ctrl-C lets go of a reply, Ctrl-D ends. The address comes from the running supervisor, the key from the home.
    """
    if as_json and message is None:
        raise click.UsageError("--json wants one message: use -m")
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


def _knowing(home: Home) -> Callable[..., dict[str, Any]]:
    """Whom to ask about sessions: the supervisor, or the disk where none runs."""
    try:
        with client.connect(home):
            return partial(client.ask, home)
    except client.NotRunning as error:
        if not home.root.is_dir():
            raise
        from hermes_actors.cli import disk

        click.echo(f"{error}: read from the disk", err=True)
        return partial(disk.ask, home)


def _workers_asked(home: Home, operation: str, **arguments: Any) -> dict[str, Any]:
    """What the supervisor learns from its workers; those that said nothing are told."""
    data = client.ask(home, operation, **arguments)
    for slot in data.get("missing", ()):
        click.echo(f"worker {slot} gave no answer", err=True)
    return data


def _show(data: Any, as_json: bool, draw: Callable[[Any], Any]) -> None:
    """``data`` for machines, or what ``draw`` makes with :mod:`hermes_actors.cli.render` for people."""
    if as_json:
        print_json(data)
        return
    from hermes_actors.cli import render

    render.console().print(draw(render), crop=False)


def _forgiving(stream: TextIO) -> TextIO:
    """The stream, made to replace what its encoding does not have: a model may say anything, a diff hold any bytes."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="replace")
    return stream


def _spinner(text: str, *, quiet: bool) -> contextlib.AbstractContextManager[Any]:
    if quiet or not sys.stderr.isatty():
        return contextlib.nullcontext()
    from hermes_actors.cli import render

    return render.console(stderr=True).status(text)


def main() -> None:
    """The entry point of ``hermes-ctl``."""
    ctl()
