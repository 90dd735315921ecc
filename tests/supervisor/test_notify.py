"""sd_notify: what is said, where, and when nothing is."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.gateway_process import BOUND_S

from hermes_actors.core.events import Event, Tick
from hermes_actors.supervisor.notify import ServiceManager, Watchdog


@pytest.fixture
def socket_of_manager() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(BOUND_S)
        yield manager


@pytest.fixture
def address(socket_of_manager: socket.socket, tmp_path: Path) -> str:
    socket_of_manager.bind(str(tmp_path / "notify"))
    return str(tmp_path / "notify")


def lines(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().splitlines()


def test_readiness_is_told(socket_of_manager: socket.socket, address: str) -> None:
    ServiceManager({"NOTIFY_SOCKET": address}).going("ready", 0.0)

    assert lines(socket_of_manager) == ["READY=1", "STATUS=serving"]


def test_an_address_may_be_abstract(socket_of_manager: socket.socket) -> None:
    name = f"hermes-actors-test-{os.getpid()}"
    socket_of_manager.bind(f"\0{name}")

    ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).alive()

    assert lines(socket_of_manager) == ["WATCHDOG=1"]


def test_a_drain_asks_for_patience_and_only_an_end_that_is_sure_is_told(
    socket_of_manager: socket.socket, address: str
) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": address})

    manager.going("draining", 77.5)
    assert lines(socket_of_manager) == ["STATUS=draining, for 78 s at most", "EXTEND_TIMEOUT_USEC=77500000"]
    manager.going("stopping", 12.0)
    assert lines(socket_of_manager) == ["STOPPING=1", "STATUS=stopping", "EXTEND_TIMEOUT_USEC=12000000"]
    before = time.monotonic_ns() // 1000
    manager.going("restarting", 12.0)
    reloading, at, *rest = lines(socket_of_manager)
    assert (reloading, rest) == ("RELOADING=1", ["STATUS=restarting in place", "EXTEND_TIMEOUT_USEC=12000000"])
    assert before <= int(at.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    manager.going("held", 0.0)
    manager.going("serving", 0.0)
    assert lines(socket_of_manager)[0].startswith("STATUS=drained and held")
    assert lines(socket_of_manager) == ["STATUS=serving"]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/no/such/socket"}])
def test_without_a_manager_that_listens_nothing_happens(environment: dict[str, str]) -> None:
    ServiceManager(environment).going("ready", 0.0)


def test_a_manager_that_does_not_read_holds_up_nobody(socket_of_manager: socket.socket, address: str) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": address})

    for _ in range(5000):  # more than its queue takes
        manager.alive()

    assert lines(socket_of_manager) == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_a_watchdog_is_for_the_process_it_names(environment: dict[str, str], seconds: float | None) -> None:
    assert ServiceManager({"NOTIFY_SOCKET": "@x", **environment}).watchdog_s == seconds
    assert ServiceManager(environment).watchdog_s is None, "there is nobody to tell"


class Alive(ServiceManager):
    """Counts instead of telling."""

    def __init__(self) -> None:
        super().__init__({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "2000"})
        self.times = 0

    def alive(self) -> None:
        self.times += 1


async def test_the_watchdog_is_fed_only_while_the_actor_handles_what_it_is_told() -> None:
    manager, ticks = Alive(), asyncio.Queue[Event]()
    watchdog = Watchdog(manager, ticks.put_nowait)
    task = asyncio.create_task(watchdog.run())
    async with asyncio.timeout(BOUND_S):
        for _ in range(3):
            assert isinstance(await ticks.get(), Tick)
        assert manager.times == 0

        watchdog.handled()
        await ticks.get()
        assert manager.times == 1
        await ticks.get()
        assert manager.times == 1, "once handled is fed once"
    task.cancel()


async def test_without_a_watchdog_nothing_ticks() -> None:
    ticks: list[Event] = []

    await Watchdog(ServiceManager({}), ticks.append).run()

    assert ticks == []
