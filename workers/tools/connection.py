"""One connection to one MCP server, as a session uses it: calls, each with a typed outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Literal, TypeAlias

from mcp import Client, MCPError
from pydantic import ValidationError

from workers.tools.calls import ToolInvocation, calling
from workers.tools.catalogue import Listing
from workers.tools.commons import ServerCommons
from workers.tools.content import to_tool_result
from workers.tools.outage import hangs
from workers.tools.outcomes import CONNECTION_CLOSED, NOT_SENT, SESSION_LOST, failed, kind_of, outcome_of
from workers.tools.owner import ConnectionTask, Unreachable
from workers.tools.reasons import MAX_ANSWER_CHARS, words
from workers.tools.stopping import on_stop
from workers.tools.target import ServerTarget
from workers.tools.toolbox import Outcome, ToolResult

CALL_CAP_S = 3600.0  # a call that reports progress lives no longer than this, or its time-out where that is longer
REFRESH_TIMEOUT_S = 2.0  # a turn waits for what tools there are now, else goes on with those of before
CLOSE_GRACE_S = 3.0  # a server may end by itself this long when its connection is closed
RETIRE_TIMEOUT_S = 120.0  # calls may go on this long over a connection whose entry is no more

Sent: TypeAlias = Callable[[Client, Mapping[str, Any]], Awaitable[ToolResult]]  # asks a server something


class ToolConnection:
    """A connection to a server, lazily made.

    Args:
        target: the server.
        commons: of the server's connections.
        session: the session key it belongs to, or None for one that sessions share.
        on_tools: called with each tool listing, and whether the connection was made just now.
    """

    def __init__(
        self,
        target: ServerTarget,
        *,
        commons: ServerCommons,
        session: str | None = None,
        on_tools: Callable[[Listing, bool], None],
    ) -> None:
        self.target = target
        self._session = session
        self._commons = commons
        self._owner = ConnectionTask(target, commons=commons, session=session, on_tools=on_tools, on_heard=self._heard)
        self._calls = 0
        self._running = 0  # calls, from their beginning to their end
        self._quiet = asyncio.Event()  # no call runs
        self._quiet.set()
        self._asked: dict[ToolInvocation, Client] = {}  # calls in flight
        self._cut: dict[ToolInvocation, Client] = {}  # those that were cancelled, until the next is made
        self._mute_calls = 0  # timed out in a row, without a message from the server

    @property
    def closed(self) -> bool:
        """Whether it is closed for good."""
        return self._owner.closed

    @property
    def is_up(self) -> bool:
        """Whether a call would be sent at once."""
        return self._owner.client is not None and not self._owner.held

    async def up(self) -> None:
        """Connect where it is not connected.

        Raises:
            Unreachable: the next attempt failed, or is not due soon.
        """
        await self._owner.connected()

    async def refresh(self, *, at_once: bool = False) -> None:
        """List the tools again where that may give others than are known; always ``at_once``. Bounded.

        What is not up is connected ``at_once`` only, which lists them too.
        """
        with suppress(TimeoutError, Unreachable):
            async with asyncio.timeout(REFRESH_TIMEOUT_S):
                if not self.is_up and at_once:
                    await self._owner.connected()
                elif self.is_up and self._owner.tools is not None:
                    await self._owner.tools.refresh(at_once=at_once)

    async def call(self, tool: str, arguments: Mapping[str, Any], *, sent: Sent | None = None) -> ToolResult:
        """Call a tool by the server's own name for it, or ask something else that is ``sent`` as tool calls are.

        Cancelling this cancels the call and nothing else.
        What was certainly not carried out because the connection was lost is sent once more over a new one; a call with
        an unknown outcome never is.
        """
        self._running += 1
        self._quiet.clear()
        self._cut.clear()
        try:
            for last in (False, True):
                try:
                    client = await self._owner.connected()
                except Unreachable as error:
                    return failed("not_sent", str(error))
                result = await self._ask(client, tool, arguments, sent)
                if result.outcome != "not_sent" or last or client is self._owner.client:
                    break
            return result
        finally:
            self._running -= 1
            if self._running == 0:
                self._quiet.set()

    async def abort(self, grace_s: float) -> Literal["ended", "kept"] | None:
        """The calls in flight have been cancelled: see to it that a process of the session's own stops working on them.

        What that means is decided by :func:`workers.tools.stopping.on_stop`. Whatever is called meanwhile waits.
        """
        client, process = self._owner.client, self._owner.process
        calls = [call for call, asked in (self._asked | self._cut).items() if asked is client]
        self._cut.clear()
        if self._session is None or not calls or client is None:
            return None
        known = self._commons.obeys_cancel
        how = on_stop(self.target.entry.on_stop, version=client.protocol_version, obeys_cancel=known)
        if process is None or how == "keep":
            return "kept"
        async with self._owner.holding(client):
            try:
                async with asyncio.timeout(grace_s):
                    await (self._alive() if how == "keep_alive" else _all_answered(calls))
            except TimeoutError:
                await self._owner.end("it was stopped together with a turn")
        self._commons.obeys_cancel |= any(call.refused for call in calls)
        return "kept" if self._owner.client is client else "ended"

    async def _alive(self) -> None:
        """Return once the server answers anything."""
        if self._owner.tools is not None:
            await self._owner.tools.refresh(at_once=True)

    async def restart(self) -> bool:
        """End what runs and forget failures; whether there was anything. It is connected again when it is wanted."""
        self._owner.forgive()
        return await self._owner.end("it is being restarted", grace_s=CLOSE_GRACE_S)

    async def retire(self) -> None:
        """Close once no call runs; bounded. No new ones begin."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RETIRE_TIMEOUT_S):
                await self._quiet.wait()
        await self.close()

    async def close(self) -> None:
        """End the connection and everything its server started; bounded."""
        await self._owner.close(CLOSE_GRACE_S)

    def describe(self) -> dict[str, Any]:
        """The connection as plain data, for status."""
        owner = self._owner
        return {
            "server": self.target.name,
            "scope": "worker" if self._session is None else "session",
            "session": self._session,
            "state": owner.state,
            "since": owner.since,  # seconds since the epoch
            "starts": owner.starts,
            "calls": self._calls,
            "last_error": owner.last_error,
            "detail": owner.detail or None,
            "pid": owner.pid,
        }

    async def _ask(self, client: Client, tool: str, arguments: Mapping[str, Any], sent: Sent | None) -> ToolResult:
        """One call over one client."""
        self._calls += 1
        self._owner.in_flight += 1
        call = ToolInvocation()
        self._asked[call] = client
        try:
            with calling(call):
                result = await self._sent(client, tool, arguments, sent)
        except asyncio.CancelledError:
            self._cut[call] = client
            raise
        except TimeoutError:
            return self._timed_out(client)
        except MCPError as error:
            return self._judged(client, error)
        except (RuntimeError, ValidationError) as error:  # not what the tool's output schema or the protocol says
            return self._failed("tool_error", f"the answer is malformed: {words(error)}")
        except ValueError as error:  # what the SDK cannot write as JSON
            return self._failed("tool_error", f"the arguments cannot be sent: {words(error)}")
        finally:
            del self._asked[call]
            self._owner.in_flight -= 1
            if self._owner.client is client and self._owner.tools is not None:
                self._owner.tools.used = True
            if not self._cut:
                self._owner.wanted_at = time.monotonic()
        self._owner.answered = True
        self._heard()
        return result

    async def _sent(self, client: Client, tool: str, arguments: Mapping[str, Any], sent: Sent | None) -> ToolResult:
        loop = asyncio.get_running_loop()
        timeout_s = self.target.entry.timeout
        cap = loop.time() + max(CALL_CAP_S, timeout_s)
        async with asyncio.timeout(timeout_s) as limit:

            async def progressed(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001  # the SDK's
                self._heard()
                with suppress(RuntimeError):  # the call has ended meanwhile
                    limit.reschedule(min(loop.time() + timeout_s, cap))

            if sent is not None:
                return await sent(client, arguments)
            return to_tool_result(await client.call_tool(tool, dict(arguments), progress_callback=progressed))

    def _heard(self) -> None:
        """The server has said something."""
        self._mute_calls = 0

    def _timed_out(self, client: Client) -> ToolResult:
        """No answer in time; a server that says nothing at all, call after call, is started again."""
        self._mute_calls += 1
        if hangs(self._mute_calls, alone=self._owner.in_flight == 1):
            why = f"it hung: {self._mute_calls} calls in a row timed out without a word from it"
            self._owner.lose(client, why, kill=True)
            self._mute_calls = 0
        return self._failed("unknown", f"no answer within {self.target.entry.timeout:g} s")

    def _judged(self, client: Client, error: MCPError) -> ToolResult:
        """What an error says of a call; an error that is the connection's ends the connection too."""
        outcome, why = outcome_of(error.code), words(error, MAX_ANSWER_CHARS)
        if outcome == "tool_error":
            self._owner.answered = True
        if error.code == CONNECTION_CLOSED and self._owner.client is not client:
            why = self._owner.why or why
        # Over HTTP each call has a connection of its own: the answers of others may still come.
        of_all = error.code == SESSION_LOST or (error.code == CONNECTION_CLOSED and bool(self.target.command))
        if of_all or (error.code in (CONNECTION_CLOSED, NOT_SENT) and self._owner.in_flight == 1):
            self._owner.lose(client, why, kind=kind_of(error.code))
        return self._failed(outcome, why)

    def _failed(self, outcome: Outcome, why: str) -> ToolResult:
        return failed(outcome, f"MCP server {self.target.name!r}: {why}")


async def _all_answered(calls: Iterable[ToolInvocation]) -> None:
    for call in calls:
        await call.answered.wait()
