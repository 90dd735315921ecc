"""What a server that fails costs: one call, told in words that a model can act on, and nobody else anything."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.mcp_counting import BOUND_S, Counting, call, runs, until

from workers.tools import bounds, commons, outage, owner, pipes
from workers.tools.outcomes import failed
from workers.tools.servers import ToolServers
from workers.tools.toolbox import Toolbox, ToolResult

Serve = Callable[..., ToolServers]


async def in_flight(counting: Counting, toolbox: Toolbox, tool: str, /, **arguments: Any) -> asyncio.Task[ToolResult]:
    """A call that its server has seen."""
    before = len(counting.calls)
    calling = asyncio.create_task(call(toolbox, tool, **arguments))
    await until(lambda: len(counting.calls) > before, "the call arrived")
    return calling


@pytest.mark.parametrize("outcome", ["not_sent", "unknown"])
def test_an_error_of_the_connection_says_what_to_do(outcome: Any) -> None:
    assert "What to do: " in failed(outcome, "it is gone").text


# -- answers that are too large -----------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [{}, {"id_last": True}, {"dense": True, "bytes": 2 * bounds.ALWAYS_READ_BYTES}])
async def test_an_answer_that_is_too_large_costs_its_call_alone(
    serve: Serve, counting: Counting, shape: dict[str, Any]
) -> None:
    toolbox = serve(count=counting.raw()).toolbox("a")
    await toolbox.definitions()

    asked = [call(toolbox, "big", **({"bytes": 100_000_000} | shape)), call(toolbox, "echo", text="hi")]
    big, other = await asyncio.gather(*asked)

    assert big.outcome == "tool_error"
    assert "ask for less" in big.text
    assert other.text == "hi"
    assert len(counting.starts) == 1


async def test_an_answer_below_the_bound_is_cut_in_words(serve: Serve, counting: Counting) -> None:
    toolbox = serve(count=counting.raw()).toolbox("a")
    await toolbox.definitions()

    result = await call(toolbox, "big", bytes=10_000_000)

    assert result.outcome == "result"
    assert "left out]" in result.text
    assert len(result.text) < 1_000_000


async def test_an_endless_line_ends_its_connection(
    serve: Serve, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipes, "MAX_SKIPPED_BYTES", 8 * bounds.MAX_MESSAGE_BYTES)
    toolbox = serve(count=counting.raw()).toolbox("a")
    await toolbox.definitions()

    assert (await call(toolbox, "endless")).outcome == "unknown"
    assert (await call(toolbox, "echo", text="again")).text == "again"
    assert not runs(counting.starts[0])


async def test_an_answer_that_is_no_json_fails_its_call_at_once(serve: Serve, counting: Counting) -> None:
    toolbox = serve(count=counting.raw()).toolbox("a")
    await toolbox.definitions()

    result = await call(toolbox, "garbled")

    assert result.outcome == "tool_error"
    assert "no JSON-RPC message" in result.text
    assert len(counting.starts) == 1


# -- hanging and flapping -----------------------------------------------------------------------------------------
async def test_a_server_that_hangs_is_started_anew_and_others_do_not_notice(serve: Serve, counting: Counting) -> None:
    servers = serve(count=counting.raw(timeout=0.3))
    toolbox, other = servers.toolbox("a"), servers.toolbox("b")
    await toolbox.definitions()
    theirs = (await call(other, "pid")).text
    os.kill(counting.starts[0], signal.SIGSTOP)

    late = [await call(toolbox, "echo", text="hi") for _ in range(outage.MUTE_CALLS)]

    assert {result.outcome for result in late} == {"unknown"}
    assert (await call(toolbox, "echo", text="on")).text == "on"
    assert not runs(counting.starts[0])
    assert (await call(other, "pid")).text == theirs


async def test_a_slow_tool_of_a_server_that_speaks_is_no_reason_to_start_it_anew(
    serve: Serve, counting: Counting
) -> None:
    toolbox = serve(count=counting.entry(timeout=0.5)).toolbox("a")
    await toolbox.definitions()

    for _ in range(outage.MUTE_CALLS):
        late, quick = await asyncio.gather(call(toolbox, "sleep", seconds=60), call(toolbox, "echo", text="hi"))
        assert (late.outcome, quick.text) == ("unknown", "hi")

    assert (await call(toolbox, "echo", text="on")).text == "on"
    assert len(counting.starts) == 1


@pytest.mark.parametrize("mode", ["short", "useless"])
async def test_a_flapping_server_is_started_seldom_however_often_it_is_asked_and_others_do_not_notice(
    serve: Serve, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(owner, "PATIENCE_S", 0.5)
    (tmp_path / "steady").mkdir()
    steady = Counting(tmp_path / "steady")
    servers = serve(count=counting.raw(mode), steady=steady.raw())
    toolboxes = [servers.toolbox(str(number)) for number in range(6)]
    await toolboxes[0].definitions()
    (counting.directory / "known").touch()
    over = asyncio.get_running_loop().time() + 1.0

    async def ask(toolbox: Toolbox) -> set[str]:
        seen: set[str] = set()
        while asyncio.get_running_loop().time() < over:
            async with asyncio.timeout(BOUND_S):
                seen.add((await call(toolbox, "echo", text="hi")).outcome)
            assert (await call(toolbox, "mcp__steady__echo", text="on")).text == "on"
        return seen

    seen = await asyncio.gather(*map(ask, toolboxes))

    assert set().union(*seen) <= {"result", "unknown", "not_sent"}
    assert len(counting.starts) <= 4 * len(toolboxes)
    assert len(steady.starts) == len(toolboxes)


async def test_above_the_cap_on_processes_no_server_is_started_and_none_is_taken_away(
    serve: Serve, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commons, "MAX_PROCESSES", 2)
    servers = serve(count=counting.raw())
    first, second, third = (servers.toolbox(name) for name in "abc")
    await first.definitions()
    kept = [(await call(toolbox, "pid")).text for toolbox in (first, second)]

    refused = await call(third, "echo", text="hi")

    assert refused.outcome == "not_sent"
    assert "2 tool processes" in refused.text
    assert "MAX_PROCESSES" in refused.text
    assert [(await call(toolbox, "pid")).text for toolbox in (first, second)] == kept
    await first.close()
    assert (await call(third, "echo", text="hi")).text == "hi"


# -- a turn that is stopped ---------------------------------------------------------------------------------------
async def test_a_stopped_turn_ends_its_servers_with_all_they_started_and_the_next_turn_gets_a_new_one(
    serve: Serve, counting: Counting
) -> None:
    servers = serve(count=counting.raw())
    toolbox, other = servers.toolbox("a"), servers.toolbox("b")
    await toolbox.definitions()
    child = int((await call(toolbox, "spawn")).text)
    theirs = (await call(other, "pid")).text
    doomed = await in_flight(counting, toolbox, "work", seconds=60)

    doomed.cancel()
    await toolbox.abort(0.1)

    assert not runs(counting.starts[0])
    await until(lambda: not runs(child), "its killed child is gone")
    assert {row["session"]: row["state"] for row in servers.connections()} == {"a": "idle", "b": "up"}
    assert (await call(toolbox, "echo", text="next")).text == "next"
    assert (await call(other, "pid")).text == theirs
    assert "worked" not in counting.calls


async def test_a_stopped_turn_keeps_a_server_whose_call_ends_within_the_grace_and_drops_what_it_said(
    serve: Serve, counting: Counting
) -> None:
    servers = serve(count=counting.raw())
    toolbox = servers.toolbox("a")
    await toolbox.definitions()
    doomed = await in_flight(counting, toolbox, "work", seconds=0.5)
    doomed.cancel()
    await asyncio.gather(doomed, return_exceptions=True)

    aborting = asyncio.create_task(toolbox.abort(BOUND_S))
    await until(lambda: servers.live == 0, "no call is sent any more")
    following = asyncio.create_task(call(toolbox, "echo", text="next"))

    await aborting
    assert (await following).text == "next"
    assert counting.calls == ["work", "worked", "echo"]
    assert len(counting.starts) == 1


@pytest.mark.parametrize("timed_out", [True, False])
async def test_a_call_of_before_that_never_gets_its_answer_is_no_reason_to_kill_the_server(
    serve: Serve, counting: Counting, timed_out: bool
) -> None:
    toolbox = serve(count=counting.raw(timeout=0.5 if timed_out else BOUND_S)).toolbox("a")
    await toolbox.definitions()
    earlier = await in_flight(counting, toolbox, "mute")
    if timed_out:
        assert (await earlier).outcome == "unknown"
    else:
        earlier.cancel()
        await asyncio.gather(earlier, return_exceptions=True)
    doomed = await in_flight(counting, toolbox, "work", seconds=0.3)
    doomed.cancel()
    await asyncio.gather(doomed, return_exceptions=True)

    await toolbox.abort(2.0)

    assert (await call(toolbox, "echo", text="next")).text == "next"
    assert len(counting.starts) == 1


async def test_a_call_that_follows_a_stopped_turn_waits_for_the_new_server(serve: Serve, counting: Counting) -> None:
    toolbox = serve(count=counting.raw()).toolbox("a")
    await toolbox.definitions()
    doomed = await in_flight(counting, toolbox, "work", seconds=60)
    doomed.cancel()

    aborting = asyncio.create_task(toolbox.abort(0.2))
    await asyncio.gather(doomed, return_exceptions=True)
    following = await call(toolbox, "echo", text="next")

    await aborting
    assert following.text == "next"
    assert len(counting.starts) == 2


async def test_a_stop_without_a_call_in_flight_does_nothing(serve: Serve, counting: Counting) -> None:
    toolbox = serve(count=counting.entry(timeout=0.5)).toolbox("a")
    await toolbox.abort(BOUND_S)
    await toolbox.definitions()
    await call(toolbox, "sleep", seconds=60)
    await call(toolbox, "echo", text="hi")

    await toolbox.abort(0.0)

    assert (await call(toolbox, "echo", text="on")).text == "on"
    assert len(counting.starts) == 1


async def test_a_stopped_turn_only_cancels_its_call_on_a_shared_server(serve: Serve, counting: Counting) -> None:
    servers = serve(count=counting.entry(scope="worker"))
    toolbox, other = servers.toolbox("a"), servers.toolbox("b")
    await toolbox.definitions()
    theirs = await in_flight(counting, other, "progress", steps=4, seconds=0.1)
    doomed = await in_flight(counting, toolbox, "sleep", seconds=60)

    doomed.cancel()
    await toolbox.abort(0.0)

    assert (await theirs).text == "done"
    assert len(counting.starts) == 1
