"""What every command has: ``--home``, ``--json``, and exit codes for scripts (docs/reference/exit-codes.md)."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeVar

import click

from hermes_actors.config.problems import ConfigError
from hermes_actors.home import Home, default_home
from hermes_actors.operations.operation import Operation
from hermes_actors.operations.plain import to_plain
from hermes_actors.operations.results import Collected
from hermes_actors.operators.client import NoAnswer, NotRunning, OperationFailed, ask
from hermes_actors.wire.refusals import RefusalCode

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")
C = TypeVar("C", bound=Collected)

READ = "read from the disk"
CHANGED = "changed on the disk"


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    MARKED = 3
    NO_SUPERVISOR = 4
    RESTART = 75  # EX_TEMPFAIL of sysexits.h; systemd: RestartForceExitStatus=75
    CONFIGURATION = 78  # EX_CONFIG of sysexits.h; systemd: RestartPreventExitStatus=78


class Failed(click.ClickException):
    """A command could not do its work; the text is for people, ``error`` for programs."""

    exit_code = Exit.FAILED

    def __init__(self, error: str, why: str) -> None:
        super().__init__(why)
        self.error = error


class NoSupervisor(Failed):
    """No supervisor answers."""

    exit_code = Exit.NO_SUPERVISOR


class BadConfiguration(Failed):
    """The configuration cannot be used."""

    exit_code = Exit.CONFIGURATION


class CliCommand(click.Command):
    """A command whose failures have an exit code each, and with ``--json`` are a JSON document too."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return self._work(ctx)
        except Failed as failed:
            if ctx.params.get("as_json") and ctx.invoked_subcommand is None:  # else the subcommand has printed it
                print_json({"error": {"code": failed.error, "why": failed.message}})
            raise

    def _work(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NotRunning as error:
            root = ctx.params["home"].root
            place = "" if root.is_dir() else ", and there is no such directory"
            start = f"hermes-supervisor start --home {root}"
            raise NoSupervisor("not_running", f"{error}{place}; start one with: {start}") from error
        except NoAnswer as error:
            raise NoSupervisor("no_answer", str(error)) from error
        except ConfigError as error:
            raise BadConfiguration("configuration", str(error)) from error
        except OperationFailed as error:
            if error.code == RefusalCode.CONFIGURATION:
                raise BadConfiguration(error.code, f"{error}\nNothing changed.") from error
            raise Failed(error.code, str(error)) from error


class Group(CliCommand, click.Group):
    """Commands below one that does something by itself; they take its options over."""


def home_option(command: F) -> F:
    """``--home``, as a :class:`Home`."""
    return click.option(
        "--home",
        type=click.Path(path_type=Path, readable=False),  # the reader has better words
        metavar="DIRECTORY",
        callback=lambda _ctx, _param, path: Home(path.expanduser().absolute()),
        default=default_home,
        show_default="$HERMES_ACTORS_HOME, else ~/.hermes-actors",
        help="The gateway's home: its configuration, state, sockets and logs.",
    )(command)


def json_option(command: F) -> F:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print only JSON on stdout, even for failures.")(
        command
    )


config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, readable=False),  # the reader has better words
    metavar="FILE",
    help="Another file than config.yaml of the home.",
)


def print_json(document: Any) -> None:
    """A document for machines, in ASCII, so that no locale can spoil it."""
    click.echo(json.dumps(document, indent=2))


def show(data: Any, as_json: bool, draw: Callable[[Any], Any]) -> None:
    """``data`` for machines, or what ``draw`` makes with :mod:`hermes_actors.cli.render` for people."""
    if as_json:
        print_json(to_plain(data))
        return
    from hermes_actors.cli import render

    render.write(draw(render))


def request(home: Home, operation: Operation[R], *, done: str = READ) -> R:
    """Request something of the supervisor; where none runs, do it on the disk, and say so on stderr.

    Args:
        home: whose.
        operation: one that :func:`hermes_actors.cli.disk.request` can do.
        done: what is said of the disk.

    Raises:
        NotRunning: there is no such home.
        NoAnswer, OperationFailed: see :func:`hermes_actors.operators.client.ask`.
    """
    try:
        return ask(home, operation)
    except NotRunning as absent:
        if not home.root.is_dir():
            raise
        from hermes_actors.cli import disk

        result = disk.request(home, operation)
        if done:
            click.echo(f"{absent}: {done}", err=True)
        return result


def from_workers(home: Home, operation: Operation[C]) -> C:
    """Request something that the supervisor collects from its workers; stderr names those that did not answer."""
    result = ask(home, operation)
    for slot in result.missing:
        click.echo(f"worker {slot} gave no answer", err=True)
    return result


def example(*lines: str) -> str:
    """The end of a command's help: what to type."""
    return "\n".join(("\b", "Examples:" if len(lines) > 1 else "Example:", *(f"  {line}" for line in lines)))
