"""A stdio server from its first start until nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.mcp_counting import BOUND_S, Counting, call, runs, until

from hermes_actors.config.model import McpServer
from workers.tools import connection, entry
from workers.tools.servers import ToolServers
from workers.tools.toolbox import Toolbox

Serve = Callable[..., ToolServers]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers start slowly on a busy machine."""
    monkeypatch.setattr(entry, "TURN_WAIT_S", BOUND_S)


both_loops = pytest.mark.asyncio(loop_factories=["uvloop", "asyncio"])


async def is_offered(toolbox: Toolbox, tool: bytes) -> bool:
    return tool in (await toolbox.definitions()).joined


def sh(script: str, **settings: Any) -> McpServer:
    return McpServer(**{"command": "sh", "args": ("-c", script), "connect_timeout": BOUND_S, **settings})


@pytest.mark.parametrize("protocol", ["auto", "legacy"])
async def test_a_failed_call_keeps_the_connection_and_changes_of_tools_are_seen(
    serve: Serve, counting: Counting, protocol: str
) -> None:
    toolbox = serve(count=counting.entry(protocol=protocol)).toolbox("a")
    before = (await toolbox.definitions()).joined

    assert (await call(toolbox, "boom")).outcome == "tool_error"
    assert (await call(toolbox, "echo", text="hi")).text == "hi"
    assert b"mcp__count__grown" not in before
    await call(toolbox, "grow")
    await until(lambda: is_offered(toolbox, b"mcp__count__grown"), "the new tool is offered")
    assert (await call(toolbox, "grown")).text == "grown"
    assert len(counting.starts) == 1


async def test_a_server_killed_during_a_call_gives_an_unknown_outcome_and_the_next_call_works(
    serve: Serve, counting: Counting
) -> None:
    servers = serve(count=counting.entry())
    toolbox = servers.toolbox("a")
    await toolbox.definitions()
    calling = asyncio.create_task(call(toolbox, "sleep", seconds=60))
    await until(lambda: counting.calls == ["sleep"], "the call arrived")

    os.kill(counting.starts[0], signal.SIGKILL)

    assert (await calling).outcome == "unknown"
    assert (await call(toolbox, "echo", text="again")).text == "again"
    assert counting.calls == ["sleep", "echo"]
    assert len(counting.starts) == 2
    assert "was lost" in servers.connections()[0]["last_error"]


async def test_an_idle_server_that_dies_is_noticed_and_the_next_call_is_sent_once(
    serve: Serve, counting: Counting
) -> None:
    servers = serve(count=counting.entry())
    toolbox = servers.toolbox("a")
    await toolbox.definitions()

    os.kill(counting.starts[0], signal.SIGKILL)
    await until(lambda: servers.connections()[0]["state"] != "up", "the loss was noticed")

    assert (await call(toolbox, "echo", text="again")).outcome == "result"
    assert counting.calls == ["echo"]


@both_loops
async def test_closing_ends_the_server_its_children_and_those_that_left_its_process_group(
    serve: Serve, counting: Counting
) -> None:
    servers = serve(count=counting.entry())
    toolbox = servers.toolbox("a")
    await toolbox.definitions()
    child = int((await call(toolbox, "spawn_child", seconds=300)).text)
    daemon = int((await call(toolbox, "spawn_child", seconds=300, leave_group=True)).text)
    assert runs(child)
    assert runs(daemon)

    await toolbox.close()

    assert not runs(counting.starts[0])
    await until(lambda: not runs(child) and not runs(daemon), "its killed descendants are gone")
    assert servers.connections() == []


async def test_a_server_that_ignores_its_end_is_killed(
    serve: Serve, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CLOSE_GRACE_S", 0.1)
    toolbox = serve(count=counting.entry("stubborn")).toolbox("a")
    await toolbox.definitions()

    await toolbox.close()

    assert not runs(counting.starts[0])


@both_loops
async def test_a_silent_server_is_given_up_after_its_connect_timeout_with_all_its_children(
    serve: Serve, tmp_path: Path
) -> None:
    script = f"sleep 300 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/pid; sleep 300"
    toolbox = serve(mute=sh(script, connect_timeout=0.5)).toolbox("a")

    assert (await toolbox.definitions()).joined == b""

    assert "no answer within 0.5 s" in (toolbox.notice or "")
    pids = [int((tmp_path / name).read_text()) for name in ("child", "pid")]
    await until(lambda: not any(map(runs, pids)), "what was killed is gone")


async def test_closing_while_a_server_starts_leaves_nothing_behind(serve: Serve, tmp_path: Path) -> None:
    toolbox = serve(mute=sh(f"echo $$ > {tmp_path}/pid; sleep 300")).toolbox("a")
    defining = asyncio.create_task(toolbox.definitions())
    await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the server started")

    await toolbox.close()

    assert not runs(int((tmp_path / "pid").read_text()))
    assert not (await defining).tools


async def test_a_command_that_is_missing_is_named(serve: Serve) -> None:
    toolbox = serve(gone=McpServer(command="/no/such/command")).toolbox("a")

    assert (await toolbox.definitions()).joined == b""

    assert "/no/such/command" in (toolbox.notice or "")


async def test_a_directory_that_is_missing_is_named(serve: Serve) -> None:
    toolbox = serve(gone=McpServer(command="true", cwd="/no/such/directory")).toolbox("a")

    await toolbox.definitions()

    assert "/no/such/directory" in (toolbox.notice or "")


async def test_a_server_that_crashes_at_start_fails_at_once_and_says_where_its_stderr_is(
    serve: Serve, counting: Counting, tmp_path: Path
) -> None:
    toolbox = serve(count=counting.entry("crash")).toolbox("a")

    assert (await toolbox.definitions()).joined == b""

    log = tmp_path / "mcp-count.log"
    assert "logs/mcp-count.log" in (toolbox.notice or "")
    assert log.read_text() == "no good\n"
    assert log.stat().st_mode & 0o777 == 0o600


async def test_a_server_gets_a_minimal_environment_and_what_its_entry_names(
    serve: Serve, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_SECRET", "not for servers")
    monkeypatch.setenv("LC_TIME", "C")
    env = {"TOKEN": "Bearer ${KEY}"}
    toolbox = serve({"KEY": "s3cret"}, count=counting.entry(env=env)).toolbox("a")
    await toolbox.definitions()

    names = ("TOKEN", "LC_TIME", "GATEWAY_SECRET", "HERMES_ACTORS_OWNER")
    token, locale, secret, owner = [(await call(toolbox, "variable", name=name)).text for name in names]

    assert token == "Bearer s3cret"
    assert locale == "C"
    assert secret == "(not set)"
    assert owner.startswith(f"test-{os.getpid()}:boot:0:1:")


async def test_a_server_of_one_session_is_told_for_whom_it_works_and_a_shared_one_is_not(
    serve: Serve, counting: Counting, tmp_path: Path
) -> None:
    own, shared = counting.entry(), counting.entry().model_copy(update={"scope": "worker"})
    toolbox = serve(count=own, shared=shared).toolbox("api:default:a")
    await toolbox.definitions()
    names = ("HERMES_ACTORS_HOME", "HERMES_ACTORS_SESSION")

    told = [(await call(toolbox, "variable", name=name)).text for name in names]
    told_shared = [(await call(toolbox, "mcp__shared__variable", name=name)).text for name in names]

    assert told == [str(tmp_path), "api:default:a"]
    assert told_shared == ["(not set)", "(not set)"]


async def test_servers_die_with_a_worker_that_is_killed(counting: Counting, tmp_path: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("owner_process.py")),
        str(tmp_path),
        counting.entry("stubborn").model_dump_json(),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    await until(lambda: counting.calls == ["pid"], "the owner's call arrived")
    assert runs(counting.starts[0])

    owner.kill()
    await owner.wait()

    await until(lambda: not runs(counting.starts[0]), "the server is gone")
