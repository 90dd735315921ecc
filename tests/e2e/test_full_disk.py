"""A disk that cannot be written: the gateway stays up, refuses what it cannot keep, and is ready by itself later."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from fakes.running_gateway import BOUND_S, KEY, RunningGateway, installed

FULL = 1  # bytes that a file may have; what is written in place already may still be


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def config(port: int) -> dict[str, Any]:
    return {"model": {"provider": "demo"}, "supervisor": {"workers": 1, "shards": 8}, "api_server": {"port": port}}


def limit(pid: int, size: int) -> None:
    """No file of a process may grow beyond this; its kernel says EFBIG, as a full one says ENOSPC."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def all_of(process: psutil.Process) -> list[int]:
    return [process.pid, *(child.pid for child in process.children(recursive=True))]


@pytest.fixture
def port() -> int:
    return free_port()


@contextmanager
def started_on_a_full_disk(home: Path) -> Iterator[psutil.Process]:
    """The supervisor of a home, on a disk that takes nothing more."""
    process = subprocess.Popen(
        [installed("hermes-supervisor"), "start", "--home", str(home)],
        env={**os.environ, "API_SERVER_KEY": KEY},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: limit(0, FULL),  # the test has no other thread then
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        code = process.wait(BOUND_S)
    assert code == 0


async def answer(port: int, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and body; 0 where nothing listens."""
    headers = {"Authorization": f"Bearer {KEY}", "X-Hermes-Session-Id": "s"}
    method = "GET" if body is None else "POST"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(BOUND_S)) as http,
            http.request(method, f"http://127.0.0.1:{port}{path}", json=body, headers=headers) as answered,
        ):
            return answered.status, await answered.json()
    except aiohttp.ClientConnectorError:
        return 0, None


async def until_ready_says(port: int, status: int) -> Any:
    async with asyncio.timeout(BOUND_S):
        while (told := await answer(port, "/readyz"))[0] != status:  # noqa: ASYNC110  # another process's state has no event
            await asyncio.sleep(0.1)
    return told[1]


MESSAGE = {"model": "x", "messages": [{"role": "user", "content": "hello"}]}


async def test_a_start_on_a_full_disk_stays_up_and_is_ready_by_itself_when_there_is_space(
    tmp_path: Path, port: int
) -> None:
    home = tmp_path / "home"
    async with RunningGateway(home, config(port)) as gateway:
        await gateway.say("before", "s")

    with started_on_a_full_disk(home) as supervisor:
        assert await until_ready_says(port, 503) == {"status": "not_ready", "reason": "store_failed"}
        assert (await answer(port, "/health"))[0] == 200
        status, refused = await answer(port, "/v1/chat/completions", MESSAGE)
        assert (status, refused["error"]["code"]) == (500, "store_failed")
        _, _, told = await gateway.ctl("status")
        assert "the disk cannot be written" in told

        for pid in all_of(supervisor):
            limit(pid, resource.RLIM_INFINITY)
        await until_ready_says(port, 200)
        status, reply = await answer(port, "/v1/chat/completions", MESSAGE)
        assert (status, reply["choices"][0]["message"]["content"]) == (200, "You said: hello")


async def test_a_gateway_that_waits_for_its_disk_stops_in_order(tmp_path: Path, port: int) -> None:
    home = tmp_path / "home"
    async with RunningGateway(home, config(port)):
        pass

    with started_on_a_full_disk(home) as supervisor:
        await until_ready_says(port, 503)
        supervisor.send_signal(signal.SIGTERM)  # and its exit code is 0


async def test_readiness_follows_the_disk_while_the_gateway_runs(tmp_path: Path, port: int) -> None:
    async with RunningGateway(tmp_path / "home", config(port)) as gateway:
        await gateway.say("before", "s")
        processes = all_of(psutil.Process(gateway.pid))
        for pid in processes:
            limit(pid, FULL)

        assert await until_ready_says(port, 503) == {"status": "not_ready", "reason": "store_failed"}
        status, refused = await answer(port, "/v1/chat/completions", MESSAGE)
        assert (status, refused["error"]["code"]) == (500, "store_failed")

        for pid in processes:
            limit(pid, resource.RLIM_INFINITY)
        await until_ready_says(port, 200)
        assert await gateway.say("after", "s") == "You said: after"
