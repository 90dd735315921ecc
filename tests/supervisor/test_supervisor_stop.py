"""Stopping, being killed, and starting again."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.gateway_process import GatewayProcess, cmdline, eventually, exchange, owned_by, receive, send, wait_gone

Prepare = Callable[..., GatewayProcess]
SURVIVAL_S = 5.0  # nothing may outlive a killed supervisor by more


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_in_order_and_leaves_nothing_behind(gateway: GatewayProcess, number: int) -> None:
    children = [gateway.tell_slot(0, "child"), gateway.tell_slot(1, "child")]
    processes = gateway.marked()
    assert set(children) < set(processes)

    gateway.process.send_signal(number)
    code, _ = gateway.end()

    assert code == 0
    wait_gone(processes)
    assert [(gateway.home.root / f"stopped-{slot}").exists() for slot in (0, 1)] == [True, True]
    assert not gateway.home.control.exists()


def refuse(gateway: GatewayProcess, what: str) -> None:
    """Have writes of one kind to the records of lives fail, as on a full disk."""
    with contextlib.closing(sqlite3.connect(gateway.home.registry)) as registry:
        registry.execute(f"CREATE TRIGGER no BEFORE {what} ON boots BEGIN SELECT RAISE(ABORT, 'disk full'); END")


def test_an_end_in_order_that_cannot_be_recorded_is_one_all_the_same(gateway: GatewayProcess) -> None:
    refuse(gateway, "UPDATE OF ended_at")

    gateway.process.send_signal(signal.SIGTERM)
    code, said = gateway.end()

    assert code == 0
    assert "that this life ended in order is not recorded" in said


def test_a_start_that_cannot_be_recorded_is_refused_in_words(gateway: GatewayProcess, prepare: Prepare) -> None:
    refuse(gateway, "INSERT")
    gateway.process.send_signal(signal.SIGTERM)
    gateway.end()

    code, said = prepare().launch().end()

    assert code == 1
    assert "RegistryUnusable" in said
    assert "disk full" in said


def test_a_service_manager_that_signals_every_process_does_not_cut_the_workers_short(gateway: GatewayProcess) -> None:
    for pid in gateway.marked():
        os.kill(pid, signal.SIGTERM)
    os.killpg(gateway.process.pid, signal.SIGTERM)

    assert gateway.end()[0] == 0
    assert [(gateway.home.root / f"stopped-{slot}").exists() for slot in (0, 1)] == [True, True]


def test_hermes_ctl_stops_it_and_is_let_go_at_the_end(gateway: GatewayProcess) -> None:
    with gateway.connect() as control:
        assert exchange(control, "drain").error is None
        assert receive(control) is None

    assert gateway.end()[0] == 0


def test_workers_that_do_not_stop_are_killed(prepare: Prepare) -> None:
    gateway = prepare(agent={"restart_drain_timeout": 3600.0}).start()
    for slot in (0, 1):
        (gateway.home.root / f"linger-{slot}").touch()
    processes = gateway.marked()

    gateway.ask("drain", timeout=0)

    assert gateway.end()[0] == 0
    wait_gone(processes)


def test_nothing_survives_a_killed_supervisor(gateway: GatewayProcess) -> None:
    gateway.tell_slot(0, "child")
    hung = gateway.tell_slot(1, "child")
    os.kill(gateway.tell_slot(1, "who")["pid"], signal.SIGSTOP)  # it does not see that the supervisor is gone
    processes = gateway.marked()
    assert hung in processes

    gateway.process.kill()

    wait_gone(processes, SURVIVAL_S)


def test_what_prepares_a_restart_does_not_outlive_a_killed_supervisor(gateway: GatewayProcess) -> None:
    os.mkfifo(gateway.home.config)  # the trial run of the command line hangs in reading it
    before = set(gateway.marked())
    with gateway.connect() as asking:
        send(asking, "drain", then="restart")
        eventually(lambda: len(set(gateway.marked()) - before) >= 2)
        preparing = set(gateway.marked()) - before
        assert any("gateway_program" in cmdline(pid) for pid in preparing), "the trial run is one of them"
        for pid in preparing:
            os.kill(pid, signal.SIGSTOP)  # they do not see that the supervisor is gone

        gateway.process.kill()

        wait_gone(preparing, SURVIVAL_S)


def test_a_gateway_starts_at_once_on_what_a_killed_one_left(prepare: Prepare) -> None:
    first = prepare().start()
    first.tell_slot(0, "activate", owned_by(0))
    left = first.marked()
    for pid in first.pids():
        os.kill(pid, signal.SIGSTOP)  # they would hold the port until the reaper comes
    first.process.kill()
    first.process.wait()
    assert first.home.control.exists()

    second = prepare(api_server={"port": first.port}).start()

    wait_gone(left)
    assert second.status()["sessions"] == 1
    assert second.home.lock.with_suffix(".pid").read_text().strip() == str(second.process.pid)


def test_no_stale_file_keeps_a_gateway_from_starting(prepare: Prepare) -> None:
    gateway = prepare()
    run = gateway.home.control.parent
    run.mkdir(parents=True)
    gateway.home.control.write_text("no socket")
    gateway.home.lock.write_text("stale")
    gateway.home.lock.with_suffix(".pid").write_text(f"{os.getpid()}\n")
    gateway.home.peer(0).write_text("no socket either")

    gateway.start()

    assert gateway.status()["phase"] == "serving"


def test_a_second_start_on_the_same_home_names_the_pid_of_the_first(gateway: GatewayProcess, prepare: Prepare) -> None:
    code, output = prepare().launch().end()

    assert code == 1
    assert f"HomeBusy: a supervisor is already running on {gateway.home.root} with pid {gateway.process.pid}" in output
    assert gateway.status()["phase"] == "serving"


def test_another_gateway_cannot_share_the_port_in_silence(
    gateway: GatewayProcess, prepare: Prepare, tmp_path: Path
) -> None:
    other = prepare(tmp_path / "b", api_server={"port": gateway.port})

    code, output = other.launch().end()

    assert code == 1
    assert f"ListenFailed: cannot listen on 127.0.0.1 port {gateway.port}: Address already in use" in output


def test_another_number_of_shards_than_the_homes_is_refused(prepare: Prepare) -> None:
    first = prepare(supervisor={"shards": 16}).start()
    first.process.terminate()
    assert first.end()[0] == 0

    code, output = prepare(supervisor={"shards": 32}).launch().end()

    assert code == 1
    assert "ShardsFixed: supervisor.shards is 32, but this home was made with 16 shards" in output
    assert prepare(supervisor={"shards": "auto"}).start().status()["shards"]["total"] == 16


def test_a_reaper_that_dies_is_replaced(gateway: GatewayProcess) -> None:
    def reapers() -> list[int]:
        children = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if "reaper.py" in cmdline(int(pid))]

    (victim,) = reapers()

    os.kill(victim, signal.SIGKILL)

    wait_gone([victim])
    assert eventually(lambda: [pid for pid in reapers() if pid != victim])
    processes = gateway.marked()
    gateway.process.kill()
    wait_gone(processes, SURVIVAL_S)


def test_a_registry_that_fails_ends_the_gateway_loudly_and_the_next_start_makes_it_anew(prepare: Prepare) -> None:
    gateway = prepare().start()
    processes = gateway.marked()
    with sqlite3.connect(gateway.home.registry) as database:
        database.execute("DROP TABLE sessions")
    database.close()

    with contextlib.suppress(OSError):  # the worker may go before it answers
        gateway.tell_slot(0, "activate", owned_by(0))
    code, output = gateway.end()

    assert code == 1
    assert "SupervisorFailed: the supervisor failed: no such table: sessions" in output
    wait_gone(processes)
    assert list(gateway.home.registry.parent.glob("*.suspect")), "however large it is, the next start checks it"
    gateway = prepare().start()
    assert gateway.tell_slot(0, "activate", owned_by(0))["is"] == "Activated"
    assert list(gateway.home.registry.parent.glob("registry.db.corrupt-*"))


def test_a_stop_whose_sockets_cannot_be_removed_any_more_ends_in_order(gateway: GatewayProcess) -> None:
    """As on a disk that became read-only: what stands in their places cannot be unlinked, even by root."""
    for path in [gateway.home.control, *gateway.home.run.glob("listener-*")]:
        path.unlink()
        path.mkdir()

    gateway.process.terminate()

    code, said = gateway.end()
    assert (code, "Traceback" in said) == (0, False)
    assert gateway.launch().process.poll() is None
    gateway.await_ready()
