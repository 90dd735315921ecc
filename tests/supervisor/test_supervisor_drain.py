"""Drains of a real supervisor, with workers that only pretend to run turns."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.gateway_process import BOUND_S, GatewayProcess, eventually, exchange, owned_by, receive, send

from hermes_actors.records import ledger_file

Prepare = Callable[..., GatewayProcess]
LONG = {"restart_drain_timeout": 3600.0}  # no drain of this comes to its deadline in a test


@pytest.fixture
def patient(prepare: Prepare) -> GatewayProcess:
    """A gateway of two workers that waits long for its turns."""
    return prepare(agent=LONG).start()


def running(gateway: GatewayProcess, slot: int, turn_id: str = "turn_1", *, kind: str = "api", name: str = "s") -> str:
    """The key of a session of this slot, in which a turn runs now."""
    key = owned_by(slot, f"{kind}:default:{name}")
    if kind == "api":
        gateway.tell_slot(slot, "activate", key)
    gateway.tell_slot(slot, "run", key, turn_id)
    return key


def drains(gateway: GatewayProcess, slot: int) -> Any:
    return gateway.tell_slot(slot, "told")["drains"]


def phase(gateway: GatewayProcess, wanted: str) -> Any:
    return eventually(lambda: (status := gateway.status())["phase"] == wanted and status)


def cut(gateway: GatewayProcess, slot: int) -> Any:
    """What the slot's worker cut, and who was marked on disk by then."""
    return json.loads((gateway.home.root / f"cut-{slot}").read_text())


def strikes(gateway: GatewayProcess) -> dict[str, int]:
    return {key: entry.count for key, entry in ledger_file.read(gateway.home.ledger).entries.items()}


# -- to its end --------------------------------------------------------------------------------------------------------


def test_a_turn_that_runs_may_end_and_then_the_gateway_is_gone(patient: GatewayProcess) -> None:
    key = running(patient, 0)
    with patient.connect() as control:
        patient.process.terminate()
        phase(patient, "draining")
        assert drains(patient, 0) == ["shutdown_timeout None"]

        patient.tell_slot(0, "end", key)
        while receive(control) is not None:
            pass
    assert patient.end()[0] == 0
    assert cut(patient, 0)["turns"] == {}
    assert strikes(patient) == {}


def test_what_runs_at_the_deadline_is_marked_on_disk_before_it_is_cut(patient: GatewayProcess) -> None:
    gateway = patient
    first, second = running(gateway, 0), running(gateway, 1, "turn_2")
    running(gateway, 1, "turn_3", kind="conv")

    with gateway.connect() as control:
        answer = exchange(control, "drain", timeout=0)
        assert receive(control) is None

    assert gateway.end()[0] == 0
    told = dict(answer.data)
    assert (told.pop("cut"), told.pop("took_s") >= 0) == (sorted([first, second]), True)
    assert told == {"marked": 2, "stateless": 1, "waiting": 0, "silent": [], "suspended": [], "then": "stop"}
    for slot, key in ((0, first), (1, second)):
        assert cut(gateway, slot)["reason"] == "shutdown_timeout"
        assert [key, "resume_pending", "shutdown_timeout"] in cut(gateway, slot)["marked"]
    assert strikes(gateway) == {first: 1, second: 1}


def test_an_idle_gateway_is_drained_at_once(patient: GatewayProcess) -> None:
    with patient.connect() as control:
        answer = exchange(control, "drain")
        assert (answer.error, answer.data["marked"]) == (None, 0)
    assert patient.end()[0] == 0


def test_a_session_that_is_idle_at_a_stop_loses_its_strikes_but_not_one_that_waits(prepare: Prepare) -> None:
    first = prepare().start()
    stuck = running(first, 0)
    idle = running(first, 1)
    waits = running(first, 1, "turn_2", name="w")
    first.ask("drain", timeout=0)
    assert first.end()[0] == 0
    assert strikes(first) == {stuck: 1, idle: 1, waits: 1}

    second = prepare().start()
    assert strikes(second) == {stuck: 1, idle: 1, waits: 1}, "a start alone forgets none"
    running(second, 0, "turn_3")
    second.tell_slot(1, "wait", waits)
    second.ask("drain", timeout=0)

    assert second.end()[0] == 0
    assert strikes(second) == {stuck: 2, waits: 1}


def test_a_second_signal_does_not_wait_for_turns(patient: GatewayProcess) -> None:
    key = running(patient, 0)
    patient.process.terminate()
    phase(patient, "draining")

    patient.process.terminate()

    assert patient.end()[0] == 0
    assert cut(patient, 0)["turns"] == {key: "turn_1"}


def test_a_worker_that_does_not_tell_what_runs_is_killed_and_the_others_are_cut_in_order(
    patient: GatewayProcess,
) -> None:
    running(patient, 0)
    key = running(patient, 1, "turn_2")
    (patient.home.root / "mute-0").touch()

    with patient.connect() as control:
        answer = exchange(control, "drain", timeout=0)

    assert answer.data["cut"] == [key]
    assert patient.end()[0] == 0
    assert not (patient.home.root / "cut-0").exists()
    assert not (patient.home.root / "stopped-0").exists()
    assert cut(patient, 1)["turns"] == {key: "turn_2"}


def test_a_worker_that_dies_during_a_drain_is_replaced_by_one_that_begins_no_turn(patient: GatewayProcess) -> None:
    key = running(patient, 1)
    patient.process.terminate()
    phase(patient, "draining")

    os.kill(patient.pids()[0], signal.SIGKILL)
    eventually(lambda: patient.workers()[0]["restarts"] == 1)
    patient.settled()

    assert drains(patient, 0) == ["shutdown_timeout None"]
    patient.tell_slot(1, "end", key)
    assert patient.end()[0] == 0


def test_the_session_that_asks_is_named_to_the_workers(patient: GatewayProcess) -> None:
    patient.rewrite()  # what is restarted must have a configuration
    key = running(patient, 0)

    patient.tell_slot(0, "restart", key)

    phase(patient, "draining")
    assert drains(patient, 1) == [f"restart_timeout {key}"]


# -- held, cancelled, shown ----------------------------------------------------------------------------------------


def test_a_held_gateway_stays_up_until_it_is_let_go(patient: GatewayProcess) -> None:
    key = running(patient, 0)

    answer = patient.ask("drain", timeout=0, then="hold")

    assert (answer.data["cut"], answer.data["then"]) == ([key], "hold")
    assert patient.status()["phase"] == "held"
    assert [worker["state"] for worker in patient.workers()] == ["ready", "ready"]
    assert patient.ask("drain.cancel").error is None
    assert patient.status()["phase"] == "serving"
    assert drains(patient, 0) == ["shutdown_timeout None", "over"]
    assert strikes(patient) == {key: 1}


def test_a_held_gateway_can_be_stopped_and_keeps_its_strikes(patient: GatewayProcess) -> None:
    key = running(patient, 0)
    patient.ask("drain", timeout=0, then="hold")

    assert patient.ask("drain").data["marked"] == 0

    assert patient.end()[0] == 0
    assert strikes(patient) == {key: 1}


def test_a_cancelled_drain_lets_who_waited_know(patient: GatewayProcess) -> None:
    running(patient, 0)
    with patient.connect() as control:
        send(control, "drain")
        phase(patient, "draining")

        assert patient.ask("drain.cancel").error is None

        assert receive(control).error == "cancelled"
    assert patient.status()["phase"] == "serving"
    assert patient.ask("drain.cancel").error == "not_draining"


def test_what_runs_and_what_would_come_of_it_is_told(patient: GatewayProcess) -> None:
    key = running(patient, 0)
    stateless = running(patient, 1, "turn_2", kind="conv")
    patient.tell_slot(1, "wait", "api:default:w")

    plan = patient.ask("drain.plan", timeout=30).data
    status = patient.ask("drain.status").data

    assert {turn["key"]: (turn["worker"], turn["outcome"], turn["suspends"]) for turn in plan["turns"]} == {
        key: (0, "unknown", False),  # the fake's turns began long ago
        stateless: (1, "unknown", False),
    }
    assert (plan["unknown"], plan["queued"], plan["missing"], plan["timeout_s"]) == (2, 1, [], 30.0)
    assert {turn["key"] for turn in status["turns"]} == {key, stateless}
    assert (status["phase"], status["count"], status["queued"], status["left_s"]) == ("serving", 2, 1, None)
    assert strikes(patient) == {}


# -- the service manager -------------------------------------------------------------------------------------------


@pytest.fixture
def notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where a gateway that starts now tells its service manager how it does."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(BOUND_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield manager


def heard(manager: socket.socket, line: str) -> list[str]:
    """The lines of the first notice that has this one."""
    while line not in (lines := manager.recv(4096).decode().splitlines()):
        pass
    return lines


def test_the_service_manager_hears_how_it_goes(prepare: Prepare, notices: socket.socket) -> None:
    gateway = prepare(agent=LONG).start()
    assert "STATUS=serving" in heard(notices, "READY=1")
    key = running(gateway, 0)

    gateway.process.terminate()

    lines = notices.recv(4096).decode().splitlines()
    assert [line.partition("=")[0] for line in lines] == ["STATUS", "EXTEND_TIMEOUT_USEC"]
    assert int(lines[1].partition("=")[2]) > 3600 * 1_000_000
    gateway.tell_slot(0, "end", key)
    heard(notices, "STOPPING=1")
    assert gateway.end()[0] == 0


def test_a_watchdog_is_told_as_long_as_the_supervisor_works(
    prepare: Prepare, notices: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")

    prepare().start()

    for _ in range(3):
        heard(notices, "WATCHDOG=1")


# -- a disk that is full -----------------------------------------------------------------------------------------------


def test_a_hold_is_refused_and_everything_goes_on_while_strikes_could_not_be_written(patient: GatewayProcess) -> None:
    in_the_way = patient.home.ledger.with_name(f"{patient.home.ledger.name}.tmp")
    in_the_way.mkdir()
    running(patient, 0)

    refused = patient.ask("drain", then="hold", timeout=0)

    assert refused.error == "store_failed"
    assert str(patient.home.ledger) in refused.why
    assert patient.status()["phase"] == "serving"
    assert drains(patient, 0) == []
    in_the_way.rmdir()
    assert patient.ask("drain", then="hold", timeout=0).error is None
