"""The MCP servers of a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import structlog

from hermes_actors.config.model import McpServer
from workers.models.offer import Offer, offer
from workers.tools.catalogue import Catalogue
from workers.tools.commons import WorkerCommons
from workers.tools.entry import ServerEntry
from workers.tools.session import SessionTools
from workers.tools.target import target
from workers.tools.toolbox import Toolbox

CLOSE_TIMEOUT_S = 15.0  # above what one connection's end may take
MANY_TOOLS = 128  # OpenAI and Azure refuse requests with more: OpenAI's API reference, chat completions, tools
MAX_JOINED = 64  # combinations of catalogues whose offer is kept

log = structlog.get_logger(__name__)


class UnknownServer(LookupError):
    """No server of the configuration has this name; the text is for people."""


class ToolServers:
    """All MCP servers that a worker's sessions may use. Nothing is started before it is needed.

    Args:
        servers: the configuration's, by name.
        environment: the values of the variables that the configuration names.
        owner_mark: :func:`hermes_actors.wire.ownership.owner_mark` of the worker.
        home: of the gateway.
        logs: the directory for the servers' stderr.

    Raises:
        UnsetVariable: an entry names a variable without a value.
    """

    def __init__(
        self,
        servers: Mapping[str, McpServer],
        environment: Mapping[str, str],
        *,
        owner_mark: str,
        home: Path,
        logs: Path,
    ) -> None:
        self._logs = logs
        self._commons = WorkerCommons(owner_mark, home)
        self._joined: dict[tuple[str, ...], Offer] = {}
        self._retiring: dict[asyncio.Task[None], ServerEntry] = {}
        self._entries: tuple[ServerEntry, ...] = ()
        self._configure(servers, environment)

    def toolbox(self, session_key: str) -> Toolbox:
        """The tools of a session."""
        return SessionTools(session_key, self._configured, self._join)

    def reconfigure(self, servers: Mapping[str, McpServer], environment: Mapping[str, str]) -> None:
        """Take up another configuration, at once; what it does not change keeps its connections and catalogues.

        What an entry says and the values of its variables make it the same; where just its time-outs change, or whether
        it is required, its catalogue need not be learnt again. Turns that run keep the tools they told
        their model; each further call goes to the server as it is configured now, or is a tool error where that has no
        such tool. Calls that run over a connection of an entry that is no more go on, for
        :data:`workers.tools.connection.RETIRE_TIMEOUT_S` at most; then the connection ends.

        Raises:
            UnsetVariable: an entry names a variable without a value; nothing has changed.
        """
        before = self._entries
        self._configure(servers, environment)
        for entry in set(before) - set(self._entries):
            retiring = asyncio.create_task(entry.retire(), name=f"mcp {entry.name} retires")
            self._retiring[retiring] = entry
            retiring.add_done_callback(self._retiring.pop)

    def _configured(self) -> tuple[ServerEntry, ...]:
        return self._entries

    def _configure(self, servers: Mapping[str, McpServer], environment: Mapping[str, str]) -> None:
        standing = {entry.target.key: entry for entry in self._entries}
        known = {entry.target.offer: entry.catalogue for entry in self._entries}
        targets = [
            target(name, entry, environment, logs=self._logs) for name, entry in servers.items() if entry.enabled
        ]
        self._entries = tuple(
            standing.get(one.key) or ServerEntry(one, commons=self._commons, known=known.get(one.offer))
            for one in targets
        )

    async def restart(self, name: str) -> int:
        """End every connection of a server, with what it runs, and forget its failures; how many there were. Bounded.

        Each is made again when it is wanted next. Calls in flight get an unknown outcome.

        Raises:
            UnknownServer: no server is configured and enabled under this name.
        """
        for entry in self._entries:
            if entry.name == name:
                return await entry.restart()
        names = ", ".join(sorted(entry.name for entry in self._entries)) or "none"
        raise UnknownServer(f"There is no MCP server {name!r}. Configured and enabled: {names}.")

    def connections(self) -> list[dict[str, Any]]:
        """Every connection that was ever opened and not closed, as plain data."""
        return [connection for entry in self._all for connection in entry.describe()]

    @property
    def live(self) -> int:
        """How many connections are up."""
        return sum(connection.is_up for entry in self._all for connection in entry.connections)

    async def close(self) -> None:
        """End every connection and everything they started; bounded."""
        closing = [asyncio.create_task(entry.close()) for entry in self._all]
        if closing:
            _, late = await asyncio.wait(closing, timeout=CLOSE_TIMEOUT_S)
            if late:
                log.error("mcp connections do not end", servers=len(late))

    @property
    def _all(self) -> tuple[ServerEntry, ...]:
        """Those of the configuration, and those that end."""
        return (*self._entries, *self._retiring.values())

    def _join(self, catalogues: Iterable[Catalogue]) -> Offer:
        """The tools of these catalogues, the same object for every session that has them."""
        known = list(catalogues)
        key = tuple(catalogue.digest for catalogue in known)
        if (joined := self._joined.get(key)) is None:
            if len(self._joined) >= MAX_JOINED:
                self._joined.clear()
            joined = self._joined[key] = offer(tool for catalogue in known for tool in catalogue.offered)
            if len(joined.tools) > MANY_TOOLS:
                log.warning("many tools offered", tools=len(joined.tools), most_of_some_providers=MANY_TOOLS)
        return joined
