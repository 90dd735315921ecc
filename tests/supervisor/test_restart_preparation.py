"""The preparation of a restart: what is made ready, and what is dropped."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import psutil
import pytest
from fakes.gateway_process import BOUND_S
from fakes.virtual_time import step

from hermes_actors.background import Background
from hermes_actors.core.events import Event, RestartPrepared, RestartRefused
from hermes_actors.pool import fork_server
from hermes_actors.pool.fork_server import ForkServer
from hermes_actors.pool.pool import Pool
from hermes_actors.restart.dry_run import Running
from hermes_actors.restart.handover import CommandLine
from hermes_actors.restart.prepare import RestartPreparation
from hermes_actors.wire.refusals import RefusalCode

FINE, BAD = "pass", "import sys; sys.exit('the disk is full of bugs')"


class FakePool:
    """Starts fork servers, and counts them."""

    def __init__(self) -> None:
        self.servers: list[ForkServer] = []

    async def preload(self, mark: str) -> ForkServer:
        self.servers.append(fork_server.start("json", mark))
        return self.servers[-1]

    @property
    def alive(self) -> list[bool]:
        return [psutil.pid_exists(server.pid) for server in self.servers]


class Made:
    def __init__(self, code: str | None) -> None:
        self.pool = FakePool()
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.failures: list[BaseException] = []
        self.background = Background(self.failures.append)
        self.succession = RestartPreparation(
            None if code is None else CommandLine(words=(sys.executable, "-c", code), environment=dict(os.environ)),
            running=Running(port=1, shards=8),
            boot="next",
            mark=lambda boot: f"home:{boot}:",
            pool=cast("Pool", self.pool),
            tell=self.events.put_nowait,
            background=self.background,
        )

    async def told(self) -> Event:
        async with asyncio.timeout(BOUND_S):
            return await self.events.get()

    async def until_begun(self) -> None:
        async with asyncio.timeout(BOUND_S):
            while not self.pool.servers:  # no event says so
                await step()


@pytest.fixture
async def made(request: pytest.FixtureRequest) -> AsyncIterator[Made]:
    made = Made(getattr(request, "param", FINE))
    yield made
    made.succession.abandon()
    assert made.failures == []
    assert not any(made.pool.alive)


async def test_it_is_told_when_the_next_life_is_ready(made: Made) -> None:
    made.succession.prepare(1)
    assert made.events.empty()

    assert await made.told() == RestartPrepared(number=1)

    assert made.pool.alive == [True]


@pytest.mark.parametrize("made", [BAD], indirect=True)
async def test_a_rehearsal_that_fails_is_told_and_leaves_nothing(made: Made) -> None:
    made.succession.prepare(1)

    assert await made.told() == RestartRefused(
        number=1, error=RefusalCode.CANNOT_RESTART, why="the disk is full of bugs"
    )
    assert made.pool.alive == [False]


@pytest.mark.parametrize("made", [None], indirect=True)
async def test_a_gateway_that_nothing_can_start_again_says_so(made: Made) -> None:
    made.succession.prepare(1)

    told = await made.told()

    assert isinstance(told, RestartRefused)
    assert told.error == "cannot_restart"
    assert "without a way to start it again" in told.why


async def test_a_next_life_that_is_dropped_is_made_ready_anew(made: Made) -> None:
    for number in (1, 2):
        made.succession.prepare(number)
        await made.told()
        made.succession.abandon()

    assert made.pool.alive == [False, False]


async def test_a_preparation_that_is_dropped_tells_nothing_and_leaves_nothing(made: Made) -> None:
    made.succession.prepare(1)
    await made.until_begun()
    made.succession.abandon()
    made.succession.prepare(2)

    assert await made.told() == RestartPrepared(number=2)

    assert made.pool.alive == [False, True]
    assert made.events.empty()


async def test_a_preparation_that_is_dropped_before_its_turn_starts_nothing(made: Made) -> None:
    for number in (1, 2, 3):
        made.succession.prepare(number)

    assert await made.told() == RestartPrepared(number=3)

    assert made.pool.alive == [True]


async def test_a_preparation_that_is_cut_off_leaves_nothing(made: Made) -> None:
    made.succession.prepare(1)
    await made.until_begun()
    made.background.cancel()

    async with asyncio.timeout(BOUND_S):
        while any(made.pool.alive):  # no event says so
            await step()
    assert made.events.empty()


async def test_a_stop_counts_more_than_the_restart_before_it_and_less_than_the_next(made: Made) -> None:
    made.succession.prepare(1)
    await made.told()
    made.succession.overtake()
    assert made.succession.overtaken

    made.succession.prepare(2)
    await made.told()

    assert not made.succession.overtaken


async def test_what_is_handed_over_are_copies_and_belongs_to_the_next_life(made: Made, tmp_path: Path) -> None:
    made.succession.prepare(1)
    await made.told()
    (tmp_path / "lock").touch()
    lock = os.open(tmp_path / "lock", os.O_RDONLY)

    handover = await made.succession.hand_over(lock, [])
    os.close(lock)
    made.succession.abandon()

    assert os.path.samestat(os.fstat(handover.lock), (tmp_path / "lock").stat())
    assert handover.fork_server == made.pool.servers[0]
    assert made.pool.alive == [True]
    environment = Path(f"/proc/{handover.fork_server.pid}/environ").read_text()
    assert f"=home:{handover.boot}:" in environment
    handover.discard()
