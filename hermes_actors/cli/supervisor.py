"""``hermes-supervisor``: runs a gateway in the foreground, for a service manager or a person."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import click
from rich.console import Group
from rich.text import Text

from hermes_actors import logs
from hermes_actors.cli.command import (
    BadConfiguration,
    CliCommand,
    Exit,
    Failed,
    config_option,
    example,
    home_option,
    json_option,
    print_json,
)
from hermes_actors.cli.probe_view import is_bad, report, verdict
from hermes_actors.cli.render import console, facts, write
from hermes_actors.cli.unit import unit
from hermes_actors.cli.welcome import welcome
from hermes_actors.config.load import load, summary
from hermes_actors.config.model import MAX_WORKERS, Settings
from hermes_actors.config.problems import ConfigError
from hermes_actors.config.programs import missing_programs
from hermes_actors.home import Home
from hermes_actors.pool.probe import ProbeFailed, probe
from hermes_actors.restart.dry_run import asked_for, check
from hermes_actors.restart.handover import CommandLine, Handover, HandoverUnusable, take
from hermes_actors.supervisor.home_lock import refuse_foreign
from hermes_actors.supervisor.service import (
    HomeBusy,
    HomeUnusable,
    ListenFailed,
    RegistryUnusable,
    Serving,
    ShardsFixed,
    SupervisorFailed,
    TooManyWorkers,
    serve,
)


class WorkerCount(click.ParamType["int | Literal['auto']"]):
    """A number of processes, or ``auto``: one a core."""

    name = "workers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | Literal["auto"]:
        if value == "auto":
            return "auto"
        if not str(value).isdecimal() or not 1 <= int(value) <= MAX_WORKERS:
            self.fail(f"{value!r} is neither a number from 1 to {MAX_WORKERS} nor auto", param, ctx)
        return int(value)


class NotRestarted(Failed):
    """A restart in place was begun and cannot be ended: a new process may do better."""

    exit_code = Exit.RESTART


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=example("hermes-supervisor start --demo"))
@click.version_option(package_name="hermes-actors", prog_name="hermes-supervisor")
def supervisor() -> None:
    """Run a gateway for AI-agent sessions on every core of this machine."""


@supervisor.command(
    cls=CliCommand,
    epilog=example("hermes-supervisor start --demo", "hermes-supervisor start --home /srv/gw --workers 4"),
)
@click.option(
    "--workers",
    type=WorkerCount(),
    metavar="N|auto",
    help="Worker processes, instead of supervisor.workers of the configuration.",
)
@config_option
@click.option("--demo", is_flag=True, help="Use the built-in model, which needs no key, and make an API key if needed.")
@click.option("--log-level", type=click.Choice(get_args(logs.Level)), help="Level of our own loggers. [default: info]")
@click.option(
    "--log-format",
    type=click.Choice(get_args(logs.Format)),
    help="Format on stderr; auto: console on a terminal, else json. [default: auto]",
)
@home_option
def start(
    workers: int | Literal["auto"] | None,
    config_path: Path | None,
    demo: bool,
    log_level: logs.Level | None,
    log_format: logs.Format | None,
    home: Home,
) -> None:
    """Run the gateway in the foreground until it is stopped.

    SIGTERM, Ctrl-C and hermes-ctl stop let running turns finish; a second signal stops at once.
    SIGHUP and hermes-ctl reload apply a changed configuration.
    """
    try:
        inherited = take()
    except HandoverUnusable as error:
        raise NotRestarted("not_restarted", str(error)) from error
    rehearsed = asked_for()
    with _failures_reported():
        refuse_foreign(home)  # a demo key would be written there, and a configuration believed
    command = CommandLine.of_this_process()  # before the environment is hidden from workers while they start
    read = partial(_read, home, config_path, workers, environ=command.environment, demo=demo)
    if rehearsed is not None:
        with _failures_reported():
            check(read(), rehearsed)
        return
    log = partial(logs.configure, process="supervisor", directory=home.logs, level=log_level, format=log_format)
    handover = _live(home, read, log, command, inherited)
    if handover is not None:
        try:
            handover.exec(command)
        except OSError as error:
            why = f"{command.words[0]} cannot be run again: {error.strerror}"
            raise NotRestarted("not_restarted", why) from error


def _live(
    home: Home,
    read: Callable[[], Settings],
    log: Callable[[], None],
    command: CommandLine,
    inherited: Handover | None,
) -> Handover | None:
    """One life of the supervisor; what it leaves to a next one, if that was wanted.

    Raises:
        ConfigError: the configuration cannot be used.
        Failed: it did not start, or it failed.
    """
    served = False

    def ready(serving: Serving) -> None:
        nonlocal served
        served = True
        if sys.stdout.isatty():
            console().print(welcome(settings, home, serving, os.environ), soft_wrap=True)

    try:
        settings = read()
        logs.protect([*settings.api_keys.values(), *settings.environment.values()])
        log()
        with _failures_reported():
            return serve(settings, home, ready=ready, reload=read, command=command, inherited=inherited)
    except (ConfigError, Failed) as error:
        if inherited is None or served:
            raise
        raise NotRestarted("not_restarted", f"the gateway did not start again: {error}") from error


@contextlib.contextmanager
def _failures_reported() -> Iterator[None]:
    """What a start fails of, with its exit code."""
    try:
        yield
    except (ShardsFixed, TooManyWorkers) as error:
        raise BadConfiguration("configuration", str(error)) from error
    except (HomeBusy, HomeUnusable, RegistryUnusable, ListenFailed, SupervisorFailed) as error:
        raise Failed("not_started", str(error)) from error


@supervisor.command(
    "check-config",
    cls=CliCommand,
    epilog=example("hermes-supervisor check-config --home /srv/gw", "hermes-supervisor check-config --probe"),
)
@config_option
@click.option(
    "--probe",
    "probes",
    is_flag=True,
    help="Also ask each model some short questions and start each tool server once. Exit code 1: something would "
    "fail in every turn.",
)
@home_option
@json_option
def check_config(config_path: Path | None, probes: bool, home: Home, as_json: bool) -> None:
    """Check the configuration, and print a summary."""
    settings = load(home, config_path=config_path, environ=os.environ, demo=False)
    rows = summary(settings)
    warnings = [str(problem) for problem in missing_programs(settings, os.environ)]
    if not as_json:
        console().print(facts(rows))
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    reports = _probed(settings, home, shown=not as_json) if probes else []
    if as_json:
        named = [{"name": name, "value": value} for name, value in rows]
        print_json({"summary": named, "warnings": warnings} | ({"probe": reports} if probes else {}))
    elif probes:
        click.echo(f"\n{verdict(reports)}")
    if is_bad(reports):
        click.get_current_context().exit(Exit.FAILED)


def _probed(settings: Settings, home: Home, *, shown: bool) -> list[dict[str, Any]]:
    """The reports of a trial, each shown when it comes.

    Raises:
        Failed: the trial broke off.
    """
    reports = []
    waiting = console(stderr=True).status("Asking the models and starting the tool servers …")
    with contextlib.ExitStack() as stack:
        if sys.stderr.isatty():
            stack.enter_context(waiting)
        try:
            for told in probe(settings, home=home.root):
                reports.append(told)
                if shown:
                    write(Group(Text(), report(told)))
        except ProbeFailed as error:
            raise Failed("probe_failed", str(error)) from error
    return reports


supervisor.add_command(unit)


def _read(
    home: Home,
    config_path: Path | None,
    workers: int | Literal["auto"] | None,
    *,
    environ: Mapping[str, str],
    demo: bool,
) -> Settings:
    """The configuration as this command line wants it.

    Raises:
        ConfigError: it cannot be used.
    """
    settings = load(home, config_path=config_path, environ=environ, demo=demo)
    if workers is None:
        return settings
    section = settings.config.supervisor.model_copy(update={"workers": workers})
    return replace(settings, config=settings.config.model_copy(update={"supervisor": section}))
