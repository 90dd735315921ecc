from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from fakes.mcp_counting import BOUND_S, until
from fakes.mcp_scripted import INITIALIZED, scripted
from mcp import MCPError
from mcp_types import METHOD_NOT_FOUND
from pydantic import ValidationError

from workers.tools import listing
from workers.tools.catalogue import Listing
from workers.tools.listing import FRESH_S, SHORTEST_FRESH_S, ToolNews, is_stale, list_tools
from workers.tools.pages import TASK_ONLY

OBJECT = {"type": "object"}
DISCOVERED = {
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "scripted", "version": "1"},
    "resultType": "complete",
    "cacheScope": "private",
    "ttlMs": 0,
}


def tool(name: Any, **fields: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": OBJECT, **fields}


class Server:
    """Gives one page after the other; what it was asked is counted."""

    def __init__(self, *pages: Mapping[str, Any], cursors: Any = None) -> None:
        self.asked = 0
        self._pages = pages
        self._cursors = cursors or (lambda number: str(number) if number < len(pages) else None)

    def answer(self, method: str, given: dict[str, Any]) -> Any:
        if method == "initialize":
            return INITIALIZED
        if method == "server/discover":
            return DISCOVERED
        assert method == "tools/list"
        self.asked += 1
        page = self._pages[(self.asked - 1) % len(self._pages)]
        following = self._cursors(self.asked)
        return page if following is None else {**page, "nextCursor": following}


def one_a_page(number: int) -> list[dict[str, Any]]:
    return [{"tools": [tool(f"t{page}")]} for page in range(number)]


async def listed(server: Server, *, mode: str = "legacy", within_s: float = BOUND_S) -> Listing:
    async with scripted(server.answer, mode=mode) as client:
        return await list_tools(client, within_s=within_s)


def names(listing: Listing) -> list[str]:
    return [tool.name for tool in listing.tools]


# -- pages --------------------------------------------------------------------------------------------------------
async def test_all_pages_are_read() -> None:
    found = await listed(Server(*one_a_page(3)))

    assert (names(found), found.cut) == (["t0", "t1", "t2"], None)


async def test_a_listing_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_PAGES", 5)
    server = Server(*one_a_page(9), cursors=str)

    found = await listed(server)

    assert len(found.tools) == server.asked == 5
    assert "5 pages" in (found.cut or "")


@pytest.mark.parametrize("cursors", [lambda _: "p1", lambda number: "ab"[number % 2], lambda number: str(number % 3)])
async def test_a_cursor_that_comes_again_ends_the_listing(cursors: Any) -> None:
    server = Server(*one_a_page(3), cursors=cursors)

    found = await listed(server)

    assert "came again" in (found.cut or "")
    assert server.asked <= 4
    assert "t0" in names(found)


@pytest.mark.parametrize("cursor", ["", 7, {}])
async def test_a_cursor_that_is_none_ends_the_listing(cursor: Any) -> None:
    found = await listed(Server({"tools": [tool("t")]}, cursors=lambda _: cursor))

    assert (names(found), found.cut) == (["t"], None)


@pytest.mark.parametrize("late", ["refused", "silent"])
async def test_a_later_page_that_does_not_come_costs_what_it_would_hold(late: str) -> None:
    server = Server({"tools": [tool("t")]}, cursors=lambda _: "next")

    def answer(method: str, given: dict[str, Any]) -> Any:
        if given.get("cursor") is None:
            return server.answer(method, given)
        if late == "silent":
            return asyncio.get_running_loop().create_future()
        raise MCPError(-32602, "bad cursor")

    async with scripted(answer) as client:
        found = await list_tools(client, within_s=0.2)

    assert names(found) == ["t"]
    assert "page 2" in (found.cut or "")


async def test_a_server_that_knows_no_tools_offers_none() -> None:
    def answer(method: str, given: dict[str, Any]) -> Any:
        if method == "tools/list":
            raise MCPError(METHOD_NOT_FOUND, "Method not found")
        return INITIALIZED

    async with scripted(answer) as client:
        assert await list_tools(client) == Listing(tools=())


# -- tools --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize(
    ("odd", "name", "why"),
    [
        (tool(None), "(tool 1)", "no name"),
        (tool(7), "(tool 1)", "no name"),
        ({"inputSchema": OBJECT}, "(tool 1)", "no name"),
        ("echo", "(tool 1)", "no name"),
        (tool("odd", inputSchema="object"), "odd", "no JSON schema"),
        (tool("odd", inputSchema=[]), "odd", "no JSON schema"),
        (tool("odd", inputSchema=False), "odd", "no JSON schema"),
        (tool("odd", execution={"taskSupport": "required"}), "odd", TASK_ONLY),
    ],
)
async def test_a_tool_that_cannot_be_read_is_left_out_alone(mode: str, odd: Any, name: str, why: str) -> None:
    found = await listed(Server({"tools": [odd, tool("healthy")]}), mode=mode)

    assert names(found) == ["healthy"]
    (left,) = found.left_out
    assert left.name == name
    assert why in left.why


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize(
    "fields",
    [
        {"inputSchema": None},
        {"inputSchema": {"anyOf": [OBJECT]}},
        {"inputSchema": {"type": "object", "properties": {"q": None}, "required": None, "$schema": 5}},
        {"inputSchema": {"type": ["object", "null"]}},
        {"outputSchema": {"type": "nonsense"}},
        {"outputSchema": {"type": "array"}},
        {"outputSchema": "text"},
        {"outputSchema": {"type": "object", "properties": {"q": {"$ref": "#/$defs/missing"}}}},
        {"outputSchema": {"type": "object", "required": None}},
        {"icons": "icon.png"},
        {"icons": [{"src": 5}]},
        {"annotations": []},
        {"description": ["many", "words"]},
        {"title": {}},
        {"execution": "none"},
        {"_meta": 5},
    ],
)
async def test_what_nobody_needs_of_a_tool_costs_it_nothing(mode: str, fields: dict[str, Any]) -> None:
    server = Server({"tools": [{**tool("odd"), **fields}, tool("healthy")]})

    def answer(method: str, given: dict[str, Any]) -> Any:
        if method == "tools/call":
            return {"content": [], "structuredContent": {"q": 1}, "resultType": "complete"}
        return server.answer(method, given)

    async with scripted(answer, mode=mode) as client:
        assert names(await list_tools(client)) == ["odd", "healthy"]
        assert (await client.call_tool("odd")).structured_content == {"q": 1}


async def test_a_sound_output_schema_is_checked_still() -> None:
    server = Server({"tools": [tool("t", outputSchema={**OBJECT, "required": ["q"]})]})

    def answer(method: str, given: dict[str, Any]) -> Any:
        return {"content": [], "structuredContent": {}} if method == "tools/call" else server.answer(method, given)

    async with scripted(answer) as client:
        await list_tools(client)
        with pytest.raises(RuntimeError, match="Invalid structured content"):
            await client.call_tool("t")


@pytest.mark.parametrize(("place", "is_kept"), [("properties", True), ("items", False)])
async def test_headers_for_arguments_are_those_of_the_specification_or_leave_the_tool_out(
    place: str, is_kept: bool
) -> None:
    annotated = {"region": {"type": "string", "x-mcp-header": "Region"}}
    schema = {"type": "object", place: annotated if place == "properties" else annotated["region"]}

    found = await listed(Server({"tools": [tool("t", inputSchema=schema)]}), mode="auto")

    assert names(found) == (["t"] if is_kept else [])
    assert bool(found.left_out) != is_kept


@pytest.mark.parametrize("page", [{}, {"tools": {}}, {"tools": "t"}])
async def test_what_is_no_listing_at_all_fails(page: dict[str, Any]) -> None:
    async with scripted(Server(page).answer) as client:
        with pytest.raises(ValidationError):
            await list_tools(client)


async def test_null_is_an_empty_listing() -> None:
    assert await listed(Server({"tools": None})) == Listing(tools=())


# -- how long it holds --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("ttl_ms", "ttl_s"), [(0, 0.0), (5_000, 5.0), (250.5, 0.2505), (-1, 0.0), (None, None), ("5", None), (True, None)]
)
async def test_how_long_a_listing_is_fresh_is_the_servers_word(ttl_ms: Any, ttl_s: float | None) -> None:
    assert (await listed(Server({"tools": [], "ttlMs": ttl_ms}), mode="auto")).ttl_s == ttl_s


@pytest.mark.parametrize(
    ("age_s", "ttl_s", "announced", "used", "stale"),
    [
        (9_999.0, 0.0, True, True, False),  # it says so itself
        (0.0, 0.0, False, True, True),
        (SHORTEST_FRESH_S / 2, 0.0, False, False, False),
        (SHORTEST_FRESH_S, 0.0, False, False, True),
        (0.0, None, False, True, True),
        (FRESH_S - 1, None, False, False, False),
        (FRESH_S, None, False, False, True),
        (59.0, 60.0, False, True, False),  # the server promised
        (60.0, 60.0, False, False, True),
        (SHORTEST_FRESH_S / 2, 0.001, False, True, False),
    ],
)
def test_a_listing_is_made_again_where_it_may_have_changed_unannounced(
    age_s: float, ttl_s: float | None, announced: bool, used: bool, stale: bool
) -> None:
    assert is_stale(age_s=age_s, ttl_s=ttl_s, announced=announced, used=used) is stale


async def test_those_who_ask_at_the_same_time_share_one_listing() -> None:
    server = Server({"tools": [tool("t")]})
    seen: list[Listing] = []
    async with scripted(server.answer) as client:
        news = ToolNews(client, await list_tools(client), seen.append, pushes=lambda: False)
        news.used = True

        await asyncio.gather(*(news.refresh(at_once=True) for _ in range(5)))
        await news.refresh()

    assert server.asked == 2
    assert len(seen) == 1


async def test_a_listing_that_fails_leaves_the_old_one_and_the_next_is_tried() -> None:
    server = Server({"tools": [tool("t")]}, {})
    seen: list[Listing] = []
    async with scripted(lambda *asked: server.answer(*asked)) as client:
        server._cursors = lambda _: None
        news = ToolNews(client, await list_tools(client), seen.append, pushes=lambda: False)
        await news.refresh(at_once=True)
        following = asyncio.create_task(news.follow())
        news.changed()

        await until(lambda: seen, "the tools are listed again")
        following.cancel()

    assert names(seen[0]) == ["t"]
