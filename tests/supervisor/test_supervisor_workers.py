"""Worker processes: watched, replaced, given up; connections are not refused meanwhile."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable

from fakes.gateway_process import BOUND_S, GatewayProcess, cmdline, eventually, wait_gone

Prepare = Callable[..., GatewayProcess]


def test_a_gateway_comes_up_with_its_workers_and_says_so_over_the_control_socket(gateway: GatewayProcess) -> None:
    status = gateway.status()

    assert status["phase"] == "serving"
    assert status["pid"] == gateway.process.pid
    assert status["http"] == {"host": "127.0.0.1", "port": gateway.port}
    assert status["shards"] == {"total": 8, "broken": []}
    assert status["sessions"] == 0
    assert [worker["shards"] for worker in status["workers"]] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert gateway.tell_slot(0, "who")["up"] == [0, 1]


def test_a_workers_load_is_known_from_its_heartbeats(gateway: GatewayProcess) -> None:
    eventually(lambda: gateway.workers()[0]["resident"])

    worker = gateway.workers()[0]
    assert [worker[name] for name in ("resident", "running", "queued", "turns", "mcp")] == [1, 2, 3, 4, 5]


def test_a_killed_worker_is_replaced_with_higher_fences(gateway: GatewayProcess) -> None:
    before = gateway.tell_slot(1, "who")["owners"]
    victim = gateway.tell_slot(0, "who")["pid"]

    os.kill(victim, signal.SIGKILL)

    eventually(lambda: gateway.workers()[0]["generation"] == 2)
    worker = gateway.settled()[0]
    assert (worker["slot"], worker["restarts"], worker["last_exit"]) == (0, 1, -9)
    eventually(lambda: 0 in gateway.tell_slot(1, "who")["up"])
    after = gateway.tell_slot(1, "who")["owners"]
    for shard in before:
        slot, fence = before[shard]
        assert after[shard] == [slot, fence + (slot == 0)]


def test_no_connection_is_refused_while_a_worker_dies_and_is_replaced(gateway: GatewayProcess) -> None:
    done, failures, answered = threading.Event(), list[str](), list[int]()

    def connect() -> None:
        while not done.is_set():
            try:
                with socket.create_connection(("127.0.0.1", gateway.port), timeout=BOUND_S) as connection:
                    answered.append(connection.fileno())
            except OSError as error:
                failures.append(str(error))

    client = threading.Thread(target=connect)
    client.start()
    for generation in (2, 3):
        os.kill(gateway.settled()[0]["pid"], signal.SIGKILL)
        eventually(lambda: gateway.workers()[0]["generation"] == generation)  # noqa: B023  # asked before the next
    gateway.settled()
    done.set()
    client.join(BOUND_S)

    assert not failures
    assert answered


def test_a_sibling_answers_for_a_worker_that_stays_down_and_steps_back_when_it_is_replaced(prepare: Prepare) -> None:
    gateway = prepare(supervisor={"max_restarts": 0}).start()
    (gateway.home.root / "fail-0").touch()
    os.kill(gateway.tell_slot(0, "who")["pid"], signal.SIGKILL)
    gateway.settled("given_up ready")

    assert eventually(lambda: gateway.tell("who")["listens"] == [0, 1])
    for _ in range(30):
        assert gateway.tell("who")["slot"] == 1


def test_one_worker_alone_dies_and_the_connections_wait_for_the_next(prepare: Prepare) -> None:
    gateway = prepare(supervisor={"workers": 1}).start()
    victim = gateway.tell("who")["pid"]

    os.kill(victim, signal.SIGKILL)

    assert gateway.tell("who")["pid"] != victim


def test_a_hung_worker_is_killed_and_replaced(gateway: GatewayProcess) -> None:
    victim = gateway.workers()[0]["pid"]

    os.kill(victim, signal.SIGSTOP)

    wait_gone([victim])
    assert gateway.settled()[0]["generation"] == 2


def test_a_worker_that_cannot_start_is_given_up_while_the_others_serve(prepare: Prepare) -> None:
    gateway = prepare(supervisor={"max_restarts": 1})
    (gateway.home.root / "fail-1").touch()
    gateway.start()

    workers = gateway.settled("ready given_up")

    assert (workers[1]["last_exit"], workers[1]["restarts"]) == (9, 1)
    assert gateway.tell("who")["slot"] == 0
    gateway.process.terminate()
    code, output = gateway.end()
    assert code == 0
    assert "worker died too often" in output


def test_a_worker_that_speaks_no_frames_is_killed_and_replaced(gateway: GatewayProcess) -> None:
    gateway.tell_slot(1, "garble")

    eventually(lambda: gateway.workers()[1]["generation"] >= 2)  # more: its answer may be lost, then it is told again
    gateway.settled()


def test_what_a_killed_worker_started_is_gone_with_it_and_what_others_started_is_not(gateway: GatewayProcess) -> None:
    doomed, spared = gateway.tell_slot(0, "child"), gateway.tell_slot(1, "child")

    os.kill(gateway.tell_slot(0, "who")["pid"], signal.SIGKILL)

    wait_gone([doomed])
    gateway.settled()
    os.kill(spared, 0)


def test_workers_outlive_the_fork_server_and_can_still_be_replaced(gateway: GatewayProcess) -> None:
    first, second = gateway.pids()
    (server,) = [
        pid for pid in gateway.marked() if pid not in (first, second) and "multiprocessing.forkserver" in cmdline(pid)
    ]

    os.kill(server, signal.SIGKILL)
    wait_gone([server])
    os.kill(first, signal.SIGKILL)

    eventually(lambda: gateway.workers()[0]["generation"] == 2)
    assert gateway.settled()[1]["pid"] == second


def test_a_worker_loads_nothing_of_the_supervisor(gateway: GatewayProcess) -> None:
    modules = gateway.tell("who")["modules"]
    shared = ("hermes_actors.wire", "hermes_actors.operations")

    assert modules
    assert [name for name in modules if not name.startswith(shared) and name != "hermes_actors"] == []


def test_a_broken_shard_that_a_worker_reports_is_in_the_status(gateway: GatewayProcess) -> None:
    gateway.tell_slot(0, "broken", 2)

    assert eventually(lambda: gateway.status()["shards"]["broken"]) == [
        {"shard": 2, "why": "torn page", "set_aside": "/aside", "serving": True}
    ]


def test_shards_and_their_fences_survive_restarts_and_another_number_of_workers(prepare: Prepare) -> None:
    gateway = prepare().start()
    before = gateway.tell("who")["owners"]
    gateway.process.terminate()
    assert gateway.end()[0] == 0

    gateway = prepare(supervisor={"workers": 3}).start()
    after = gateway.tell("who")["owners"]

    assert all(after[shard][1] > before[shard][1] for shard in before)
    moved = [shard for shard in before if after[shard][0] != before[shard][0]]
    assert len(moved) == 2
    assert {after[shard][0] for shard in moved} == {2}
