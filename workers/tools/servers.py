"""The MCP servers of a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import structlog

from hermes_actors.config.model import McpServer
from workers.tools.catalogue import Catalogue
from workers.tools.entry import ServerEntry
from workers.tools.session import SessionTools
from workers.tools.sweep import Sweeper
from workers.tools.target import target
from workers.tools.toolbox import Toolbox

MAX_CONNECTING = 16  # connections that a worker makes at the same time
CLOSE_TIMEOUT_S = 15.0  # above what one connection's end may take
MAX_JOINED = 64  # combinations of catalogues whose definitions are kept

log = structlog.get_logger(__name__)


class ToolServers:
    """All MCP servers that a worker's sessions may use. Nothing is started before it is needed.

    Args:
        servers: the configuration's, by name.
        environment: the values of the variables that the configuration names.
        owner_mark: :func:`hermes_actors.wire.ownership.owner_mark` of the worker.
        logs: the directory for the servers' stderr.
        known: the :attr:`catalogues` of an earlier configuration: what did not change need not be learnt again.

    Raises:
        UnsetVariable: an entry names a variable without a value.
    """

    def __init__(
        self,
        servers: Mapping[str, McpServer],
        environment: Mapping[str, str],
        *,
        owner_mark: str,
        logs: Path,
        known: Mapping[str, Catalogue] = MappingProxyType({}),
    ) -> None:
        gate = asyncio.Semaphore(MAX_CONNECTING)
        sweeper = Sweeper()
        targets = [target(name, entry, environment, logs=logs) for name, entry in servers.items() if entry.enabled]
        self._entries = [
            ServerEntry(one, owner_mark=owner_mark, gate=gate, sweeper=sweeper, known=known.get(one.key))
            for one in targets
        ]
        self._joined: dict[tuple[str, ...], bytes] = {}

    def toolbox(self, session_key: str) -> Toolbox:
        """The tools of a session."""
        return SessionTools(session_key, self._entries, self._join)

    def connections(self) -> list[dict[str, Any]]:
        """Every connection that was ever opened and not closed, as plain data."""
        return [connection for entry in self._entries for connection in entry.describe()]

    @property
    def catalogues(self) -> dict[str, Catalogue]:
        """The catalogues that are known, by :attr:`workers.tools.target.Target.key`."""
        return {entry.target.key: entry.catalogue for entry in self._entries if entry.catalogue is not None}

    @property
    def live(self) -> int:
        """How many connections are up."""
        return sum(connection.is_up for entry in self._entries for connection in entry.connections)

    async def close(self) -> None:
        """End every connection and everything they started; bounded."""
        closing = [asyncio.create_task(entry.close()) for entry in self._entries]
        if closing:
            _, late = await asyncio.wait(closing, timeout=CLOSE_TIMEOUT_S)
            if late:
                log.error("mcp connections do not end", servers=len(late))

    def _join(self, catalogues: Iterable[Catalogue]) -> bytes:
        """The definitions of these catalogues as one JSON array, the same bytes for every session that has them."""
        known = list(catalogues)
        key = tuple(catalogue.digest for catalogue in known)
        if (joined := self._joined.get(key)) is None:
            if len(self._joined) >= MAX_JOINED:
                self._joined.clear()
            parts = [catalogue.definitions for catalogue in known if catalogue.definitions]
            joined = self._joined[key] = b"[" + b",".join(parts) + b"]" if parts else b""
        return joined
