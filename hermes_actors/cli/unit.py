"""``hermes-supervisor unit``: a systemd user unit for this installation and home."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

from hermes_actors.cli.command import CliCommand, Failed, config_option, example, home_option
from hermes_actors.config.load import load
from hermes_actors.config.model import Config
from hermes_actors.config.problems import ConfigError
from hermes_actors.config.timeouts import START_S, WATCHDOG_S, stop_timeout_s
from hermes_actors.home import Home

_UNIT = """\
[Unit]
Description=hermes-actors gateway ({home})
# It may be tried for ever: the pauses below grow.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
Environment={path}
ExecStart={start}
ExecReload={reload}

# A stop signals the supervisor alone, which drains: agent.restart_drain_timeout ({drain:g} s) and what follows it.
KillMode=mixed
TimeoutStopSec={stop}
TimeoutStartSec={ready:g}
WatchdogSec={watchdog:g}

# 78: the configuration cannot be used, which no start mends. 75: the supervisor wants to be started again.
Restart=on-failure
RestartPreventExitStatus=78
RestartForceExitStatus=75
RestartSec=2
# Known to systemd from 254 on; an older one says so and goes on.
RestartSteps=8
RestartMaxDelaySec=300

# An MCP server that the kernel ends for want of memory is no reason to stop the gateway.
OOMPolicy=continue
LimitNOFILE=65536

# More than this (a read-only home, no writable and executable memory) breaks MCP servers that people use.
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes

[Install]
WantedBy=default.target
"""


@click.command(
    cls=CliCommand,
    short_help="Print a systemd user unit for this installation and home.",
    epilog=example("hermes-supervisor unit", "hermes-supervisor unit --home /srv/gw"),
)
@config_option
@home_option
def unit(config_path: Path | None, home: Home) -> None:
    """Print a systemd user unit for this installation and home, with time-outs that fit the configuration.

    Put it into ~/.config/systemd/user/hermes-actors.service, then: systemctl --user daemon-reload.
    """
    settings = load(home, config_path=config_path, environ=os.environ, demo=False)
    program = installed(Path(sys.argv[0]))
    options = ["--home", str(home.root)]
    config = [] if config_path is None else ["--config", str(config_path.expanduser().absolute())]
    text = unit_text(
        settings.config,
        home,
        start=[str(program), "start", *options, *config],
        reload=[str(program.with_name("hermes-ctl")), "reload", *options],
        path=os.environ.get("PATH", os.defpath),
    )
    click.echo(text, nl=False)
    try:
        load(home, config_path=config_path, environ={}, demo=False)
    except ConfigError as error:
        why = "\n".join(map(str, error.problems))
        click.echo(
            f"systemd does not have this shell's environment: put missing variables into {home.env}\n{why}", err=True
        )


def unit_text(config: Config, home: Home, *, start: list[str], reload: list[str], path: str) -> str:
    """The unit; ``path`` is where commands of MCP servers are looked for. Pure."""
    return _UNIT.format(
        home=_escaped(str(home.root)),
        path=_quoted(f"PATH={':'.join(dict.fromkeys(filter(None, path.split(':'))))}"),
        start=" ".join(map(_argument, start)),
        reload=" ".join(map(_argument, reload)),
        drain=config.agent.restart_drain_timeout,
        stop=stop_timeout_s(config),
        ready=START_S,
        watchdog=WATCHDOG_S,
    )


def installed(called: Path) -> Path:
    """The absolute path of ``hermes-supervisor``: as it was called, else beside this Python, else on ``PATH``.

    Raises:
        Failed: it is nowhere.
    """
    beside = Path(sys.executable).with_name("hermes-supervisor")
    for place in (called if called.name == beside.name else beside, beside, shutil.which(beside.name)):
        if place is not None and os.access(place, os.X_OK):
            return Path(place).absolute()
    raise Failed("not_installed", f"{beside.name} is not installed: there is neither {beside} nor one on PATH")


def _argument(text: str) -> str:
    """One argument of a command line (systemd.service(5), "CliCommand lines")."""
    return _quoted(text.replace("$", "$$")) if set(text) & set(" \t'\"\\$;") else _escaped(text)


def _quoted(text: str) -> str:
    escaped = _escaped(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _escaped(text: str) -> str:
    """Specifiers (systemd.unit(5)) taken literally; a line stays a line."""
    return text.replace("%", "%%").replace("\n", " ")
