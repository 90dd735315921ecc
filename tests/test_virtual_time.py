"""The clock of the tests."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fakes.store_samples import submission
from fakes.virtual_time import in_virtual_time, time_passes, until, until_idle

from workers.store.journal import Journal
from workers.store.sqlite import open_shard

DAY_S = 86_400.0
REAL_S = time.monotonic


pytestmark = in_virtual_time


async def test_a_wait_takes_as_long_as_it_says_and_no_time() -> None:
    loop, really = asyncio.get_running_loop(), time.perf_counter()
    began, wall = loop.time(), time.time()

    await asyncio.sleep(DAY_S)

    assert loop.time() - began == DAY_S
    assert time.monotonic() == loop.time()
    assert time.time() - wall == DAY_S
    assert time.perf_counter() - really < DAY_S / 2


async def test_a_timeout_that_is_due_first_fires_first() -> None:
    order: list[str] = []

    async def wait(name: str, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await asyncio.Event().wait()
        except TimeoutError:
            order.append(name)

    await asyncio.gather(wait("hour", 3600.0), wait("minute", 60.0), wait("second", 1.0))

    assert order == ["second", "minute", "hour"]


async def test_no_time_passes_while_a_task_can_run() -> None:
    began = time.monotonic()
    timer = asyncio.get_running_loop().call_later(0.001, lambda: None)

    for _ in range(1000):
        await asyncio.sleep(0)

    assert time.monotonic() == began
    timer.cancel()


async def test_idle_is_when_all_tasks_wait_and_before_time_passes() -> None:
    order: list[str] = []

    async def hand_on(count: int) -> None:
        if count:
            await asyncio.create_task(hand_on(count - 1))
        else:
            order.append("all the way down")

    timer = asyncio.get_running_loop().call_later(0.001, order.append, "timer")
    task = asyncio.create_task(hand_on(100))

    await until_idle()

    assert order == ["all the way down"]
    await task
    await time_passes(0.001)
    assert order == ["all the way down", "timer"]
    timer.cancel()


async def test_what_no_event_tells_is_noticed_after_the_step_that_did_it() -> None:
    seen: list[int] = []
    asyncio.get_running_loop().call_later(60.0, seen.append, 1)

    await until(lambda: bool(seen))

    assert seen == [1]


async def test_what_never_comes_is_found_missing_at_once() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(DAY_S):
            await until(lambda: False)


async def test_a_call_in_a_thread_is_waited_for() -> None:
    async with asyncio.timeout(DAY_S):
        assert await asyncio.to_thread(threading.Event().wait, 0.05) is False


async def test_a_thread_of_its_own_is_waited_for() -> None:
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    timer = threading.Timer(0.05, lambda: loop.call_soon_threadsafe(done.set))

    timer.start()

    async with asyncio.timeout(DAY_S):
        await done.wait()
    timer.join()


async def test_a_journal_is_waited_for(tmp_path: Path) -> None:
    journal = Journal()
    async with asyncio.timeout(DAY_S):
        opened = await open_shard(journal, tmp_path / "03.db", shard=3, fence=1, durability="process")
        for number in range(20):
            await opened.store.admit(submission(turn_id=f"turn_{number}"), "ses_1", "queued")
        await opened.store.close()
        await journal.close()


async def test_a_process_is_waited_for() -> None:
    async with asyncio.timeout(DAY_S):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print('hi')", stdout=subprocess.PIPE)
        assert (await process.communicate())[0] == b"hi\n"


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
async def test_both_ends_of_a_connection_reach_each_other_before_time_passes(
    family: socket.AddressFamily, tmp_path: Path
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    if family is socket.AF_UNIX:
        server = await asyncio.start_unix_server(answer, tmp_path / "socket")
        reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
    else:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    began = time.monotonic()
    async with server:
        for _ in range(20):
            writer.write(b"x" * 60_000 + b"\n")
            async with asyncio.timeout(DAY_S):
                await reader.readline()
        writer.close()
        await writer.wait_closed()
        await until_idle()
    assert time.monotonic() - began < DAY_S


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_the_clocks_are_real_again_afterwards() -> None:
    assert time.monotonic is REAL_S
