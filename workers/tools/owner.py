"""The owner of one connection to one MCP server: makes it when it is wanted, keeps it, makes it again when it was lost.

All of the SDK's client happens in one task: entered, left or cancelled elsewhere it cancels the wrong tasks or hangs
(measured with mcp 2.3). Others only call through it. An attempt is given up by an anyio cancel scope and SIGKILL of the
server's process group, never by cancelling the task: a second native cancellation defeats the SDK's cleanup.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Literal

import anyio
import structlog
from mcp import Client
from mcp.client.session import IncomingMessage
from mcp_types import Implementation, ToolListChangedNotification
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from hermes_actors.wire.ownership import HOME_VARIABLE, SESSION_VARIABLE
from workers.tools.catalogue import Listing
from workers.tools.commons import ServerCommons, TooManyProcesses
from workers.tools.introducing import introduction
from workers.tools.introduction import UNKNOWN
from workers.tools.listing import ToolNews, list_tools
from workers.tools.outage import Outage, after_life, next_attempt_in_s, worsened
from workers.tools.pages import by_tool
from workers.tools.reasons import kind, last_words, size_of, why_not_connected
from workers.tools.stdio import ServerProcess
from workers.tools.streamable_http import http_streams
from workers.tools.target import ServerTarget

PATIENCE_S = 5.0  # a caller waits for the next attempt where that is due this soon, else fails at once
CLEANUP_S = 10.0  # what ending a server may take: the ladder of signals, the group's grace, a sweep
EXIT_DRAIN_S = 1.0  # an answer that a server gave before it ended may still be read

log = structlog.get_logger(__name__)
for _name in ("mcp", "httpx2", "httpcore2"):  # their records quote what servers say, and whole URLs
    logging.getLogger(_name).setLevel(logging.CRITICAL)

_CLIENT = Implementation(name="hermes-actors", version=version("hermes-actors"))
_numbers = itertools.count(1)


class Unreachable(Exception):
    """The server cannot be reached now; the text says which and why, for people."""


class ConnectionTask:
    """Owns the client of a connection.

    Args:
        target: the server.
        commons: of the server's connections.
        session: the session key it belongs to, or None for one that sessions share.
        on_tools: called with each tool listing, and whether the connection was made just now.
        on_heard: called with each sign of life of the server that is no answer.
    """

    def __init__(
        self,
        target: ServerTarget,
        *,
        commons: ServerCommons,
        session: str | None,
        on_tools: Callable[[Listing, bool], None],
        on_heard: Callable[[], None],
    ) -> None:
        self.target = target
        self.closed = False
        self.client: Client | None = None  # while it is up
        self.process: ServerProcess | None = None
        self.held = False  # it is up, and nothing shall be sent
        self.in_flight = 0  # calls that were sent and not ended
        self.answered = False  # a call, since it came up
        self.wanted_at = -math.inf
        self.why: str | None = None  # the attempt ended, where a caller knows the reason better than the SDK
        self._kind: str | None = None  # of that, for the log, where the words are not ours
        self.state = "idle"  # | connecting | up | ending | waiting | closed
        self.since = time.time()
        self.starts = 0
        self.last_error: str | None = None
        self.detail = ""  # what the server said when it failed last, for its operator alone
        self._log_begins = 0  # of this process, in the log that all of the server share
        self._commons = commons
        self._session = session
        self._mark = f"{commons.worker.owner_mark}{next(_numbers)}"
        self._on_tools = on_tools
        self._on_heard = on_heard
        self._task: asyncio.Task[None] | None = None
        self._giving_up: anyio.CancelScope | None = None  # of the attempt or the pause that the task is in
        self._leave = asyncio.Event()  # the task shall leave the client
        self._over = asyncio.Event()  # no attempt goes on
        self._over.set()
        self.tools: ToolNews | None = None  # while it is up
        self._introduction = UNKNOWN  # of the server, the last time that it came up
        self._pushes = False  # the server has a way to us besides its answers
        self._verdict: asyncio.Future[Client | Unreachable] | None = None  # of the next attempt to end
        self._waiting = 0
        self._outage = Outage()
        self._blameless = False  # the end of this attempt is no failure of the server

    # -- for the connection ---------------------------------------------------------------------------------------
    async def connected(self) -> Client:
        """The client, once it is up; waits for the end of one attempt at most.

        Raises:
            Unreachable: the next attempt failed, or is not due soon.
        """
        self.wanted_at = time.monotonic()
        if self.client is not None and not self.held:
            return self.client
        if self.closed:
            raise Unreachable(f"the connection to MCP server {self.target.name!r} is closed")
        if self._outage.not_before - self.wanted_at > PATIENCE_S:
            raise self._not_soon()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._own(), name=f"mcp {self.target.name}")
        if self._verdict is None:
            self._verdict = asyncio.get_running_loop().create_future()
        self._waiting += 1
        try:
            async with asyncio.timeout(PATIENCE_S + CLEANUP_S + self.target.entry.connect_timeout):
                verdict = await asyncio.shield(self._verdict)
        except TimeoutError:
            raise Unreachable(f"MCP server {self.target.name!r} waits behind too many that connect") from None
        finally:
            self._waiting -= 1
        if isinstance(verdict, Unreachable):
            raise verdict
        return verdict

    def lose(self, client: Client, why: str, *, kill: bool = False, kind: str | None = None) -> None:
        """Use this client no more; the task leaves it. Where a server had a say in ``why``, the log has ``kind``."""
        if self.client is client:
            if kill and self.process is not None:
                self.process.kill()
            self.client = None
            self.why, self._kind = why, kind
            self._enter("ending")
            self._leave.set()

    @asynccontextmanager
    async def holding(self, client: Client) -> AsyncIterator[None]:
        """A caller that wants to send something waits, for this client, or for the next where this one is lost."""
        self.held = True
        try:
            yield
        finally:
            if self.client is client:
                self.held = False
                self._decide(client)

    async def end(self, why: str, *, grace_s: float = 0.0) -> bool:
        """End the attempt or the pause that goes on, which is no failure of the server; whether there was one. Bounded.

        A server may end by itself within the grace.
        """
        if self._task is None or self._task.done():
            return False
        over = self._over  # the next attempt, which may begin at once, has its own
        self._blameless, self.wanted_at = True, -math.inf
        if self.state == "waiting" and self._giving_up is not None:
            self._giving_up.cancel()
        elif self.client is not None:
            self.lose(self.client, why, kill=grace_s == 0)
            await _until(over, grace_s or CLEANUP_S)
        else:
            self.why = self.why or why
        if not over.is_set():
            if self.process is not None:
                self.process.kill()
            if self._giving_up is not None:
                self._giving_up.cancel()
            await _until(over, CLEANUP_S)
        return True

    def forgive(self) -> None:
        """Forget earlier failures."""
        self._outage = Outage()

    async def close(self, grace_s: float) -> None:
        """End for good; bounded."""
        self.closed = True
        if await self.end("closed", grace_s=grace_s):
            assert self._task is not None
            await asyncio.wait({self._task}, timeout=CLEANUP_S)
            if not self._task.done():
                log.error("mcp server does not end", server=self.target.name, pid=self.pid)

    @property
    def pid(self) -> int | None:
        """The process of a stdio server that runs."""
        return self.process.pid if self.process is not None else None

    # -- the task -------------------------------------------------------------------------------------------------
    async def _own(self) -> None:
        """Attempt after attempt while the connection is wanted."""
        while not self.closed:
            now = time.monotonic()
            waiting = self._waiting if self._verdict is not None else 0  # those who have one are about to go
            pause = next_attempt_in_s(self._outage, now=now, wanted_at=self.wanted_at, waiting=waiting)
            if pause is None:
                self._enter("idle")
                return
            if pause == 0:
                self._outage = self._commons.line_up(self._outage, now=now)
                pause = self._outage.not_before - now
            if pause > 0:
                self._enter("waiting")
                if pause > PATIENCE_S:
                    self._decide(self._not_soon())
                with anyio.move_on_after(pause) as self._giving_up:
                    await anyio.sleep_forever()
            else:
                await self._attempt()
        self._enter("closed")
        self._decide(Unreachable(f"the connection to MCP server {self.target.name!r} is closed"))

    async def _attempt(self) -> None:
        """Connect, stay until the connection is lost or closed, and leave nothing behind."""
        self._enter("connecting")
        self._over = asyncio.Event()
        self._leave.clear()
        self._pushes = bool(self.target.command)
        self.why, self._kind, self._blameless = None, None, False
        came_up_at: float | None = None
        limit_s = self.target.entry.connect_timeout
        try:
            with anyio.CancelScope() as self._giving_up:
                async with AsyncExitStack() as until_over, AsyncExitStack() as connecting:
                    if self.target.command:
                        until_over.enter_context(self._commons.worker.process(self.target.name))
                        await until_over.enter_async_context(self._commons.worker.logs.kept(self.target.log))
                    for gate in (self._commons.connecting, self._commons.worker.connecting):
                        await connecting.enter_async_context(gate)
                    self.starts += 1
                    self._log_begins = size_of(self.target.log)
                    self._giving_up.deadline = anyio.current_time() + limit_s
                    async with self._made_client() as client:
                        tools = await list_tools(client, within_s=limit_s / 2)
                        tools = replace(tools, introduction=await introduction(client))
                        self._giving_up.deadline = math.inf
                        await connecting.aclose()
                        came_up_at = time.monotonic()
                        self._arrive(client, tools)
                        await self._stay(client)
            if self._giving_up.cancelled_caught:
                self.why = self.why or f"no answer within {limit_s:g} s (connect_timeout)"
        except TooManyProcesses as error:
            self.why, self._blameless = str(error), True
        except Exception as error:  # noqa: BLE001  # whatever the SDK lets through is why the connection is down
            if self.why is None:
                self.why, self._kind = why_not_connected(error, self.target), kind(error)
        finally:
            self._depart(came_up_at)

    def _made_client(self) -> Client:
        streams: AbstractAsyncContextManager[Any]
        if self.target.command:
            self.process = ServerProcess(
                self.target,
                f"{self._mark}:{self.starts}",
                environment=self._told(),
                sweeper=self._commons.worker.sweeper,
                on_heard=self._on_heard,
                on_end=self._process_ended,
            )
            streams = self.process.streams()
        else:
            streams = http_streams(self.target, on_pushes=self._can_push, on_refused=self._refused)
        return Client(
            by_tool(streams),
            mode=self._mode,
            message_handler=self._heard,
            client_info=_CLIENT,
            cache=None,
        )

    @property
    def _mode(self) -> Literal["auto", "legacy"]:
        """``auto`` asks for the newer protocol first, which is no use where the server is known not to speak it."""
        return "legacy" if self._commons.worker.eras.is_old(self.target.offer) else self.target.entry.protocol

    def _told(self) -> dict[str, str]:
        """What a process of one session's own learns of it."""
        if self._session is None:
            return {}
        return {HOME_VARIABLE: str(self._commons.worker.home), SESSION_VARIABLE: self._session}

    def _arrive(self, client: Client, tools: Listing) -> None:
        self.client = client
        self.detail = ""
        self.held = self.answered = False
        self.tools = ToolNews(client, tools, on_tools=self._listed_again, pushes=lambda: self._pushes)
        self._introduction = tools.introduction
        self._enter("up")
        self._on_tools(tools, True)
        self._decide(client)

    def _listed_again(self, listing: Listing) -> None:
        self._on_tools(replace(listing, introduction=self._introduction), False)

    async def _stay(self, client: Client) -> None:
        assert self.tools is not None
        if self.target.entry.protocol == "auto":
            old = client.protocol_version not in MODERN_PROTOCOL_VERSIONS
            await asyncio.to_thread(self._commons.worker.eras.note, self.target.offer, old=old)
        async with anyio.create_task_group() as group:
            group.start_soon(self.tools.follow)
            await self._leave.wait()
            group.cancel_scope.cancel()

    def _refused(self, detail: str) -> None:
        self.detail = detail

    def _can_push(self, can: bool) -> None:
        self._pushes = can

    def _depart(self, came_up_at: float | None) -> None:
        """The attempt is over; what it means for the next one."""
        self.client = self.tools = None
        self.process = None
        self._over.set()
        if self.closed:
            return
        if self.target.command and not self._blameless:
            self.detail = last_words(self.target.log, since=self._log_begins)
        now, chance = time.monotonic(), random.random()  # noqa: S311  # jitter is no secret
        name, why = self.target.name, self.why or "the client ended"
        if came_up_at is None:
            self.last_error = f"MCP server {name!r} cannot be connected: {why}"
            self.wanted_at = -math.inf  # who wanted it hears that now; the next attempt is for who wants it then
            self._decide(Unreachable(self.last_error))
        else:
            self.last_error = f"the connection to MCP server {name!r} was lost: {why}"
        if self._blameless:
            return
        if came_up_at is None:
            self._outage = worsened(self._outage, now=now, chance=chance)
            self._commons.worker.eras.note(self.target.offer, old=False)  # it may be another server now
        else:
            lived_s = now - came_up_at
            self._outage = after_life(self._outage, lived_s=lived_s, answered=self.answered, now=now, chance=chance)
        up = came_up_at is not None
        log.warning("mcp server down", server=name, was_up=up, why=self._kind or why, failures=self._outage.failures)

    def _not_soon(self) -> Unreachable:
        pause = self._outage.not_before - time.monotonic()
        return Unreachable(f"{self.last_error}; the next attempt is due in {pause:.0f} s")

    def _decide(self, verdict: Client | Unreachable) -> None:
        if self._verdict is not None and not self._verdict.done():
            self._verdict.set_result(verdict)
        self._verdict = None

    def _process_ended(self, why: str) -> None:
        """A stdio server ended by itself; the SDK notices only where nothing else holds its stdout."""
        client, attempt = self.client, self._giving_up
        later = asyncio.get_running_loop().call_later
        if client is None and attempt is not None and self.state == "connecting":
            self.why = f"{why} while it started; see logs/{self.target.log.name}"
            later(EXIT_DRAIN_S, attempt.cancel)
        elif client is not None and self.in_flight:
            later(EXIT_DRAIN_S, self.lose, client, why)
        elif client is not None:
            self.lose(client, why)

    async def _heard(self, message: IncomingMessage) -> None:
        self._on_heard()
        if isinstance(message, ToolListChangedNotification) and self.tools is not None:
            self.tools.changed()

    def _enter(self, state: str) -> None:
        self.state = state
        self.since = time.time()


async def _until(event: asyncio.Event, limit_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await event.wait()
