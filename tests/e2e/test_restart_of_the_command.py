"""The installed command restarts in place, and those who use it go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import psutil
import pytest
from fakes.running_gateway import BOUND_S, POLL_S, RunningGateway

LOOKS = 20


async def keep_asking(gateway: RunningGateway, until: asyncio.Event) -> list[int]:
    """Ask on new connections, one after the other; what each came to."""
    statuses = []
    while not until.is_set():
        async with aiohttp.ClientSession() as own:
            status, _, _ = await gateway.request("GET", "/v1/models", via=own)
        statuses.append(status)
    return statuses


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def open_for_long(pid: int) -> int:
    """The fewest of some looks: who asked last may still be connected at the first."""
    fewest = open_files(pid)
    for _ in range(LOOKS):
        await asyncio.sleep(POLL_S)
        fewest = min(fewest, open_files(pid))
    return fewest


async def test_people_go_on_over_a_restart_of_the_same_process(demo: RunningGateway) -> None:
    await demo.say("the first", "kept")
    _, before = await demo.ctl_json("status")
    old = [process for process in demo.processes() if process.pid != demo.pid]
    over = asyncio.Event()
    asking = asyncio.create_task(keep_asking(demo, over))

    code, told = await demo.ctl_json("restart")

    assert code == 0, told
    over.set()
    assert set(await asking) == {200}
    _, after = await demo.ctl_json("status")
    assert (after["pid"], after["http"]) == (before["pid"], before["http"])
    assert after["boot"] != before["boot"]
    await demo.say("the second", "kept")
    _, kept, _ = await demo.request("GET", "/api/sessions/kept/messages")
    said = [row["message"] for row in kept["data"]]
    assert [message["content"] for message in said if message["role"] == "user"] == ["the first", "the second"]
    _, alive = await asyncio.to_thread(psutil.wait_procs, old, BOUND_S)
    assert alive == []


@pytest.mark.long
async def test_the_command_has_no_more_open_after_two_restarts_than_after_one(demo: RunningGateway) -> None:
    await demo.ctl("restart")
    await demo.until(demo._is_ready, "the second life")
    files = await open_for_long(demo.pid)
    children = len(psutil.Process(demo.pid).children())

    await demo.ctl("restart")
    await demo.until(demo._is_ready, "the third life")

    async def as_before() -> bool:
        return open_files(demo.pid) == files

    await demo.until(as_before, "what the restart opened to be closed")
    assert len(psutil.Process(demo.pid).children()) == children


async def test_the_command_refuses_a_restart_with_a_bad_configuration_and_serves_on(demo: RunningGateway) -> None:
    _, before = await demo.ctl_json("status")
    config = demo.home / "config.yaml"
    config.write_text(config.read_text() + "agent: {max_turn: 7}\n")

    code, out, err = await demo.ctl("drain", "--restart")

    assert code == 78, out
    assert "did you mean max_turns" in err
    _, after = await demo.ctl_json("status")
    assert (after["boot"], after["phase"]) == (before["boot"], "serving")
    await demo.say("still there")
