"""A home, its lock, and a fake supervisor on its control socket."""

from __future__ import annotations

import contextlib
import fcntl
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.control_peer import Behaviour, FakeSupervisor

from hermes_actors.home import Home


@pytest.fixture
def home() -> Iterator[Home]:
    """A made home with a short path: a Unix socket's holds 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ha-") as root:
        made = Home(Path(root))
        made.make()
        yield made


@pytest.fixture
def hold_lock(home: Home) -> Iterator[Callable[[], Callable[[], None]]]:
    """Hold the home's lock as a supervisor does, until the returned function or the test's end frees it."""
    with contextlib.ExitStack() as held:

        def hold() -> Callable[[], None]:
            lock = held.enter_context(home.lock.open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock.close

        yield hold


@pytest.fixture
def supervisor(home: Home) -> Iterator[Callable[[Behaviour], FakeSupervisor]]:
    """Start a fake supervisor on the home's control socket."""
    started: list[FakeSupervisor] = []

    def start(behave: Behaviour) -> FakeSupervisor:
        started.append(FakeSupervisor(home, behave))
        return started[-1]

    yield start
    for fake in started:
        fake.close()
