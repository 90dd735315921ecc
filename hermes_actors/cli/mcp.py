"""``hermes-ctl mcp``: connections to tool servers, what a model gets of each, and one start of one."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hermes_actors.cli.command import (
    CliCommand,
    Exit,
    Failed,
    Group,
    config_option,
    example,
    from_workers,
    home_option,
    json_option,
    show,
)
from hermes_actors.home import Home
from hermes_actors.operations.requests import ListConnections, RestartServer

MOST_TOOLS = 128  # that OpenAI and Azure take in one request: OpenAI's API reference, chat completions, tools


@click.group(
    cls=Group,
    invoke_without_command=True,
    epilog=example(
        "hermes-ctl mcp", "hermes-ctl mcp test files", "hermes-ctl mcp tools", "hermes-ctl mcp restart files"
    ),
)
@home_option
@json_option
@click.pass_context
def mcp(context: click.Context, home: Home, as_json: bool) -> None:
    """Show the connections to MCP servers, of all workers.

    Below them it says why some failed, with what the server itself said last.
    """
    if context.invoked_subcommand is not None:
        context.default_map = {context.invoked_subcommand: {"home": home.root, "as_json": as_json}}
        return
    data = from_workers(home, ListConnections())
    show(data, as_json, lambda render: render.connections(data.connections, time.time()))


@mcp.command("restart", cls=CliCommand, epilog=example("hermes-ctl mcp restart files"))
@click.argument("name")
@home_option
@json_option
def restart_mcp(name: str, home: Home, as_json: bool) -> None:
    """End all connections to the MCP server NAME.

    Their processes end too. The next turn that needs the server connects again.
    """
    data = from_workers(home, RestartServer(server=name))
    show(data, as_json, lambda _: f"connections of {name} restarted: {data.restarted}")


@mcp.command("test", cls=CliCommand, epilog=example("hermes-ctl mcp test files"))
@click.argument("name")
@config_option
@home_option
@json_option
def test_server(name: str, config_path: Path | None, home: Home, as_json: bool) -> None:
    """Start the MCP server NAME once, and report each step.

    The configuration is read from the disk. No gateway has to run; none takes part. Exit code 1: the server cannot
    be used.
    """
    (report,) = _tried(home, config_path, name)
    show(report, as_json, lambda _: _view().trial(report))
    if not report["ok"]:
        raise click.exceptions.Exit(Exit.FAILED)


@mcp.command("tools", cls=CliCommand, epilog=example("hermes-ctl mcp tools", "hermes-ctl mcp tools files --json"))
@click.argument("server", required=False)
@config_option
@home_option
@json_option
def tools(server: str | None, config_path: Path | None, home: Home, as_json: bool) -> None:
    """Show which tools a model gets, and what they cost.

    Without SERVER those of all servers that are enabled. Each is started once for this, as the configuration on disk
    says; no gateway has to run. Exit code 1: one of them cannot be used.
    """
    reports = _tried(home, config_path, server)
    offered = [tool for report in reports for tool in report["tools"] if tool["left_out"] is None]
    warnings = [f"{report['server']}: {what}" for report in reports for what in report["warnings"]]
    if len(offered) > MOST_TOOLS:
        warnings.append(
            f"{len(offered)} tools in all: OpenAI and Azure refuse requests with more than {MOST_TOOLS}; hide some "
            "with tools.include or tools.exclude"
        )
    data = {
        "servers": reports,
        "offered": len(offered),
        "tokens": sum(tool["tokens"] for tool in offered),
        "warnings": warnings,
    }
    show(data, as_json, lambda _: _view().offered(data))
    if not all(report["ok"] for report in reports):
        raise click.exceptions.Exit(Exit.FAILED)


def _tried(home: Home, config_path: Path | None, wanted: str | None) -> Sequence[dict[str, Any]]:
    """How the server of a name did, or all that are enabled, in the order of the configuration.

    Raises:
        ConfigError: the configuration cannot be used.
        Failed: there is no such server, or the trial broke off.
    """
    from hermes_actors.config.load import load
    from hermes_actors.pool.probe import ProbeFailed, try_servers

    settings = load(home, config_path=config_path, environ=os.environ, demo=False)
    enabled = [name for name, entry in settings.config.mcp_servers.items() if entry.enabled]
    if wanted is not None and wanted not in enabled:
        raise Failed(
            "not_found", f"no MCP server is named {wanted!r} and enabled; there are: {', '.join(enabled) or 'none'}"
        )
    names = enabled if wanted is None else [wanted]
    try:
        reports = {report["server"]: report for report in try_servers(settings, names, home=home.root)}
    except ProbeFailed as failed:
        raise Failed("trial_failed", str(failed)) from failed
    return [reports[name] for name in names]


def _view() -> Any:
    from hermes_actors.cli import mcp_view

    return mcp_view
