"""What an operator does to the servers of a worker: restart one, and change the configuration."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from fakes.mcp_counting import Counting, call, runs, until

from hermes_actors.config.model import McpServer, ToolFilter
from hermes_actors.config.variables import UnsetVariable
from workers.tools import connection, outage
from workers.tools.servers import ToolServers, UnknownServer
from workers.tools.toolbox import Toolbox

Serve = Callable[..., ToolServers]


async def pid_of(toolbox: Toolbox) -> int:
    return int((await call(toolbox, "pid")).text)


async def servers_of(toolbox: Toolbox) -> set[str]:
    definitions = orjson.loads((await toolbox.definitions()).joined or b"[]")
    return {tool["function"]["name"].split("__")[1] for tool in definitions}


async def test_a_restart_ends_every_connection_of_its_server_and_each_comes_back_when_it_is_wanted(
    serve: Serve, counting: Counting
) -> None:
    servers = serve(count=counting.raw(), other=counting.raw())
    toolboxes = [servers.toolbox(name) for name in "ab"]
    await toolboxes[0].definitions()
    before = [await pid_of(toolbox) for toolbox in toolboxes]
    kept = (await call(toolboxes[0], "mcp__other__pid")).text
    calling = asyncio.create_task(call(toolboxes[0], "work", seconds=60))
    await until(lambda: "work" in counting.calls, "the call arrived")

    assert await servers.restart("count") == 2

    assert (await calling).outcome == "unknown"
    assert not any(map(runs, before))
    after = [await pid_of(toolbox) for toolbox in toolboxes]
    assert len({*before, *after}) == 4
    assert (await call(toolboxes[0], "mcp__other__pid")).text == kept


async def test_a_restart_forgets_how_often_a_server_failed(
    serve: Serve, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = serve(count=counting.raw("useless"))
    toolbox = servers.toolbox("a")
    await toolbox.definitions()
    (counting.directory / "known").touch()
    os.kill(counting.starts[0], signal.SIGKILL)
    monkeypatch.setattr(outage, "FIRST_PAUSE_S", 60.0)

    async def is_left_alone() -> bool:
        return "the next attempt is due in" in (await call(toolbox, "echo", text="hi")).text

    await until(is_left_alone, "the server is not asked any more")
    (counting.directory / "known").unlink()
    await servers.restart("count")

    assert servers.connections()[0]["state"] == "idle"
    assert (await call(toolbox, "echo", text="back")).text == "back"


async def test_a_restart_of_what_does_not_run_starts_nothing(serve: Serve, counting: Counting) -> None:
    servers = serve(count=counting.raw())

    assert await servers.restart("count") == 0
    assert counting.starts == []


async def test_a_restart_of_an_unknown_server_names_those_that_there_are(serve: Serve, counting: Counting) -> None:
    servers = serve(count=counting.raw())

    with pytest.raises(UnknownServer, match=r"'cuont'.*count"):
        await servers.restart("cuont")


async def test_what_a_configuration_does_not_change_keeps_its_connections_and_catalogues(
    serve: Serve, counting: Counting
) -> None:
    entry = counting.raw(env={"TOKEN": "${TOKEN}"})
    servers = serve({"TOKEN": "old"}, count=entry, gone=counting.raw())
    toolbox = servers.toolbox("a")
    assert await servers_of(toolbox) == {"count", "gone"}
    kept, removed = await pid_of(toolbox), int((await call(toolbox, "mcp__gone__pid")).text)

    servers.reconfigure({"count": entry, "new": counting.raw()}, {"TOKEN": "old", "UNRELATED": "x"})

    assert await pid_of(toolbox) == kept
    assert await servers_of(toolbox) == {"count", "new"}
    await until(lambda: not runs(removed), "the server that was removed is gone")
    assert (await call(toolbox, "mcp__gone__pid")).outcome == "tool_error"


@pytest.mark.parametrize(
    ("changed", "token", "starts"),
    [
        ({"timeout": 33, "connect_timeout": 34}, "old", 1),
        ({"tools": ToolFilter(exclude=("pid",))}, "old", 2),
        ({}, "new", 2),
    ],
)
async def test_a_server_of_which_only_time_outs_change_is_not_asked_again_which_tools_it_has(
    serve: Serve, counting: Counting, changed: dict[str, Any], token: str, starts: int
) -> None:
    entry = counting.raw(env={"TOKEN": "${TOKEN}"})
    servers = serve({"TOKEN": "old"}, count=entry)
    await servers.toolbox("a").definitions()

    servers.reconfigure({"count": entry.model_copy(update=changed)}, {"TOKEN": token})

    assert await servers_of(servers.toolbox("b")) == {"count"}
    assert len(counting.starts) == starts


@pytest.mark.parametrize("scope", ["session", "worker"])
async def test_a_rotated_credential_is_used_by_the_next_call_and_a_running_one_goes_on(
    serve: Serve, counting: Counting, scope: str
) -> None:
    entry = counting.raw(env={"TOKEN": "${TOKEN}"}, scope=scope)
    servers = serve({"TOKEN": "old"}, count=entry)
    toolbox = servers.toolbox("a")
    await toolbox.definitions()
    old = await pid_of(toolbox)
    running = asyncio.create_task(call(toolbox, "work", seconds=0.5))
    await until(lambda: "work" in counting.calls, "the call arrived")

    servers.reconfigure({"count": entry}, {"TOKEN": "new"})

    assert (await call(toolbox, "variable", name="TOKEN")).text == "new"
    assert (await running).text == "worked"
    await until(lambda: [row["state"] for row in servers.connections()] == ["up"], "the old connection is gone")
    assert not runs(old)


async def test_a_call_over_an_entry_that_is_no_more_is_cut_in_the_end(
    serve: Serve, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "RETIRE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(connection, "CLOSE_GRACE_S", 0.1)
    servers = serve(count=counting.raw())
    toolbox = servers.toolbox("a")
    await toolbox.definitions()
    running = asyncio.create_task(call(toolbox, "work", seconds=60))
    await until(lambda: counting.calls == ["work"], "the call arrived")

    servers.reconfigure({}, {})

    assert (await running).outcome == "unknown"
    await until(lambda: not runs(counting.starts[0]), "the server is gone")
    assert (await toolbox.definitions()).joined == b""


async def test_a_configuration_that_lacks_a_value_changes_nothing(serve: Serve, counting: Counting) -> None:
    servers = serve(count=counting.raw())
    toolbox = servers.toolbox("a")
    await toolbox.definitions()
    kept = await pid_of(toolbox)
    broken: dict[str, Any] = {"count": McpServer(command="x", env={"TOKEN": "${TOKEN}"})}

    with pytest.raises(UnsetVariable):
        servers.reconfigure(broken, {})

    assert await pid_of(toolbox) == kept


async def test_a_stop_reaches_a_call_over_an_entry_that_is_no_more(serve: Serve, counting: Counting) -> None:
    servers = serve(count=counting.raw())
    toolbox = servers.toolbox("a")
    await toolbox.definitions()
    running = asyncio.create_task(call(toolbox, "work", seconds=60))
    await until(lambda: counting.calls == ["work"], "the call arrived")
    servers.reconfigure({"count": counting.raw(timeout=33)}, {})
    await call(toolbox, "echo", text="hi")

    running.cancel()
    await toolbox.abort(0.1)

    assert not runs(counting.starts[0])


async def test_closing_the_worker_ends_what_is_being_replaced_too(serve: Serve, counting: Counting) -> None:
    servers = serve(count=counting.raw())
    toolbox = servers.toolbox("a")
    await toolbox.definitions()
    running = asyncio.create_task(call(toolbox, "work", seconds=60))
    await until(lambda: counting.calls == ["work"], "the call arrived")
    servers.reconfigure({}, {})

    await servers.close()

    assert not runs(counting.starts[0])
    assert (await running).outcome == "unknown"
