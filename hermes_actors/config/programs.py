"""Whether the programs that MCP entries name can be found; a configuration is valid without them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from hermes_actors.config.model import McpServer, Settings
from hermes_actors.config.problems import Problem, shown
from hermes_actors.config.variables import interpolate


def missing_programs(settings: Settings, environ: Mapping[str, str]) -> Iterator[Problem]:
    """The enabled stdio servers whose command is not there now, looked for as a worker will."""
    for name, server in settings.config.mcp_servers.items():
        if server.enabled and server.command is not None:
            command = interpolate(server.command, settings.environment)
            if not _found(command, server, settings, environ):
                where = "there is no such program" if "/" in command else "it is not on PATH"
                yield Problem(
                    what=f"{where}: {shown(server.command)}",
                    remedy="install it, or give its absolute path; until then its tools are missing",
                    path=("mcp_servers", name, "command"),
                )


def _found(command: str, server: McpServer, settings: Settings, environ: Mapping[str, str]) -> bool:
    own = server.env.get("PATH")
    path = environ.get("PATH") if own is None else interpolate(own, settings.environment)
    directory = interpolate(server.cwd or ".", settings.environment) if "/" in command else ""
    return shutil.which(Path(directory, command) if directory else command, path=path) is not None
