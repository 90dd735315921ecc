"""One configured MCP server in a worker: its catalogue, and the connections to it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import structlog

from workers.tools.catalogue import Catalogue, LeftOut, Listing, catalogue
from workers.tools.commons import ServerCommons, WorkerCommons
from workers.tools.connection import ToolConnection
from workers.tools.content import shorten
from workers.tools.outage import Outage, worsened
from workers.tools.owner import Unreachable
from workers.tools.target import ServerTarget

TURN_WAIT_S = 5.0  # turns wait this long for a server that is not required to list its tools for the first time
MAX_CATALOGUES = 64  # different ones of one server, kept for sharing
MAX_LEFT_OUT_TOLD = 10  # in one line of the log
MAX_LEFT_OUT_CHARS = 200  # of each

log = structlog.get_logger(__name__)


class ServerEntry:
    """A server of the configuration, as the sessions of a worker see it.

    Args:
        target: the server.
        commons: of the worker's connections.
        known: its catalogue, where an earlier entry had learnt it from the same server.
    """

    def __init__(
        self,
        target: ServerTarget,
        *,
        commons: WorkerCommons,
        known: Catalogue | None = None,
    ) -> None:
        self.target = target
        self.catalogue = known  # what a new connection can be expected to offer
        self.connections: set[ToolConnection] = set()
        self.last_error: str | None = None  # of learning the catalogue
        self.closed = False
        self._commons = ServerCommons(commons)
        self._shared: ToolConnection | None = None
        self._seen: dict[str, Catalogue] = {}
        self._cut: str | None = None  # why the listing may lack tools, as the log has it
        self._left_out: tuple[LeftOut, ...] = ()  # as the log has it
        self._warnings: tuple[str, ...] = ()  # as the log has them
        self._outage = Outage()
        self._learning: asyncio.Task[None] | None = None
        self._learning_since = 0.0

    @property
    def name(self) -> str:
        """The server's name."""
        return self.target.name

    @property
    def is_shared(self) -> bool:
        """Whether all sessions of the worker use one connection."""
        return self.target.entry.scope == "worker"

    @property
    def absence(self) -> str | None:
        """Why its tools are missing, for people and models; None where they are known, or were not asked for yet."""
        if self.catalogue is not None:
            return None
        starts = self._learning is not None and self.last_error is None
        return (
            f"MCP server {self.name!r} is still starting; its tools come as soon as it is up"
            if starts
            else self.last_error
        )

    def open(self, session: str, on_catalogue: Callable[[Catalogue], None]) -> ToolConnection:
        """The connection for a session, not connected yet: its own, or the shared one.

        Args:
            session: the session's key.
            on_catalogue: told what the session's own connection offers, each time that may have changed.

        Raises:
            Unreachable: the entry is closed.
        """
        if self.closed:
            raise Unreachable(f"MCP server {self.name!r} is closed: its configuration changed, or the worker stops")
        if not self.is_shared:
            return self._opened(session, on_catalogue)
        if self._shared is None:
            self._shared = self._opened(None, lambda _: None)
        return self._shared

    async def end(self, connection: ToolConnection) -> None:
        """End a connection."""
        try:
            await connection.close()
        finally:
            self.connections.discard(connection)

    async def restart(self) -> int:
        """End what all connections run and forget what failed; how many there were. Bounded."""
        self.last_error, self._outage = None, Outage()
        self._commons.forget_line()
        return sum(await asyncio.gather(*(connection.restart() for connection in self.connections)))

    async def retire(self) -> None:
        """End each connection once no call runs over it, for good; bounded."""
        self.closed = True
        await asyncio.gather(*(connection.retire() for connection in self.connections))
        self.connections.clear()

    async def close(self) -> None:
        """End all connections, for good."""
        self.closed = True
        await asyncio.gather(*map(self.end, tuple(self.connections)))

    async def learn(self, open_own: Callable[[], ToolConnection]) -> None:
        """Return when the catalogue is known, or when there is no use in waiting for it now.

        One session at a time tries, with a connection that it keeps; the others wait for that one, all of them until it
        has gone on for :data:`TURN_WAIT_S`: then their turns go on without these tools, and so does the attempt. After
        a failure no turn waits: the next attempt, when it is due, goes on beside the turn that began it.

        Args:
            open_own: gives the asking session's connection.

        Raises:
            Unreachable: ``open_own`` does, because its session is closed.
        """
        while self.catalogue is None:
            if self._learning is None:
                if time.monotonic() < self._outage.not_before:
                    return
                if (connection := open_own()).closed:
                    return
                self._learning = asyncio.create_task(self._learn(connection), name=f"mcp {self.name} catalogue")
                self._learning_since = time.monotonic()
            left_s = self._learning_since + TURN_WAIT_S - time.monotonic()
            if self._outage.failures or left_s <= 0:
                return
            await asyncio.wait({self._learning}, timeout=left_s)

    async def _learn(self, connection: ToolConnection) -> None:
        try:
            await connection.up()
        except Unreachable as error:
            if connection.closed:  # its session ended: the next one tries
                return
            self.last_error = str(error)
            now, chance = time.monotonic(), random.random()  # noqa: S311  # jitter is no secret
            self._outage = worsened(self._outage, now=now, chance=chance)
            log.warning("mcp tools not known", server=self.name, failures=self._outage.failures)
        finally:
            self._learning = None

    def _opened(self, session: str | None, on_catalogue: Callable[[Catalogue], None]) -> ToolConnection:
        def listed(listing: Listing, fresh: bool) -> None:
            if listing.cut != self._cut:
                self._cut = listing.cut
                log.warning("mcp listing ended early", server=self.name, why=listing.cut, tools=len(listing.tools))
            made = catalogue(
                self.name,
                listing.tools,
                self.target.entry.tools,
                listing.left_out,
                introduction=listing.introduction,
                resources=self.target.entry.resources,
            )
            self._log_left_out(made.left_out)
            self._log_warnings(made.warnings)
            offered = self._interned(made)
            # A session's own process may change its tools for itself; what a new process offers holds for all.
            if fresh or self.is_shared or not self.target.command:
                self.catalogue = offered
                self.last_error, self._outage = None, Outage()
            on_catalogue(offered)

        connection = ToolConnection(
            self.target,
            commons=self._commons,
            session=session,
            on_tools=listed,
        )
        self.connections.add(connection)
        return connection

    def _log_left_out(self, tools: tuple[LeftOut, ...]) -> None:
        """Log which tools no model gets, and why, as often as that changes."""
        if tools and tools != self._left_out:
            self._left_out = tools
            whys = [shorten(f"{tool.name}: {tool.why}", MAX_LEFT_OUT_CHARS) for tool in tools[:MAX_LEFT_OUT_TOLD]]
            log.warning("mcp tools left out", server=self.name, count=len(tools), tools=whys)

    def _log_warnings(self, warnings: tuple[str, ...]) -> None:
        if warnings != self._warnings:
            self._warnings = warnings
            for what in warnings:
                log.warning("mcp configuration without effect", server=self.name, what=what)

    def _interned(self, made: Catalogue) -> Catalogue:
        """One object for equal catalogues, however many sessions see them."""
        if len(self._seen) >= MAX_CATALOGUES:
            self._seen.clear()
        return self._seen.setdefault(made.digest, made)

    def describe(self) -> list[dict[str, Any]]:
        """Its connections as plain data."""
        return [connection.describe() for connection in self.connections]
