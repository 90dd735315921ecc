"""What a stopped turn means for the servers whose calls it cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import pytest
from fakes.mcp_counting import BOUND_S, Counting, call, runs, until

from workers.tools.servers import ToolServers
from workers.tools.stopping import on_stop
from workers.tools.toolbox import Aborted, Toolbox

Serve = Callable[..., ToolServers]

ENDED, KEPT = Aborted(ended=("count",)), Aborted(kept=("count",))


async def stop_in(counting: Counting, toolbox: Toolbox, tool: str, /, grace_s: float, **arguments: Any) -> Aborted:
    """Stop a turn whose call its server has seen."""
    before = len(counting.calls)
    calling = asyncio.create_task(call(toolbox, tool, **arguments))
    await until(lambda: len(counting.calls) > before, "the call arrived")
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    return await toolbox.abort(grace_s)


@pytest.mark.parametrize(
    ("configured", "version", "obeys", "fate"),
    [
        ("cancel", "2025-06-18", False, "keep"),
        ("cancel", "2026-07-28", True, "keep"),
        ("end", "2026-07-28", True, "end"),
        (None, "2026-07-28", False, "keep_alive"),
        (None, "2025-06-18", True, "keep_alive"),
        (None, "2025-06-18", False, "end"),
    ],
)
def test_the_entry_decides_else_what_is_known_of_the_server(
    configured: Literal["cancel", "end"] | None, version: str, obeys: bool, fate: str
) -> None:
    assert on_stop(configured, version=version, obeys_cancel=obeys) == fate


@pytest.mark.parametrize("tool", ["mute", "late"])
async def test_a_server_that_is_to_be_kept_goes_on_and_what_it_says_late_is_dropped(
    serve: Serve, counting: Counting, tool: str
) -> None:
    toolbox = serve(count=counting.raw(on_stop="cancel")).toolbox("a")
    await toolbox.definitions()

    assert await stop_in(counting, toolbox, tool, 0.0) == KEPT

    answers = [(await call(toolbox, "echo", text=text)).text for text in ("one", "two")]
    assert answers == ["one", "two"]
    assert len(counting.starts) == 1


async def test_a_server_that_is_to_be_kept_and_works_on_delays_only_what_it_answers(
    serve: Serve, counting: Counting
) -> None:
    toolbox = serve(count=counting.raw(on_stop="cancel")).toolbox("a")
    await toolbox.definitions()

    assert await stop_in(counting, toolbox, "work", 0.0, seconds=0.5) == KEPT

    assert (await call(toolbox, "echo", text="next")).text == "next"
    assert counting.calls == ["work", "worked", "echo"]
    assert len(counting.starts) == 1


async def test_a_server_that_is_to_be_ended_is_even_in_the_newest_protocol(serve: Serve, counting: Counting) -> None:
    toolbox = serve(count=counting.entry(on_stop="end")).toolbox("a")
    await toolbox.definitions()

    assert await stop_in(counting, toolbox, "sleep", 0.1, seconds=60) == ENDED

    assert not runs(counting.starts[0])


async def test_a_server_of_the_newest_protocol_is_kept_with_what_it_remembers(serve: Serve, counting: Counting) -> None:
    toolbox = serve(count=counting.entry()).toolbox("a")
    await toolbox.definitions()
    before = (await call(toolbox, "pid")).text

    assert await stop_in(counting, toolbox, "sleep", BOUND_S, seconds=60) == KEPT

    assert (await call(toolbox, "pid")).text == before


async def test_a_server_of_the_newest_protocol_that_is_deaf_is_ended(serve: Serve, counting: Counting) -> None:
    toolbox = serve(count=counting.entry()).toolbox("a")
    await toolbox.definitions()

    assert await stop_in(counting, toolbox, "block", 0.2, seconds=60) == ENDED

    assert not runs(counting.starts[0])
    assert (await call(toolbox, "echo", text="next")).text == "next"


async def test_a_server_that_answered_a_cancelled_call_with_an_error_is_kept_from_then_on(
    serve: Serve, counting: Counting
) -> None:
    servers = serve(count=counting.raw("obedient"))
    toolbox, other = servers.toolbox("a"), servers.toolbox("b")
    await toolbox.definitions()

    assert await stop_in(counting, toolbox, "mute", BOUND_S) == KEPT
    assert await stop_in(counting, other, "mute", BOUND_S) == KEPT

    assert len(counting.starts) == 2
    assert all(map(runs, counting.starts))


async def test_an_older_server_that_says_nothing_is_ended(serve: Serve, counting: Counting) -> None:
    toolbox = serve(count=counting.raw()).toolbox("a")
    await toolbox.definitions()

    assert await stop_in(counting, toolbox, "mute", 0.1) == ENDED

    assert not runs(counting.starts[0])


async def test_a_stop_without_a_call_tells_of_no_server(serve: Serve, counting: Counting) -> None:
    toolbox = serve(count=counting.raw()).toolbox("a")
    await toolbox.definitions()
    await call(toolbox, "echo", text="hi")

    assert await toolbox.abort(BOUND_S) == Aborted()
