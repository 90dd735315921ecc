"""A server's tool listing, and the news that it has changed, in both eras of the protocol."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import anyio
from mcp import Client, MCPError
from mcp.client.subscriptions import SubscriptionLost
from mcp_types import METHOD_NOT_FOUND
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from workers.tools.catalogue import LeftOut, ListedTool, Listing
from workers.tools.outage import pause_s

LIST_TIMEOUT_S = 30.0  # of a listing while the connection is up; the first one is part of connecting
CHANGE_SETTLES_S = 0.25  # news of changed tools comes in bursts
MAX_PAGES = 100  # of one listing
MAX_TOOLS = 1000  # of one server


TASK_ONLY = "it runs as a task only (execution.taskSupport: required), which no call here can ask for"


async def list_tools(client: Client) -> Listing:
    """All tools of a server, as many as are taken from one.

    Raises:
        MCPError: the server or the connection failed.
        ValidationError: the answer is no tool listing.
    """
    tools: list[ListedTool] = []
    left_out: list[LeftOut] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        try:
            page = await client.list_tools(cursor=cursor)
        except MCPError as error:
            if error.code == METHOD_NOT_FOUND:  # a server of resources and prompts alone
                break
            raise
        for tool in page.tools:
            if tool.execution is not None and tool.execution.task_support == "required":
                left_out.append(LeftOut(tool.name, TASK_ONLY))
                continue
            tools.append(ListedTool(name=tool.name, description=tool.description, input_schema=tool.input_schema))
        cursor = page.next_cursor
        if cursor is None or len(tools) >= MAX_TOOLS:
            break
    return Listing(tools=tuple(tools[:MAX_TOOLS]), left_out=tuple(left_out))


async def follow(client: Client, changed: asyncio.Event, on_tools: Callable[[Listing], None]) -> None:
    """List anew each time ``changed`` is set, until cancelled. A listing that fails leaves the old one standing."""
    async with anyio.create_task_group() as group:
        if _announces_by_stream(client):
            group.start_soon(_listen, client, changed)
        while True:
            await changed.wait()
            await anyio.sleep(CHANGE_SETTLES_S)
            changed.clear()
            try:
                with anyio.fail_after(LIST_TIMEOUT_S):
                    tools = await list_tools(client)
            except (MCPError, ValidationError, TimeoutError):
                continue
            on_tools(tools)


def _announces_by_stream(client: Client) -> bool:
    """Since 2026-07-28 changes are told on a stream that the client opens; before, without being asked."""
    offered = client.server_capabilities.tools
    return client.protocol_version in MODERN_PROTOCOL_VERSIONS and bool(offered and offered.list_changed)


async def _listen(client: Client, changed: asyncio.Event) -> None:
    """Keep the stream open; what changed while it was not is found by listing again."""
    failures = 0
    while True:
        try:
            async with client.listen(tools_list_changed=True) as news:
                if failures:
                    changed.set()
                async for _ in news:
                    failures = 0
                    changed.set()
        except MCPError as error:
            if error.code == METHOD_NOT_FOUND:
                return
        except SubscriptionLost:
            pass  # asked for again below
        failures += 1
        await anyio.sleep(pause_s(failures, random.random()))  # noqa: S311  # jitter is no secret
