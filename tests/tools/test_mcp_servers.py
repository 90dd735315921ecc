"""The servers of a worker as its sessions see them: what is started when, shared, offered and said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.mcp_counting import Counting, call, runs, until
from fakes.virtual_time import step
from structlog.testing import capture_logs

from hermes_actors.config.model import McpServer, ToolFilter
from workers import json_depth
from workers.models.offer import Offer
from workers.models.provider import ToolCall
from workers.tools import connection
from workers.tools.servers import ToolServers
from workers.tools.toolbox import ToolsUnavailable

Serve = Callable[..., ToolServers]
CRASHING = McpServer(command="false")


def nested(levels: int) -> str:
    """Arguments of so many levels."""
    return '{"text": ' + "[" * (levels - 1) + "]" * (levels - 1) + "}"


def names(offer: Offer) -> set[str]:
    return {tool.name.removeprefix("mcp__count__") for tool in offer.tools}


async def test_no_servers_offer_nothing(serve: Serve) -> None:
    toolbox = serve(off=McpServer(command="false", enabled=False)).toolbox("a")

    assert (await toolbox.definitions()).joined == b""
    assert toolbox.notice is None
    assert (await call(toolbox, "echo")).outcome == "tool_error"
    await toolbox.close()


async def test_a_session_that_calls_nothing_starts_nothing_once_the_catalogue_is_known(
    serve: Serve, counting: Counting
) -> None:
    servers = serve(count=counting.entry())
    first, second = servers.toolbox("first"), servers.toolbox("second")

    assert await first.definitions() is await second.definitions()
    assert len(counting.starts) == 1

    await call(second, "echo", text="hi")
    await call(second, "echo", text="hi")
    assert len(counting.starts) == 2
    assert len({(await call(toolbox, "pid")).text for toolbox in (first, second)}) == 2
    assert {row["session"]: (row["starts"], row["calls"]) for row in servers.connections()} == {
        "first": (1, 1),
        "second": (1, 3),
    }


async def test_sessions_that_come_at_once_wait_for_the_one_that_learns_the_catalogue(
    serve: Serve, counting: Counting
) -> None:
    servers = serve(count=counting.entry())
    toolboxes = [servers.toolbox(str(number)) for number in range(8)]

    offers = await asyncio.gather(*(toolbox.definitions() for toolbox in toolboxes))

    assert len(set(offers)) == 1
    assert len(counting.starts) == 1


async def test_another_session_learns_the_catalogue_when_the_first_one_leaves(serve: Serve, counting: Counting) -> None:
    servers = serve(count=counting.entry())
    first, second = servers.toolbox("first"), servers.toolbox("second")
    leaving = asyncio.create_task(first.definitions())
    waiting = asyncio.create_task(second.definitions())
    await until(lambda: servers.connections() and servers.connections()[0]["pid"], "the first one connects")

    await first.close()

    assert "echo" in names(await waiting)
    assert [row["session"] for row in servers.connections()] == ["second"]
    await leaving


async def test_closing_a_session_ends_its_own_servers_alone(serve: Serve, counting: Counting) -> None:
    servers = serve(count=counting.entry())
    first, second = servers.toolbox("first"), servers.toolbox("second")
    await first.definitions()
    gone, kept = [int((await call(toolbox, "pid")).text) for toolbox in (first, second)]

    await first.close()

    assert not runs(gone)
    assert runs(kept)
    assert (await call(first, "echo", text="late")).outcome == "not_sent"
    assert (await call(second, "echo", text="on")).text == "on"


async def test_a_close_that_is_cancelled_goes_on(
    serve: Serve, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CLOSE_GRACE_S", 0.1)
    toolbox = serve(count=counting.entry("stubborn")).toolbox("a")
    await toolbox.definitions()
    closing = asyncio.create_task(toolbox.close())
    await step()

    closing.cancel()

    await until(lambda: not runs(counting.starts[0]), "the server is gone")


async def test_a_closed_session_connects_nothing(serve: Serve, counting: Counting) -> None:
    servers = serve(count=counting.entry())
    await servers.toolbox("first").definitions()
    second = servers.toolbox("second")
    await second.definitions()

    await second.close()

    assert (await call(second, "echo", text="late")).outcome == "not_sent"
    assert [row["session"] for row in servers.connections()] == ["first"]


async def test_sessions_share_a_server_of_worker_scope_beyond_their_end(serve: Serve, counting: Counting) -> None:
    servers = serve(count=counting.entry(scope="worker"))
    first, second = servers.toolbox("first"), servers.toolbox("second")
    await asyncio.gather(first.definitions(), second.definitions())

    (one,) = {(await call(toolbox, "pid")).text for toolbox in (first, second)}
    await first.close()

    assert (await call(second, "pid")).text == one
    assert len(counting.starts) == 1
    await servers.close()
    assert not runs(int(one))
    assert (await call(second, "pid")).outcome == "not_sent"


async def test_only_chosen_tools_are_offered_and_called(serve: Serve, counting: Counting) -> None:
    toolbox = serve(count=counting.entry(tools=ToolFilter(include=("e*",), exclude=("echo",)))).toolbox("a")

    assert names(await toolbox.definitions()) == {"echo"}
    assert (await call(toolbox, "pid")).outcome == "tool_error"
    assert counting.calls == []


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("mcp__count__echo", "{", "not valid JSON"),
        ("mcp__count__echo", "[]", "not a JSON object"),
        ("mcp__count__echo", "{}", "'text' is a required property"),
        ("mcp__count__echo", "null", "'text' is a required property"),
        ("mcp__count__echo", "7", "not a JSON object"),
        ("mcp__count__ecco", "{}", "Did you mean mcp__count__echo"),
        ("mcp__count__echo", nested(65), "nested deeper than 64 levels"),
    ],
)
async def test_a_call_that_cannot_be_meant_is_a_tool_error_without_a_call(
    serve: Serve, counting: Counting, name: str, arguments: str, said: str
) -> None:
    toolbox = serve(count=counting.entry()).toolbox("a")
    await toolbox.definitions()

    result = await toolbox.call(ToolCall(call_id="1", name=name, arguments=arguments))

    assert result.outcome == "tool_error"
    assert said in result.text
    assert counting.calls == []


async def test_arguments_that_cannot_be_sent_are_a_tool_error_and_the_connection_stays(
    serve: Serve, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_depth, "MAX_DEPTH", 10_000)  # the SDK has a bound of its own
    toolbox = serve(count=counting.raw()).toolbox("a")
    await toolbox.definitions()

    result = await toolbox.call(ToolCall(call_id="1", name="mcp__count__pid", arguments=nested(900)))

    assert result.outcome == "tool_error"
    assert "cannot be sent" in result.text
    assert (await call(toolbox, "pid")).outcome == "result"
    assert len(counting.starts) == 1


async def test_a_call_without_an_answer_in_time_costs_that_call_alone(serve: Serve, counting: Counting) -> None:
    toolbox = serve(count=counting.entry(timeout=0.5)).toolbox("a")
    await toolbox.definitions()

    late, quick = await asyncio.gather(call(toolbox, "sleep", seconds=60), call(toolbox, "echo", text="hi"))

    assert late.outcome == "unknown"
    assert "0.5 s" in late.text
    assert quick.text == "hi"
    assert (await call(toolbox, "echo", text="on")).text == "on"
    assert len(counting.starts) == 1


async def test_progress_keeps_a_call_alive_up_to_the_cap(
    serve: Serve, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolbox = serve(count=counting.entry(timeout=1.0)).toolbox("a")
    await toolbox.definitions()

    alive = call(toolbox, "progress", steps=6, seconds=0.25)
    assert (await alive).text == "done"
    monkeypatch.setattr(connection, "CALL_CAP_S", 1.0)
    assert (await call(toolbox, "progress", steps=200, seconds=0.25)).outcome == "unknown"


async def test_a_cancelled_call_leaves_the_others_and_the_connection_alone(serve: Serve, counting: Counting) -> None:
    toolbox = serve(count=counting.entry()).toolbox("a")
    await toolbox.definitions()
    doomed = asyncio.create_task(call(toolbox, "sleep", seconds=60))
    other = asyncio.create_task(call(toolbox, "progress", steps=1, seconds=0.5))
    await until(lambda: len(counting.calls) == 2, "both calls arrived")

    doomed.cancel()
    await asyncio.gather(doomed, return_exceptions=True)

    assert (await other).text == "done"
    assert (await call(toolbox, "echo", text="on")).text == "on"
    assert len(counting.starts) == 1


async def test_a_required_server_that_cannot_be_connected_fails_the_turn_and_says_which(serve: Serve) -> None:
    toolbox = serve(vital=McpServer(command="false", required=True)).toolbox("a")

    with pytest.raises(ToolsUnavailable, match=r"'vital'.*required"):
        await toolbox.definitions()


async def test_a_required_server_is_connected_before_the_first_turn_of_each_session(
    serve: Serve, counting: Counting
) -> None:
    servers = serve(count=counting.entry(required=True))

    for session in ("first", "second"):
        await servers.toolbox(session).definitions()

    assert len(counting.starts) == 2


async def test_tools_that_are_missing_are_said_and_the_others_are_offered(serve: Serve, counting: Counting) -> None:
    toolbox = serve(count=counting.entry(), broken=CRASHING).toolbox("a")

    assert "echo" in names(await toolbox.definitions())
    assert "'broken'" in (toolbox.notice or "")


async def test_a_tool_that_no_provider_could_read_is_left_out_and_the_log_says_so_once(
    serve: Serve, counting: Counting
) -> None:
    servers = serve(count=counting.raw("untold"))

    with capture_logs() as logged:
        offered = names(await servers.toolbox("a").definitions())
        await call(servers.toolbox("b"), "echo", text="hi")

    assert "echo" in offered
    assert "huge" not in offered
    (line,) = [entry for entry in logged if entry["event"] == "mcp tools left out"]
    assert (line["server"], line["tools"]) == ("count", ["huge: Integer exceeds 64-bit range"])


async def test_a_server_that_crashes_at_start_is_not_started_by_each_message(serve: Serve, tmp_path: Path) -> None:
    servers = serve(broken=McpServer(command="sh", args=("-c", f"echo >> {tmp_path}/starts; exit 1")))
    over = asyncio.get_running_loop().time() + 1.0

    while asyncio.get_running_loop().time() < over:
        await servers.toolbox("a session after the other").definitions()
        await asyncio.sleep(0.005)

    assert len((tmp_path / "starts").read_text()) <= 4  # pauses of at least 0.25, 0.5 and 1 s lie between


async def test_nobody_waits_a_second_time_for_a_server_that_does_not_answer(serve: Serve, tmp_path: Path) -> None:
    silent = McpServer(command="sh", args=("-c", f"echo >> {tmp_path}/starts; sleep 300"), connect_timeout=1.0)
    servers = serve(mute=silent)
    await servers.toolbox("first").definitions()

    async def is_tried_again() -> bool:
        async with asyncio.timeout(0.9):  # less than an attempt takes
            await servers.toolbox("later").definitions()
        return len((tmp_path / "starts").read_text()) == 2

    await until(is_tried_again, "it is tried again beside the turns")
