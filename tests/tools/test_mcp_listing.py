from __future__ import annotations

from typing import Any, cast

import pytest
from mcp import Client, MCPError
from mcp_types import METHOD_NOT_FOUND, ListToolsResult, Tool, ToolExecution

from workers.tools import listing
from workers.tools.listing import list_tools


class PagingClient:
    """Lists one tool a page, for ever or up to a last page."""

    def __init__(self, pages: int) -> None:
        self._pages = pages
        self.asked = 0

    async def list_tools(self, *, cursor: str | None = None) -> ListToolsResult:
        page = int(cursor or 0)
        self.asked += 1
        following = str(page + 1) if page + 1 < self._pages else None
        return ListToolsResult(tools=[Tool(name=f"t{page}", input_schema={"type": "object"})], next_cursor=following)


class ToollessClient:
    async def list_tools(self, *, cursor: str | None = None) -> ListToolsResult:
        raise MCPError(METHOD_NOT_FOUND, "Method not found")


async def listed(client: Any) -> list[str]:
    return [tool.name for tool in (await list_tools(cast("Client", client))).tools]


async def test_all_pages_are_read() -> None:
    assert await listed(PagingClient(3)) == ["t0", "t1", "t2"]


async def test_a_listing_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_PAGES", 5)
    client = PagingClient(10**9)

    assert len(await listed(client)) == 5
    assert client.asked == 5


async def test_a_server_that_knows_no_tools_offers_none() -> None:
    assert await listed(ToollessClient()) == []


class TaskClient:
    async def list_tools(self, *, cursor: str | None = None) -> ListToolsResult:
        def tool(support: Any) -> Tool:
            execution = ToolExecution(task_support=support)
            return Tool(name=str(support), input_schema={"type": "object"}, execution=execution)

        return ListToolsResult(tools=[tool(support) for support in ("required", "optional", "forbidden", None)])


async def test_a_tool_that_runs_as_a_task_only_is_left_out_with_the_reason() -> None:
    listing = await list_tools(cast("Client", TaskClient()))

    assert [tool.name for tool in listing.tools] == ["optional", "forbidden", "None"]
    assert [(tool.name, "as a task only" in tool.why) for tool in listing.left_out] == [("required", True)]
