"""``hermes-ctl sessions suspend``, ``resume``, ``reset`` and ``stop``."""

from __future__ import annotations

import click

from hermes_actors.cli.command import (
    CHANGED,
    CliCommand,
    example,
    from_workers,
    home_option,
    json_option,
    request,
    show,
)
from hermes_actors.home import Home
from hermes_actors.operations.requests import ResetSession, ResumeSession, SessionChange, StopTurn, SuspendSession


@click.command(cls=CliCommand, epilog=example("hermes-ctl sessions suspend cli"))
@click.argument("session")
@home_option
@json_option
def suspend(session: str, home: Home, as_json: bool) -> None:
    """Suspend SESSION: its next message starts a fresh transcript. The current one is kept."""
    _change(home, SuspendSession(session=session), as_json, "{key} is suspended; its transcript {session_id} is kept")


@click.command(cls=CliCommand, epilog=example("hermes-ctl sessions resume api:default:cli"))
@click.argument("session")
@home_option
@json_option
def resume(session: str, home: Home, as_json: bool) -> None:
    """Bring back the transcript of SESSION that a suspension set aside."""
    _change(home, ResumeSession(session=session), as_json, "{key} continues with its transcript {session_id}")


@click.command(
    cls=CliCommand,
    short_help="Start a fresh transcript, without marks and strikes.",
    epilog=example("hermes-ctl sessions reset cli"),
)
@click.argument("session")
@home_option
@json_option
def reset(session: str, home: Home, as_json: bool) -> None:
    """Start a fresh transcript in SESSION, without marks and strikes, as /reset does."""
    _change(home, ResetSession(session=session), as_json, "{key} continues with a fresh transcript, {session_id}")


@click.command(cls=CliCommand, epilog=example("hermes-ctl sessions stop cli"))
@click.argument("session")
@home_option
@json_option
def stop(session: str, home: Home, as_json: bool) -> None:
    """Stop the running turn of SESSION, as /stop does."""
    data = from_workers(home, StopTurn(session=session))
    show(data, as_json, lambda _: "stopped" if data.stopped else "no turn runs in it")


def _change(home: Home, change: SessionChange, as_json: bool, words: str) -> None:
    data = request(home, change, done=CHANGED)
    show(data, as_json, lambda render: render.plain(words.format(key=data.key, session_id=data.session_id)))
