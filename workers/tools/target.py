"""A configured MCP server with the values of its variables filled in: what a connection connects to."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from hermes_actors.config.model import McpServer
from hermes_actors.config.variables import interpolate

INHERITED = frozenset({"PATH", "HOME", "LANG", "TERM", "USER", "LOGNAME", "SHELL", "TMPDIR"})  # and LC_*
_OF_CALLS = frozenset({"timeout", "connect_timeout", "required", "on_stop"})  # keys that do not decide what is offered


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTarget:
    """How to reach a server. Its texts may hold secrets, so it does not show them."""

    name: str
    entry: McpServer
    command: tuple[str, ...] = field(repr=False)  # of a stdio server; else empty
    directory: str  # where the command runs; "": where the worker does
    environment: Mapping[str, str] = field(repr=False)  # of the command, all of it
    url: str = field(repr=False)  # of an HTTP server; else ""
    headers: Mapping[str, str] = field(repr=False)
    log: Path  # gets the command's stderr
    key: str  # equal keys: the same server; another entry, or other values of its variables, give another
    offer: str  # equal ones: the same tools, as far as the configuration decides that


def target(name: str, entry: McpServer, variables: Mapping[str, str], *, logs: Path) -> ServerTarget:
    """Fill in an entry.

    Args:
        name: the server's name.
        entry: its configuration.
        variables: the values of the variables that configurations name.
        logs: the directory for the server's stderr.

    Raises:
        UnsetVariable: a variable has no value.
        BadReference: a ``${`` begins no reference.
    """

    def filled(text: str) -> str:
        return interpolate(text, variables)

    def values(texts: Mapping[str, str]) -> dict[str, str]:
        return {key: filled(text) for key, text in texts.items()}

    command = tuple(map(filled, (entry.command, *entry.args))) if entry.command else ()
    directory, url = filled(entry.cwd or ""), filled(entry.url or "")
    own, headers = values(entry.env), values(entry.headers)
    said = entry.model_dump(mode="json")
    filled_in = [name, command, directory, own, url, headers]
    return ServerTarget(
        name=name,
        entry=entry,
        command=command,
        directory=directory,
        environment=inherited(os.environ) | own,
        url=url,
        headers=headers,
        log=logs / f"mcp-{name}.log",
        key=_digest([said, filled_in]),
        offer=_digest([{name: value for name, value in said.items() if name not in _OF_CALLS}, filled_in]),
    )


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """What a server gets of the gateway's environment: enough to run programs, and none of its secrets."""
    return {name: value for name, value in environment.items() if name in INHERITED or name.startswith("LC_")}


def _digest(identity: list[Any]) -> str:
    return blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=16).hexdigest()
