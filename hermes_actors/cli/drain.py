"""``hermes-ctl drain``, ``restart`` and ``stop``: planned ends, watched until they are over."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from hermes_actors.cli.command import (
    CliCommand,
    Exit,
    Failed,
    example,
    from_workers,
    home_option,
    json_option,
    print_json,
    show,
)
from hermes_actors.home import Home
from hermes_actors.operations.plain import fields_of, to_plain
from hermes_actors.operations.requests import BeginDrain, CancelDrain, PlanDrain, ShowDrain, ShowStatus
from hermes_actors.operations.results import Drained, DrainShown, Status, Then
from hermes_actors.operators import client
from hermes_actors.wire.ownership import HOME_VARIABLE, SESSION_VARIABLE

STOP_S = 300.0  # well above agent.restart_drain_timeout: a clean stop must not look like a failed one
POLL_S = 0.5  # between two looks at what still runs
BEGIN_S = 60.0  # for a drain to have begun: before a restart, the new start is tried
MARGIN_S = 60.0  # beyond the time that a drain has left, for the supervisor to say how it went
END_S = 30.0  # for a supervisor that has said so to be gone
SUCCESSOR_S = 120.0  # for the next one to serve

LONGEST_S = 366 * 86_400.0  # of a time on a command line

LET_GO = "No longer waiting; the drain continues. See: hermes-ctl status. Cancel: hermes-ctl drain --cancel"
UNTOLD = "the supervisor ended without a result; see: hermes-ctl ledger show"

_ENDED = {Then.STOP: "stopped", Then.RESTART: "restarted", Then.HOLD: "held"}


class Seconds(click.FloatRange):
    """A time that ends: not ``nan``, and at most :data:`LONGEST_S`."""

    name = "number of seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = float(super().convert(value, param, ctx))
        if not seconds <= LONGEST_S:
            self.fail(f"{value!r} is no number of seconds, at most 366 days.", param, ctx)
        return seconds


timeout_option = click.option(
    "--timeout",
    type=Seconds(0),
    metavar="SECONDS",
    help="Time for running turns; 0: none. [default: agent.restart_drain_timeout]",
)


@click.command(
    cls=CliCommand,
    short_help="Let running turns finish, mark the rest, then stop.",
    epilog=example("hermes-ctl drain --plan", "hermes-ctl drain --timeout 300", "hermes-ctl drain --restart --json"),
)
@timeout_option
@click.option(
    "--restart", is_flag=True, help="Instead of stopping: restart in place, with the code and configuration on disk."
)
@click.option("--hold", is_flag=True, help="Stay up without turns, instead of stopping, until --cancel.")
@click.option("--cancel", is_flag=True, help="Allow turns again, during a drain or after one with --hold.")
@click.option("--plan", is_flag=True, help="Estimate which turns would finish or be cut, and change nothing.")
@home_option
@json_option
def drain(
    timeout: float | None, restart: bool, hold: bool, cancel: bool, plan: bool, home: Home, as_json: bool
) -> None:
    """Start no new turns, let running ones finish, mark the rest, then stop.

    Waits until the supervisor is gone, holds, or has restarted. Exits with 3 if sessions had to be cut.
    Ctrl-C stops waiting; the drain goes on.
    """
    if restart + hold + cancel > 1:
        raise click.UsageError("--restart, --hold and --cancel exclude each other")
    if cancel and (plan or timeout is not None):
        raise click.UsageError("--cancel takes neither --plan nor --timeout")
    if cancel:
        client.ask(home, CancelDrain())
        show({"cancelled": True}, as_json, lambda _: "cancelled: turns start again")
    elif plan:
        _show_plan(home, timeout, as_json)
    else:
        _drain(home, timeout, Then.RESTART if restart else Then.HOLD if hold else Then.STOP, as_json)


@click.command(cls=CliCommand, epilog=example("hermes-ctl restart", "hermes-ctl restart --timeout 0"))
@timeout_option
@home_option
@json_option
def restart(timeout: float | None, home: Home, as_json: bool) -> None:
    """Restart the gateway in place, as drain --restart does. No connection is refused."""
    _drain(home, timeout, Then.RESTART, as_json)


@click.command(cls=CliCommand, epilog=example("hermes-ctl stop", "hermes-ctl stop --now --timeout 20"))
@click.option("--now", is_flag=True, help="Give running turns no time to finish.")
@click.option(
    "--timeout",
    type=Seconds(0, min_open=True),
    default=STOP_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait until the supervisor has ended.",
)
@home_option
@json_option
def stop(now: bool, timeout: float, home: Home, as_json: bool) -> None:
    """Stop the gateway, and wait until it has ended.

    It starts no new turns; running ones get the configured time to finish.
    """
    deadline = time.monotonic() + timeout
    operation = _operation(home, 0.0 if now else None, Then.STOP)
    with client.connect(home) as control:
        control.begin(operation)
        if operation.asker is not None:
            _begun(home, control, operation, as_json)
            return
        over = _watched(home, control.responded, timeout, as_json, extends=False)
        drained = _stopped(control, operation) if over else None
        gone = over and control.wait_closed(max(0.0, deadline - time.monotonic()))
    if not gone or not client.wait_free(home, deadline - time.monotonic()):
        raise Failed("timeout", f"not ended after {timeout:g} s; it is still stopping. See: hermes-ctl status")
    if as_json:
        print_json({"stopped": True, **_plain(drained, Then.STOP)})
    else:
        click.echo(_outcome(home, drained, Then.STOP))


def _show_plan(home: Home, timeout: float | None, as_json: bool) -> None:
    data = from_workers(home, PlanDrain(timeout=timeout))
    from hermes_actors.cli import drain_view

    show(data, as_json, lambda _: drain_view.plan(data))


def _operation(home: Home, timeout: float | None, then: Then) -> BeginDrain:
    return BeginDrain(timeout=timeout, then=then, asker=asking_session(home, os.environ))


def _drain(home: Home, timeout: float | None, then: Then, as_json: bool) -> None:
    """Drain, see to it that what was to follow did, and report both."""
    operation = _operation(home, timeout, then)
    with client.connect(home) as control:
        before = control.ask(ShowStatus())
        control.begin(operation)
        if operation.asker is not None:
            _begun(home, control, operation, as_json)
            return
        drained = _drained(home, control, operation, as_json)
        ended = then if drained is None else drained.then
        successor = _followed(home, control, ended, before.boot, said=drained is not None)
    if drained is None and successor is not None and successor.pid != before.pid:  # in place it is one process
        raise Failed("ended", f"{UNTOLD}. Another one serves by now (pid {successor.pid})")
    if not as_json:
        click.echo(_outcome(home, drained, ended))
    if ended is not then:
        was, wanted = _ENDED[ended], _ENDED[then]
        raise Failed("overruled", f"The gateway was {was}, not {wanted}: a stronger drain was requested")
    if as_json:
        serves = {} if successor is None else {name: getattr(successor, name) for name in ("boot", "pid", "version")}
        print_json({**_plain(drained, then), **serves})
    if drained is not None and (drained.marked or drained.silent):
        click.get_current_context().exit(Exit.MARKED)


def _plain(drained: Drained | None, then: Then) -> dict[str, Any]:
    """How a drain went, for machines; without a word of the supervisor all but ``then`` is None."""
    if drained is None:
        return {**dict.fromkeys(one.name for one in fields_of(Drained)), "then": then.value}
    plain: dict[str, Any] = to_plain(drained)
    return plain


def _outcome(home: Home, drained: Drained | None, then: Then) -> str:
    from hermes_actors.cli import drain_view
    from hermes_actors.config.load import stored

    if drained is None:
        return drain_view.unsaid(then)
    return drain_view.outcome(drained, stored(home).supervisor.stuck_threshold)


def asking_session(home: Home, environ: Mapping[str, str]) -> str | None:
    """The session of this gateway whose turn runs this command in a tool; the drain does not wait for that turn."""
    theirs = environ.get(HOME_VARIABLE)
    if not theirs or Path(theirs).absolute().resolve() != home.root.resolve():
        return None
    return environ.get(SESSION_VARIABLE) or None


def _begun(home: Home, control: client.Control, operation: BeginDrain, as_json: bool) -> None:
    """Wait until the drain has begun, not for its end: it ends after the turn that waits for this command."""
    deadline = time.monotonic() + BEGIN_S
    while not control.responded(client.LOCK_POLL_S):
        shown = _shown(home)
        if shown is not None and shown.then is not None:
            break
        if time.monotonic() > deadline:
            raise Failed("timeout", f"the drain did not start within {BEGIN_S:g} s; see: hermes-ctl status")
    else:
        control.result(operation)  # it was refused, or is over already
    words = "the drain starts; it does not wait for the turn that requested it"
    show({"begun": True}, as_json, lambda _: words)


def _drained(home: Home, control: client.Control, operation: BeginDrain, as_json: bool) -> Drained | None:
    """How the drain went; None where a supervisor that restarts ended before it said so."""
    try:
        if not _watched(home, control.responded, BEGIN_S + MARGIN_S, as_json):
            raise Failed("timeout", "the supervisor does not report the result; see: hermes-ctl status")
        return control.result(operation)
    except client.NoAnswer as error:
        if operation.then is Then.RESTART:
            return None
        raise Failed("ended", UNTOLD) from error


def _stopped(control: client.Control, operation: BeginDrain) -> Drained | None:
    """How a stop went; it has not failed where the supervisor was killed before it said so."""
    try:
        return control.result(operation)
    except client.NoAnswer:
        return None


def _followed(home: Home, control: client.Control, then: Then, boot: str, *, said: bool) -> Status | None:
    """Return once the supervisor is gone, or the next one serves; with the status of that one."""
    if then is Then.STOP and not (control.wait_closed(END_S) and client.wait_free(home, END_S)):
        raise Failed("timeout", f"drained, but not ended after {END_S:g} s. See: hermes-ctl status")
    if then is not Then.RESTART:
        return None
    successor = client.wait_successor(home, boot, SUCCESSOR_S)
    if successor is None and said:
        raise Failed("timeout", "drained, but no new supervisor serves; see its log")
    if successor is None:
        raise Failed("ended", UNTOLD)
    return successor


def _watched(
    home: Home, over: Callable[[float], bool], patience_s: float, as_json: bool, *, extends: bool = True
) -> bool:
    """Show what still runs until it is over; whether it was over in time.

    Args:
        home: whose supervisor drains.
        over: waits so many seconds, and says whether it is over.
        patience_s: how long to wait.
        as_json: show nothing.
        extends: wait at least as long as the drain says that it has left, and :data:`MARGIN_S`.
    """
    deadline = time.monotonic() + patience_s
    if over(min(POLL_S, patience_s)):  # the usual case needs no display
        return True
    from hermes_actors.cli import drain_view

    try:
        with drain_view.progress(quiet=as_json) as shown:
            while not over(min(POLL_S, max(0.0, deadline - time.monotonic()))):
                if time.monotonic() >= deadline:
                    return False
                drain = _shown(home)
                if drain is not None:
                    shown(drain)
                    if extends and drain.left_s:
                        deadline = max(deadline, time.monotonic() + drain.left_s + MARGIN_S)
    except KeyboardInterrupt as let_go:
        raise Failed("interrupted", LET_GO) from let_go
    return True


def _shown(home: Home) -> DrainShown | None:
    """What is known of the drain; None where no supervisor says."""
    try:
        return client.ask(home, ShowDrain())
    except (client.NotRunning, client.NoAnswer, client.OperationFailed):  # who waits learns by other means
        return None
