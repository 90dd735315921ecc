"""Fork servers: one that was started ahead is used, unless it does not fit any more."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from fakes.gateway_process import wait_gone

from hermes_actors.pool import fork_server
from hermes_actors.pool.fork_server import ForkServer
from hermes_actors.wire.ownership import OWNER_VARIABLE

MODULE = "json"


@pytest.fixture(autouse=True)
def nobody_used() -> Iterator[None]:
    fork_server.end_own()
    yield
    fork_server.end_own()


@pytest.fixture
def ahead() -> ForkServer:
    return fork_server.start(MODULE, "mark:of:the:next:")


def forked() -> psutil.Process:
    """The fork server that a new process comes from."""
    process = multiprocessing.get_context("forkserver").Process(target=signal.pause)
    process.start()
    assert process.pid is not None
    parent = psutil.Process(process.pid).parent()
    assert parent is not None
    process.kill()
    process.join()
    process.close()
    return parent


def test_a_process_is_forked_by_the_server_that_was_started_ahead(ahead: ForkServer) -> None:
    assert fork_server.use(ahead, MODULE)

    assert fork_server.own_pid() == ahead.pid
    assert forked().pid == ahead.pid
    environment = Path(f"/proc/{ahead.pid}/environ").read_text()
    assert f"{OWNER_VARIABLE}=mark:of:the:next:" in environment


def test_starting_one_ahead_leaves_the_one_in_use_alone() -> None:
    used = forked().pid

    ahead = fork_server.start(MODULE, "mark")

    assert fork_server.own_pid() == used
    assert forked().pid == used
    fork_server.end(ahead)


def test_one_that_loaded_other_code_is_ended_and_another_takes_its_place(ahead: ForkServer) -> None:
    assert not fork_server.use(replace(ahead, code="of yesterday"), MODULE)

    wait_gone([ahead.pid])
    assert not psutil.pid_exists(ahead.pid)
    assert forked().pid != ahead.pid


def test_one_that_died_is_not_used(ahead: ForkServer) -> None:
    psutil.Process(ahead.pid).kill()
    wait_gone([ahead.pid])

    assert not fork_server.use(ahead, MODULE)

    assert forked().pid != ahead.pid


def test_one_that_is_ended_leaves_no_process_and_no_socket(ahead: ForkServer) -> None:
    assert Path(ahead.address).exists()

    fork_server.end(ahead)

    assert not psutil.pid_exists(ahead.pid)
    assert not Path(ahead.address).exists()


def test_the_end_of_the_one_in_use_leaves_no_child() -> None:
    forked()

    fork_server.end_own()

    assert fork_server.own_pid() is None
    assert psutil.Process().children() == []


def test_sockets_are_where_they_were_wanted_and_old_ones_are_removed(tmp_path: Path) -> None:
    used, old, other = (tmp_path / name for name in ("listener-used", "listener-old", "supervisor.sock"))
    for path in (used, old, other):
        path.touch()
    foreign = tmp_path / "listener-foreign"
    foreign.mkdir()
    config = multiprocessing.process.current_process()._config  # type: ignore[attr-defined]  # where multiprocessing looks
    before = config.get("tempdir")

    fork_server.settle(tmp_path, ForkServer(pid=1, address=str(used), alive=0, code=""))
    try:
        ahead = fork_server.start(MODULE, "mark")
    finally:
        config["tempdir"] = before

    assert {path.name for path in tmp_path.iterdir()} == {used.name, other.name, foreign.name, Path(ahead.address).name}
    fork_server.end(ahead)


def test_the_fingerprint_changes_with_the_code_and_with_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "fingerprinted"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "deep.py").write_text("a = 1")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    first = fork_server.fingerprint("fingerprinted.deep")

    (package / "notes.txt").touch()
    assert fork_server.fingerprint("fingerprinted.deep") == first

    (package / "deep.py").write_text("a = 22")
    second = fork_server.fingerprint("fingerprinted.deep")
    assert second != first

    (tmp_path / "another-1.0.dist-info").mkdir()
    assert fork_server.fingerprint("fingerprinted.deep") != second
