"""What outlived its owner, found by its mark."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator

import pytest
from fakes.gateway_process import BOUND_S, wait_gone

from hermes_actors.pool import reaper

VARIABLE = "HERMES_ACTORS_TEST_MARK"


@pytest.fixture
def mark() -> str:
    return f"{VARIABLE}={secrets.token_hex(8)}"


@pytest.fixture
def start() -> Iterator[object]:
    """Starts processes that carry a value and sleep; ends them after the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def make(mark: str, command: tuple[str, ...] = ("sleep", "600")) -> subprocess.Popen[bytes]:
        name, _, value = mark.partition("=")
        process = subprocess.Popen(
            command, env={name: value, "PATH": os.environ["PATH"]}, start_new_session=True, stdout=subprocess.PIPE
        )
        processes.append(process)
        return process

    yield make
    for process in processes:
        process.kill()
        process.communicate()


def test_a_sweep_kills_what_carries_the_mark_or_more_and_nothing_else(mark: str, start) -> None:  # type: ignore[no-untyped-def]  # a factory
    exact, longer = start(f"{mark}:"), start(f"{mark}:1:2:")
    other, inner = start(f"{VARIABLE}=other"), start(f"X=y{mark}:")

    killed = reaper.sweep([f"{mark}:"])

    assert killed == sorted([exact.pid, longer.pid])
    assert [exact.wait(BOUND_S), longer.wait(BOUND_S)] == [-9, -9]
    assert [other.poll(), inner.poll()] == [None, None]


def test_a_sweep_finds_descendants_that_left_their_session(mark: str, start) -> None:  # type: ignore[no-untyped-def]  # a factory
    parent = start(f"{mark}:", ("sh", "-c", "setsid sleep 600 & echo $!; exec sleep 600"))
    child = int(parent.stdout.readline())

    killed = reaper.sweep([f"{mark}:"])

    assert killed == sorted([parent.pid, child])
    wait_gone([child])


def test_a_sweep_without_anything_to_find_is_quick_and_quiet(mark: str) -> None:
    assert reaper.sweep([mark]) == []


def reaping(mark: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-I", "-S", reaper.__file__, mark], stdin=subprocess.PIPE)


def test_the_program_kills_what_is_left_when_its_pipe_ends_without_a_word(mark: str, start) -> None:  # type: ignore[no-untyped-def]  # a factory
    victim, program = start(f"{mark}:"), reaping(f"{mark}:")

    program.communicate(timeout=BOUND_S)

    assert victim.wait(BOUND_S) == -9


def test_the_program_leaves_all_alone_when_it_is_dismissed(mark: str, start) -> None:  # type: ignore[no-untyped-def]  # a factory
    spared, program = start(f"{mark}:"), reaping(f"{mark}:")

    program.communicate(reaper.DISMISSED, timeout=BOUND_S)

    assert program.returncode == 0
    assert spared.poll() is None


def test_a_process_is_found_from_its_first_moment_on(mark: str, start) -> None:  # type: ignore[no-untyped-def]  # a factory
    """Popen returns in the middle of the execve: two of three processes show no environment yet."""
    needles = [f"\0{mark}:".encode()]

    found = [reaper.carries(start(f"{mark}:").pid, needles) for _ in range(100)]

    assert all(found)
