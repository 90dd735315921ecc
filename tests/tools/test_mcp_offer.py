"""Which tools a turn is offered: those of servers that are slow to come, and those that come or go unannounced."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from fakes.mcp_counting import BOUND_S, Counting, call, until
from structlog.testing import capture_logs

from workers.tools import entry, listing
from workers.tools.outcomes import failed, knows_no_tool
from workers.tools.servers import ToolServers
from workers.tools.toolbox import Toolbox, ToolResult

Serve = Callable[..., ToolServers]


async def offered(toolbox: Toolbox) -> set[str]:
    return {tool.name.removeprefix("mcp__count__") for tool in (await toolbox.definitions()).tools}


# -- servers that are slow to come --------------------------------------------------------------------------------
async def test_a_turn_goes_on_without_a_server_that_does_not_come_up_and_has_its_tools_once_it_does(
    serve: Serve, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "TURN_WAIT_S", 0.3)
    servers = serve(count=counting.raw("slow"))
    toolbox, other = servers.toolbox("a"), servers.toolbox("b")

    assert await offered(toolbox) == set()

    assert "'count' is still starting" in (toolbox.notice or "")
    async with asyncio.timeout(0.25):  # it was waited for already
        assert await offered(other) == set()
        assert await offered(toolbox) == set()
    (counting.directory / "ready").touch()
    await until(lambda: servers.live, "the server is up")
    assert "echo" in await offered(toolbox)
    assert toolbox.notice is None
    assert (await call(other, "echo", text="hi")).text == "hi"


async def test_a_session_that_comes_later_waits_no_longer_than_the_first(
    serve: Serve, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "TURN_WAIT_S", 0.5)
    servers = serve(count=counting.raw("slow"))
    first = asyncio.create_task(servers.toolbox("a").definitions())
    await until(lambda: counting.starts, "the server is being started")

    await servers.toolbox("b").definitions()

    assert len(counting.starts) == 1
    await first


async def test_a_call_of_a_tool_of_a_server_that_does_not_come_up_is_told_why(
    serve: Serve, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "TURN_WAIT_S", 0.1)
    toolbox = serve(count=counting.raw("slow")).toolbox("a")
    await toolbox.definitions()

    result = await call(toolbox, "echo", text="hi")

    assert result.outcome == "tool_error"
    assert "still starting" in result.text


async def test_a_required_server_is_waited_for(
    serve: Serve, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "TURN_WAIT_S", 0.0)
    toolbox = serve(count=counting.raw("slow", required=True)).toolbox("a")
    defining = asyncio.create_task(offered(toolbox))
    await until(lambda: counting.starts, "the server is being started")

    (counting.directory / "ready").touch()

    assert "echo" in await defining


# -- tools that come and go unannounced ---------------------------------------------------------------------------
@pytest.mark.parametrize("scope", ["session", "worker"])
async def test_a_tool_that_appears_unannounced_is_offered_in_the_next_turn(
    serve: Serve, counting: Counting, scope: str
) -> None:
    toolbox = serve(count=counting.raw(scope=scope)).toolbox("a")
    assert "grown" not in await offered(toolbox)
    await call(toolbox, "grow")

    assert "grown" in await offered(toolbox)

    assert (await call(toolbox, "grown")).text == "I am new"
    await call(toolbox, "shrink")
    assert "grown" not in await offered(toolbox)


async def test_a_listing_is_made_again_after_a_while_and_not_in_each_turn(
    serve: Serve, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolbox = serve(count=counting.raw()).toolbox("a")
    for _ in range(5):
        await toolbox.definitions()
    assert counting.listings == 1

    monkeypatch.setattr(listing, "FRESH_S", 0.0)
    await toolbox.definitions()

    assert counting.listings == 2


async def test_a_tool_that_the_model_knows_before_we_do_is_called(serve: Serve, counting: Counting) -> None:
    toolbox = serve(count=counting.raw()).toolbox("a")
    await toolbox.definitions()
    await call(toolbox, "grow")

    assert (await call(toolbox, "grown")).text == "I am new"


async def test_a_tool_that_its_server_knows_no_more_is_offered_no_more(serve: Serve, counting: Counting) -> None:
    toolbox = serve(count=counting.raw()).toolbox("a")
    await toolbox.definitions()
    await call(toolbox, "grow")
    await toolbox.definitions()
    await call(toolbox, "shrink")

    gone = await call(toolbox, "grown")

    assert "Unknown tool: grown" in gone.text
    assert "There is no tool 'mcp__count__grown'" in gone.text


async def test_a_made_up_name_starts_no_process(serve: Serve, counting: Counting) -> None:
    servers = serve(count=counting.raw())
    await servers.toolbox("a").definitions()

    assert (await call(servers.toolbox("b"), "made_up")).outcome == "tool_error"

    assert len(counting.starts) == 1


@pytest.mark.parametrize(
    ("words", "knows_none"),
    [
        ("Unknown tool: grown", True),
        ("MCP error -32602: Tool grown not found", True),
        ("Tool 'grown' does not exist", True),
        ("no such tool", True),
        ("Unrecognized tool grown", True),
        ("The page was not found", False),
        ("file not found by the tool", False),
    ],
)
def test_a_server_says_in_words_that_it_has_no_such_tool(words: str, knows_none: bool) -> None:
    assert knows_no_tool(ToolResult(text=words, outcome="tool_error")) is knows_none
    assert knows_no_tool(failed("tool_error", f"MCP server 'x': {words}")) is knows_none
    assert not knows_no_tool(ToolResult(text=words))


async def test_a_listing_that_ends_early_is_in_the_log_once(
    serve: Serve, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_TOOLS", 2)
    monkeypatch.setattr(listing, "FRESH_S", 0.0)
    toolbox = serve(count=counting.raw("paged")).toolbox("a")

    with capture_logs() as logged:
        async with asyncio.timeout(BOUND_S):
            for _ in range(3):
                await toolbox.definitions()

    (line,) = [entry for entry in logged if entry["event"] == "mcp listing ended early"]
    assert (line["server"], line["tools"]) == ("count", 2)
