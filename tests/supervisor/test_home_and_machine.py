"""The home's lock, the public sockets, the cores: what a start finds on its machine."""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path

import pytest

from hermes_actors.home import Home
from hermes_actors.pool.cores import usable_cores, usual_shards
from hermes_actors.pool.listeners import ListenFailed, open_listeners
from hermes_actors.supervisor.home_lock import HomeBusy, HomeUnusable, filesystem, hold


def test_a_home_is_made_private_and_held_by_one_at_a_time(home_root: Path) -> None:
    home = Home(home_root / "new")
    with hold(home):
        assert home.root.stat().st_mode & 0o777 == 0o700
        with pytest.raises(HomeBusy, match=f"with pid {os.getpid()}") as busy, hold(home):
            pass
        assert busy.value.pid == os.getpid()

    with hold(home):
        pass


def test_a_home_stays_held_as_long_as_a_copy_of_its_lock_is_open(home_root: Path) -> None:
    home = Home(home_root)
    with hold(home) as lock:
        copy = os.dup(lock)
    with pytest.raises(HomeBusy), hold(home):
        pass

    with hold(home, copy) as held:
        assert held == copy
        with pytest.raises(HomeBusy), hold(home):
            pass

    with hold(home):
        pass


def test_an_inherited_descriptor_of_another_file_holds_nothing(home_root: Path) -> None:
    home = Home(home_root)
    other = os.open(os.devnull, os.O_RDONLY)

    with hold(home, other) as lock:
        assert os.path.samestat(os.fstat(lock), home.lock.stat())
        with pytest.raises(HomeBusy), hold(home):
            pass


def test_a_lock_file_that_was_replaced_is_locked_anew(home_root: Path) -> None:
    home = Home(home_root)
    with hold(home) as lock:
        copy = os.dup(lock)
    home.lock.unlink()

    with hold(home, copy), pytest.raises(HomeBusy), hold(home):
        pass


def test_a_home_whose_sockets_could_not_be_named_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HomeUnusable, match="too long"), hold(Home(tmp_path / ("x" * 100))):
        pass


def test_a_home_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(HomeUnusable, match="cannot be made"), hold(Home(Path("/proc/nowhere"))):
        pass


def test_a_home_is_held_where_the_pid_of_its_holder_cannot_be_written(home_root: Path) -> None:
    home = Home(home_root)
    home.make()
    home.lock.with_suffix(".pid").mkdir()

    with hold(home), pytest.raises(HomeBusy) as busy, hold(home):
        pass

    assert busy.value.pid is None


def test_the_filesystem_of_a_path_is_that_of_its_deepest_mount(tmp_path: Path) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(
        "22 1 254:0 / / rw,relatime - ext4 /dev/root rw\n"
        "30 22 0:30 / /srv rw shared:1 - nfs4 server:/srv rw\n"
        "31 30 0:31 / /srv/a\\040b rw shared:1 - xfs /dev/b rw\n"
    )

    assert filesystem(Path("/srv/data"), mountinfo) == "nfs4"
    assert filesystem(Path("/srv/a b/c"), mountinfo) == "xfs"
    assert filesystem(Path("/home"), mountinfo) == "ext4"
    assert filesystem(Path("/home"), tmp_path / "none") == ""


def test_a_home_on_a_network_filesystem_is_refused(home_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hermes_actors.supervisor.home_lock.filesystem", lambda _: "nfs4")

    with pytest.raises(HomeUnusable, match="network filesystem"), hold(Home(home_root)):
        pass


def test_all_slots_listen_on_one_port_which_may_be_chosen() -> None:
    with open_listeners("127.0.0.1", 0, 3) as listeners:
        (address,) = {listener.getsockname() for listener in listeners.values()}
        assert sorted(listeners) == [0, 1, 2]
        assert address[1] != 0
        for _ in range(10):
            socket.create_connection(address, timeout=5).close()


def test_a_copy_that_is_closed_does_not_close_the_socket_for_others() -> None:
    with open_listeners("127.0.0.1", 0, 1) as listeners:
        listeners[0].dup().close()

        socket.create_connection(listeners[0].getsockname(), timeout=5).close()


def test_a_port_that_is_taken_is_refused_even_where_it_could_be_shared() -> None:
    with open_listeners("127.0.0.1", 0, 1) as first:
        port = first[0].getsockname()[1]
        with pytest.raises(ListenFailed, match="in use"), open_listeners("127.0.0.1", port, 1):
            pass

    with open_listeners("127.0.0.1", port, 2):
        pass


def inherited(listeners: dict[int, socket.socket]) -> list[int]:
    return [listener.dup().detach() for listener in listeners.values()]


@pytest.mark.parametrize(("slots", "sockets"), [(1, 2), (2, 2), (3, 3)])
@pytest.mark.parametrize("named", [True, False])
def test_inherited_sockets_are_kept_and_missing_ones_opened_beside_them(slots: int, sockets: int, named: bool) -> None:
    with open_listeners("127.0.0.1", 0, 2) as first:
        address = first[0].getsockname()
        left = inherited(first)
    waiting = [socket.create_connection(address, timeout=5) for _ in range(8)]

    with open_listeners("localhost", address[1] if named else 0, slots, left) as listeners:
        assert [listener.getsockname() for listener in listeners.values()] == [address] * sockets
        for _ in waiting:
            selectable, _, _ = select.select(listeners.values(), [], [], 5)
            selectable[0].accept()[0].close()
    for connection in waiting:
        connection.close()


def test_inherited_sockets_of_another_address_are_closed_once_the_new_one_is_open() -> None:
    with open_listeners("127.0.0.1", 0, 1) as first:
        old = first[0].getsockname()
        left = inherited(first)

    with open_listeners("::1", old[1], 1, left) as listeners:
        assert listeners[0].family == socket.AF_INET6
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(old, timeout=5)


def test_an_address_that_includes_the_inherited_one_is_not_taken() -> None:
    with open_listeners("127.0.0.1", 0, 1) as first:
        port = first[0].getsockname()[1]
        left = inherited(first)

    with open_listeners("0.0.0.0", port, 1, left) as listeners:
        assert listeners[0].getsockname() == ("0.0.0.0", port)


def test_what_is_inherited_and_does_not_listen_is_closed() -> None:
    with socket.socket() as idle, socket.create_server(("127.0.0.1", 0)) as alone:
        port = alone.getsockname()[1]
        left = [os.open(os.devnull, os.O_RDONLY), idle.dup().detach(), alone.dup().detach()]

    with open_listeners("127.0.0.1", port, 2, left) as listeners:
        assert len(listeners) == 2
        assert all(listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for listener in listeners.values())
    for descriptor in left[:2]:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", ""])
def test_a_host_that_does_not_exist_is_refused(host: str) -> None:
    if host:
        with pytest.raises(ListenFailed, match="is unknown"), open_listeners(host, 0, 1):
            pass


def test_an_ipv6_address_is_served() -> None:
    with open_listeners("::1", 0, 2) as listeners:
        socket.create_connection(listeners[1].getsockname()[:2], timeout=5).close()


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 64), ("150000 100000", 2), ("50000 100000", 1), ("x", 64)])
def test_the_cores_are_those_of_affinity_and_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "cpu.max").write_text(quota)
    own = tmp_path / "cgroup"
    own.write_text("1:cpu:/legacy\n0::/a/b\n")

    assert usable_cores(own, tmp_path) == cores
    assert usable_cores(tmp_path / "none", tmp_path) == 64


@pytest.mark.parametrize(("cores", "shards"), [(1, 8), (2, 8), (4, 8), (5, 16), (8, 16), (64, 128), (96, 256)])
def test_shards_are_twice_the_cores_a_power_of_two_and_at_least_eight(cores: int, shards: int) -> None:
    assert usual_shards(cores) == shards
