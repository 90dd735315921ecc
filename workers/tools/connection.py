"""One connection to one MCP server: made when it is wanted, kept, made again when it was lost.

All of the SDK's client happens in one task, the owner: entered, left or cancelled elsewhere it cancels the wrong tasks
or hangs (measured with mcp 2.3). Others only call through it. An attempt is given up by an anyio cancel scope and
SIGKILL of the server's process group, never by cancelling the owner's task: a second native cancellation defeats the
SDK's cleanup.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from importlib.metadata import version
from typing import Any

import anyio
import structlog
from mcp import Client, MCPError
from mcp.client.session import IncomingMessage
from mcp_types import CONNECTION_CLOSED, CallToolResult, Implementation, ToolListChangedNotification
from pydantic import ValidationError

from workers.tools.catalogue import ListedTool
from workers.tools.content import cut, to_tool_result
from workers.tools.listing import follow, list_tools
from workers.tools.outage import Outage, after_life, next_attempt_in_s, worsened
from workers.tools.stdio import NotStarted, ServerProcess
from workers.tools.streamable_http import CUT, FAILED, NOT_SENT, REFUSED, SESSION_LOST, http_streams
from workers.tools.sweep import Sweeper
from workers.tools.target import Target
from workers.tools.toolbox import Outcome, ToolResult

CALL_CAP_S = 3600.0  # a call that reports progress lives no longer than this, or its time-out where that is longer
PATIENCE_S = 5.0  # a call waits for the next attempt where that is due this soon, else it fails at once
CLEANUP_S = 10.0  # what ending a server may take: the SDK's 6.5 s, the group's grace, a sweep
CLOSE_GRACE_S = 3.0  # a server may end by itself this long when its connection is closed
EXIT_DRAIN_S = 1.0  # an answer that a server gave before it ended may still be read
MAX_ERROR_CHARS = 500

log = structlog.get_logger(__name__)
for _name in ("mcp", "httpx2", "httpcore2"):  # their records quote what servers say, and whole URLs
    logging.getLogger(_name).setLevel(logging.CRITICAL)

_CLIENT = Implementation(name="hermes-actors", version=version("hermes-actors"))
_OUTCOMES: Mapping[int, Outcome] = {  # by the code of a JSON-RPC error; others are what the tool answered
    CONNECTION_CLOSED: "unknown",
    CUT: "unknown",
    FAILED: "unknown",
    NOT_SENT: "not_sent",
    SESSION_LOST: "not_sent",
    REFUSED: "not_sent",
}
_LEADS: Mapping[Outcome, str] = {
    "not_sent": "The call was not made",
    "unknown": "The outcome of the call is unknown, it may have acted",
    "tool_error": "The tool failed",
}
_numbers = itertools.count(1)


class Unreachable(Exception):
    """The server cannot be reached now; the text says which and why, for people."""


class Connection:
    """A connection to a server, lazily made.

    Args:
        target: the server.
        owner_mark: what its processes carry; completed with a number of this connection.
        gates: limits on connecting at the same time, taken in order.
        sweeper: finds what left the server's process group.
        session: the session key it belongs to, or None for one that sessions share.
        on_tools: called with each tool listing, and whether the connection was made just now.
    """

    def __init__(
        self,
        target: Target,
        *,
        owner_mark: str,
        gates: tuple[asyncio.Semaphore, ...],
        sweeper: Sweeper,
        session: str | None = None,
        on_tools: Callable[[tuple[ListedTool, ...], bool], None],
    ) -> None:
        self.target = target
        self.closed = False
        self._mark = f"{owner_mark}{next(_numbers)}"
        self._gates = gates
        self._sweeper = sweeper
        self._session = session
        self._on_tools = on_tools
        self._owner: asyncio.Task[None] | None = None
        self._client: Client | None = None  # while it is up
        self._process: ServerProcess | None = None
        self._giving_up: anyio.CancelScope | None = None  # of the attempt or the pause that the owner is in
        self._leave = asyncio.Event()  # the owner shall leave the client
        self._tools_changed = asyncio.Event()
        self._verdict: asyncio.Future[Client | Unreachable] | None = None  # of the next attempt to end
        self._outage = Outage()
        self._wanted_at = -math.inf
        self._waiting = 0
        self._in_flight = 0
        self._answered = False  # since it came up
        self._why: str | None = None  # the attempt ended, where somebody knows better than the SDK
        self._state = "idle"
        self._since = time.time()
        self._starts = 0
        self._calls = 0
        self._last_error: str | None = None

    # -- for its users --------------------------------------------------------------------------------------------
    @property
    def is_up(self) -> bool:
        """Whether a call would be sent at once."""
        return self._client is not None

    async def up(self) -> None:
        """Connect where it is not connected.

        Raises:
            Unreachable: the next attempt failed, or is not due soon.
        """
        await self._connected()

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Call a tool by the server's own name for it. Cancelling this cancels the call and nothing else.

        What was certainly not carried out because the connection was lost is sent once more over a new one; a call with
        an unknown outcome never is.
        """
        for last in (False, True):
            try:
                client = await self._connected()
            except Unreachable as error:
                return ToolResult(text=f"The call was not made: {error}", outcome="not_sent")
            result = await self._ask(client, tool, arguments)
            if result.outcome != "not_sent" or last or client is self._client:
                break
        return result

    async def close(self) -> None:
        """End the connection and everything its server started; bounded."""
        self.closed = True
        owner = self._owner
        if owner is None or owner.done():
            return
        if self._client is not None:
            self._lose(self._client, "closed")
            await asyncio.wait({owner}, timeout=CLOSE_GRACE_S)
        if not owner.done():
            self._give_up()
            await asyncio.wait({owner}, timeout=CLEANUP_S)
        if not owner.done():
            log.error("mcp server does not end", server=self.target.name, pid=self._pid)

    def describe(self) -> dict[str, Any]:
        """The connection as plain data, for status."""
        return {
            "server": self.target.name,
            "scope": "worker" if self._session is None else "session",
            "session": self._session,
            "state": self._state,  # idle | connecting | up | waiting | closed
            "since": self._since,  # seconds since the epoch
            "starts": self._starts,
            "calls": self._calls,
            "last_error": self._last_error,
            "pid": self._pid,
        }

    # -- being up -------------------------------------------------------------------------------------------------
    async def _connected(self) -> Client:
        """The client, once it is up; waits for the end of one attempt at most."""
        self._wanted_at = time.monotonic()
        if self._client is not None:
            return self._client
        if self.closed:
            raise Unreachable(f"the connection to MCP server {self.target.name!r} is closed")
        pause = self._outage.not_before - self._wanted_at
        if pause > PATIENCE_S:
            raise Unreachable(f"{self._last_error}; the next attempt is due in {pause:.0f} s")
        if self._owner is None or self._owner.done():
            self._owner = asyncio.create_task(self._own(), name=f"mcp {self.target.name}")
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

    async def _own(self) -> None:
        """The owner: attempt after attempt while the connection is wanted."""
        while not self.closed:
            pause = next_attempt_in_s(
                self._outage, now=time.monotonic(), wanted_at=self._wanted_at, waiting=self._waiting
            )
            if pause is None:
                self._enter("idle")
                return
            if pause > 0:
                self._enter("waiting")
                with anyio.move_on_after(pause) as self._giving_up:
                    await anyio.sleep_forever()
            else:
                await self._attempt()
        self._enter("closed")
        self._decide(Unreachable(f"the connection to MCP server {self.target.name!r} is closed"))

    async def _attempt(self) -> None:
        """Connect, stay until the connection is lost or closed, and leave nothing behind."""
        self._enter("connecting")
        self._leave.clear()
        self._tools_changed.clear()
        self._why = None
        came_up_at: float | None = None
        limit_s = self.target.entry.connect_timeout
        try:
            with anyio.CancelScope() as self._giving_up:
                async with AsyncExitStack() as connecting:
                    for gate in self._gates:
                        await connecting.enter_async_context(gate)
                    self._starts += 1
                    self._giving_up.deadline = anyio.current_time() + limit_s
                    async with self._made_client() as client:
                        tools = await list_tools(client)
                        self._giving_up.deadline = math.inf
                        await connecting.aclose()
                        came_up_at = time.monotonic()
                        self._arrive(client, tools)
                        await self._stay(client)
            if self._giving_up.cancelled_caught:
                self._why = self._why or f"no answer within {limit_s:g} s (connect_timeout)"
        except Exception as error:  # noqa: BLE001  # whatever the SDK lets through is why the connection is down
            self._why = self._why or self._explained(error)
        finally:
            self._depart(came_up_at)

    def _made_client(self) -> Client:
        streams: AbstractAsyncContextManager[Any]
        if self.target.command:
            mark = f"{self._mark}:{self._starts}"
            self._process = ServerProcess(self.target, mark, sweeper=self._sweeper, on_exit=self._process_ended)
            streams = self._process.streams()
        else:
            streams = http_streams(self.target)
        return Client(
            streams, mode=self.target.entry.protocol, message_handler=self._heard, client_info=_CLIENT, cache=None
        )

    def _arrive(self, client: Client, tools: tuple[ListedTool, ...]) -> None:
        self._client = client
        self._answered = False
        self._enter("up")
        self._on_tools(tools, True)
        self._decide(client)

    async def _stay(self, client: Client) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(follow, client, self._tools_changed, lambda tools: self._on_tools(tools, False))
            await self._leave.wait()
            group.cancel_scope.cancel()

    def _depart(self, came_up_at: float | None) -> None:
        """The attempt is over; what it means for the next one."""
        self._client = None
        self._process = None
        if self.closed:
            return
        now, chance = time.monotonic(), random.random()  # noqa: S311  # jitter is no secret
        name, why = self.target.name, self._why or "the client ended"
        if came_up_at is None:
            self._outage = worsened(self._outage, now=now, chance=chance)
            self._wanted_at = -math.inf  # whoever wanted it is told now; the next attempt is for who wants it then
            self._last_error = f"MCP server {name!r} cannot be connected: {why}"
            self._decide(Unreachable(self._last_error))
        else:
            lived_s = now - came_up_at
            self._outage = after_life(self._outage, lived_s=lived_s, answered=self._answered, now=now, chance=chance)
            self._last_error = f"the connection to MCP server {name!r} was lost: {why}"
        log.warning("mcp server down", server=name, why=self._last_error, failures=self._outage.failures)

    def _decide(self, verdict: Client | Unreachable) -> None:
        if self._verdict is not None and not self._verdict.done():
            self._verdict.set_result(verdict)
        self._verdict = None

    def _lose(self, client: Client, why: str) -> None:
        """Use this client no more; the owner leaves it."""
        if self._client is client:
            self._client = None
            self._why = why
            self._leave.set()

    def _give_up(self) -> None:
        if self._process is not None:
            self._process.kill()
        if self._giving_up is not None:
            self._giving_up.cancel()

    def _process_ended(self) -> None:
        """A stdio server's process ended by itself; the SDK notices only where nothing else holds its stdout."""
        client, attempt = self._client, self._giving_up
        later = asyncio.get_running_loop().call_later
        if client is None and attempt is not None and self._state == "connecting":
            self._why = f"its process ended while it started; see logs/{self.target.log.name}"
            later(EXIT_DRAIN_S, attempt.cancel)
        elif client is not None and self._in_flight:
            later(EXIT_DRAIN_S, self._lose, client, "its process ended")
        elif client is not None:
            self._lose(client, "its process ended")

    async def _heard(self, message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            self._tools_changed.set()

    # -- calls ----------------------------------------------------------------------------------------------------
    async def _ask(self, client: Client, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        """One call over one client."""
        self._calls += 1
        self._in_flight += 1
        try:
            result = await self._sent(client, tool, arguments)
        except TimeoutError:
            return self._failed("unknown", f"no answer within {self.target.entry.timeout:g} s")
        except MCPError as error:
            return self._judged(client, error)
        except (RuntimeError, ValidationError) as error:  # not what the tool's output schema or the protocol says
            return self._failed("tool_error", f"the answer is malformed: {_words(error)}")
        finally:
            self._in_flight -= 1
            self._wanted_at = time.monotonic()
        self._answered = True
        return to_tool_result(result)

    async def _sent(self, client: Client, tool: str, arguments: Mapping[str, Any]) -> CallToolResult:
        loop = asyncio.get_running_loop()
        timeout_s = self.target.entry.timeout
        cap = loop.time() + max(CALL_CAP_S, timeout_s)
        async with asyncio.timeout(timeout_s) as limit:

            async def progressed(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001  # the SDK's
                with suppress(RuntimeError):  # the call has ended meanwhile
                    limit.reschedule(min(loop.time() + timeout_s, cap))

            return await client.call_tool(tool, dict(arguments), progress_callback=progressed)

    def _judged(self, client: Client, error: MCPError) -> ToolResult:
        """What an error says of a call; an error that is the connection's ends the connection too."""
        outcome = _OUTCOMES.get(error.code, "tool_error")
        if outcome == "tool_error":
            self._answered = True
        alone = self._in_flight == 1  # else the answers of others may still come
        if error.code in (CONNECTION_CLOSED, SESSION_LOST) or (error.code == NOT_SENT and alone):
            self._lose(client, error.message)
        return self._failed(outcome, _words(error))

    def _failed(self, outcome: Outcome, why: str) -> ToolResult:
        return ToolResult(text=f"{_LEADS[outcome]}: MCP server {self.target.name!r}: {why}", outcome=outcome)

    # -- words ----------------------------------------------------------------------------------------------------
    def _explained(self, error: BaseException) -> str:
        """Why an attempt failed, for people."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, NotStarted):
            return f"its command cannot be run: {error}"
        if isinstance(error, MCPError) and error.code == CONNECTION_CLOSED:
            return f"it closed the connection; see logs/{self.target.log.name}" if self.target.command else "it hung up"
        return _words(error)

    def _enter(self, state: str) -> None:
        self._state = state
        self._since = time.time()

    @property
    def _pid(self) -> int | None:
        return self._process.pid if self._process is not None else None


def _words(error: BaseException) -> str:
    return cut(str(error) or type(error).__name__, MAX_ERROR_CHARS)
