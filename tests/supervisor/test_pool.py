"""The parts of the pool that no whole gateway shows."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
from collections.abc import AsyncIterator

import pytest
from fakes.gateway_process import BOUND_S
from fakes.virtual_time import in_virtual_time, until_idle

from hermes_actors.background import Background
from hermes_actors.core.events import Event, WorkerExited, WorkerSpawned
from hermes_actors.pool import fork_server
from hermes_actors.pool import pool as pools
from hermes_actors.pool.pool import Pool
from hermes_actors.wire.codec import ProtocolError
from hermes_actors.wire.messages import Ready


def test_an_entry_is_imported_by_the_child_alone() -> None:
    packed = pickle.dumps(pools._EntryPoint("json:dumps"))

    assert b"hermes_actors" not in packed
    assert pickle.loads(packed).__module__ == "json"


def test_a_child_inherits_neither_the_main_module_nor_the_directory() -> None:
    main, before = sys.modules["__main__"], dict(os.environ)

    with fork_server.clean_start("mark"):
        assert not hasattr(sys.modules["__main__"], "__file__")
        assert (os.environ["HERMES_ACTORS_OWNER"], os.environ["PYTHONSAFEPATH"]) == ("mark", "1")

    assert sys.modules["__main__"] is main
    assert dict(os.environ) == before


class Made:
    def __init__(self, entry: str) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.flooded = False
        self.failures: list[BaseException] = []
        self.background = Background(self.failures.append)
        self.pool = Pool(
            entry=entry,
            mark="test",
            listeners={},
            tell=self.events.put_nowait,
            flooded=lambda: self.flooded,
            background=self.background,
        )

    async def next(self) -> Event:
        async with asyncio.timeout(BOUND_S):
            return await self.events.get()


@pytest.fixture
async def made() -> AsyncIterator[Made]:
    made = Made("time:sleep")  # called with a socket: it raises, and the process ends with 1
    yield made
    await made.pool.close()
    assert made.failures == []


async def ended(made: Made) -> WorkerExited:
    while not isinstance(event := await made.next(), WorkerExited):
        pass
    return event


async def test_a_process_that_ends_at_once_is_told_once_with_its_exit_code(made: Made) -> None:
    made.pool.spawn(0, 1)

    event = await ended(made)

    assert (event.process, event.exitcode) == ((0, 1), 1)
    assert 0 <= event.jitter < 1


async def test_a_process_that_is_killed_while_it_starts_ends_and_is_told(made: Made) -> None:
    made.pool.spawn(0, 1)
    made.pool.kill(0, 1)

    assert (await ended(made)).process.generation == 1


async def test_a_kill_for_an_earlier_process_does_not_hit_the_present_one(made: Made) -> None:
    made.pool.spawn(0, 2)
    made.pool.kill(0, 1)

    assert (await ended(made)).exitcode == 1


async def test_a_fork_server_that_hangs_is_replaced(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "STUCK_S", 0.05)
    made.pool.spawn(0, 1)
    await ended(made)
    server = fork_server.own_pid()
    assert server is not None
    os.kill(server, signal.SIGSTOP)
    made.pool.spawn(0, 2)

    made.pool.kill(0, 2)

    event = await ended(made)
    assert (event.process.generation, event.exitcode) == (2, None)
    assert "could not be started" in event.why
    made.pool.spawn(0, 3)
    assert isinstance(await made.next(), WorkerSpawned | WorkerExited)


async def test_a_worker_that_sends_more_than_can_be_handled_is_cut_off(made: Made) -> None:
    child = pools._Child(0, 1)
    made.pool._heard(child, Ready())
    made.flooded = True

    with pytest.raises(ProtocolError):
        made.pool._heard(child, Ready())


@in_virtual_time
async def test_an_error_in_the_background_is_not_lost() -> None:
    failures: list[BaseException] = []

    async def bug() -> None:
        raise KeyError("bug")

    Background(failures.append).start(bug())
    await until_idle()

    assert [type(error) for error in failures] == [KeyError]
