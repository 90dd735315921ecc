"""An MCP server in memory that answers as a test says, whatever the specification says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp import Client, MCPError
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCRequest, JSONRPCResponse

from workers.tools.pages import by_tool

INITIALIZED = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"tools": {"listChanged": True}},
    "serverInfo": {"name": "scripted", "version": "1"},
}

Answer = Callable[[str, dict[str, Any]], Any]


@asynccontextmanager
async def scripted(answer: Answer, **settings: Any) -> AsyncIterator[Client]:
    """A client of a server.

    Args:
        answer: gives the result for a method and its parameters, or raises the ``MCPError`` to answer with; a result
            that can be awaited is.
        settings: of the client.
    """
    async with Client(by_tool(_streams(answer)), **{"mode": "legacy", **settings}) as client:
        yield client


@asynccontextmanager
async def _streams(answer: Answer) -> AsyncIterator[Any]:
    to_client, read = anyio.create_memory_object_stream[SessionMessage | Exception](10)
    write, from_client = anyio.create_memory_object_stream[SessionMessage](10)

    async def serve(request: JSONRPCRequest) -> None:
        try:
            result = answer(request.method, request.params or {})
            result = await result if hasattr(result, "__await__") else result
            reply: Any = JSONRPCResponse(jsonrpc="2.0", id=request.id, result=result)
        except MCPError as error:
            reply = JSONRPCError(jsonrpc="2.0", id=request.id, error=error.error)
        await to_client.send(SessionMessage(reply))

    async with anyio.create_task_group() as group, to_client, read, write, from_client:

        async def run() -> None:
            async for item in from_client:
                if isinstance(item.message, JSONRPCRequest):
                    group.start_soon(serve, item.message)

        group.start_soon(run)
        yield read, write
        group.cancel_scope.cancel()
