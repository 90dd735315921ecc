"""The preparation of a restart: nothing hears of the wish before it is possible."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
from fakes.gateway_process import BOUND_S

from hermes_actors import fork_server
from hermes_actors.background import Background
from hermes_actors.control.messages import ControlReply
from hermes_actors.core.events import Event, OperatorAsked, ReloadAsked, RestartWanted
from hermes_actors.fork_server import ForkServer
from hermes_actors.handover import CommandLine
from hermes_actors.pool import Pool
from hermes_actors.rehearsal import Running
from hermes_actors.succession import Succession

RESTART = OperatorAsked(client=1, request=7, operation="restart", arguments={})
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
        self.replies: asyncio.Queue[tuple[int, ControlReply]] = asyncio.Queue()
        self.failures: list[BaseException] = []
        self.background = Background(self.failures.append)
        self.succession = Succession(
            None if code is None else CommandLine(words=(sys.executable, "-c", code), environment=dict(os.environ)),
            running=Running(port=1, shards=8),
            mark=lambda boot: f"home:{boot}:",
            pool=cast("Pool", self.pool),
            tell=self.events.put_nowait,
            reply=lambda client, reply: self.replies.put_nowait((client, reply)),
            background=self.background,
        )

    async def passed_on(self) -> Event:
        async with asyncio.timeout(BOUND_S):
            return await self.events.get()

    async def replied(self) -> tuple[int, ControlReply]:
        async with asyncio.timeout(BOUND_S):
            return await self.replies.get()


@pytest.fixture
async def made(request: pytest.FixtureRequest) -> AsyncIterator[Made]:
    made = Made(getattr(request, "param", FINE))
    yield made
    made.succession.abandon()
    assert made.failures == []
    assert not any(made.pool.alive)


async def test_what_is_no_wish_for_a_restart_passes_at_once(made: Made) -> None:
    events: list[Any] = [
        ReloadAsked(),
        OperatorAsked(client=1, request=1, operation="status", arguments={}),
        OperatorAsked(client=1, request=2, operation="drain", arguments={"then": "stop"}),
    ]
    for event in events:
        made.succession.hear(event)

    assert [made.events.get_nowait() for _ in events] == events
    assert made.pool.servers == []


@pytest.mark.parametrize(
    "wish",
    [
        RESTART,
        OperatorAsked(client=1, request=7, operation="drain", arguments={"then": "restart"}),
        RestartWanted(slot=0, generation=1, key="api:default:a"),
    ],
)
async def test_a_wish_for_a_restart_passes_when_the_next_life_is_ready(made: Made, wish: Event) -> None:
    made.succession.hear(wish)
    assert made.events.empty()

    assert await made.passed_on() == wish

    assert made.pool.alive == [True]


@pytest.mark.parametrize("made", [BAD], indirect=True)
async def test_a_rehearsal_that_fails_is_told_and_leaves_nothing(made: Made) -> None:
    made.succession.hear(RESTART)

    client, reply = await made.replied()

    assert (client, reply.request, reply.error, reply.why) == (1, 7, "cannot_restart", "the disk is full of bugs")
    assert made.pool.alive == [False]
    assert made.events.empty()


@pytest.mark.parametrize("made", [None], indirect=True)
async def test_a_gateway_that_nothing_can_start_again_says_so(made: Made) -> None:
    made.succession.hear(RESTART)

    _, reply = await made.replied()

    assert reply.error == "cannot_restart"
    assert "without a way to start it again" in reply.why


async def test_a_second_wish_makes_the_next_life_ready_anew(made: Made) -> None:
    for _ in range(2):
        made.succession.hear(RESTART)
        await made.passed_on()

    assert made.pool.alive == [False, True]


async def test_a_wish_that_is_not_waited_for_any_more_leaves_nothing(made: Made) -> None:
    made.succession.hear(RESTART)
    async with asyncio.timeout(BOUND_S):
        while not made.pool.servers:  # noqa: ASYNC110  # nothing is told
            await asyncio.sleep(0)
    made.background.cancel()

    async with asyncio.timeout(BOUND_S):
        while any(made.pool.alive):  # noqa: ASYNC110  # nothing is told
            await asyncio.sleep(0.01)
    assert made.events.empty()


async def test_a_stop_counts_more_than_the_restart_before_it_and_less_than_the_next(made: Made) -> None:
    made.succession.hear(RESTART)
    await made.passed_on()
    made.succession.overtake()
    assert made.succession.overtaken

    made.succession.hear(RESTART)
    await made.passed_on()

    assert not made.succession.overtaken


async def test_what_is_handed_over_are_copies_and_belongs_to_the_next_life(made: Made, tmp_path: Path) -> None:
    made.succession.hear(RESTART)
    await made.passed_on()
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
