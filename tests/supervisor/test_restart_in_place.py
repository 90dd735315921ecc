"""A planned restart in place: the same process, with the code and configuration of now, and no connection refused."""

from __future__ import annotations

import json
import os
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from fakes.gateway_process import BOUND_S, GatewayProcess, eventually, receive, send, wait_gone

CONNECTIONS = 24  # so many go to every one of a few sockets

LOOKS = 20
LOOK_INTERVAL_S = 0.01


@pytest.fixture(scope="module")
def steadfast() -> Iterator[GatewayProcess]:
    """A gateway for tests after which it still serves."""
    with tempfile.TemporaryDirectory(prefix="ha-") as root, GatewayProcess(Path(root)) as gateway:
        yield gateway.start()


def restart(gateway: GatewayProcess, **sections: dict[str, Any]) -> None:
    """Restart in place with these sections of the configuration, and wait until it serves again."""
    begin(gateway, **sections)
    gateway.await_ready()


def begin(gateway: GatewayProcess, **sections: dict[str, Any]) -> None:
    """Ask for a restart, and return when the last worker is gone."""
    gateway.rewrite(None, **sections)
    reply = gateway.ask("drain", then="restart")
    assert reply.error is None, reply.why


def call(gateway: GatewayProcess) -> socket.socket:
    """Connect and ask who answers, without reading the answer."""
    connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=BOUND_S)
    connection.sendall(b"who\n")
    return connection


def answer(connection: socket.socket) -> Any:
    with connection, connection.makefile() as lines:
        return json.loads(lines.read())


def open_files(pid: int) -> Counter[str]:
    """What a process has open, by kind."""
    found: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        found[os.readlink(entry).partition(":[")[0]] += 1
    return found


def open_for_long(pid: int) -> Counter[str]:
    """The fewest of some looks: who asked last may still be connected at the first."""
    looks = []
    for _ in range(LOOKS):
        looks.append(open_files(pid))
        time.sleep(LOOK_INTERVAL_S)
    return min(looks, key=Counter.total)


def children(pid: int) -> Counter[str]:
    """The children of a process by what they run; zombies too."""
    found: Counter[str] = Counter()
    for child in psutil.Process(pid).children():
        try:
            words = "zombie" if child.status() == psutil.STATUS_ZOMBIE else " ".join(child.cmdline())
        except psutil.NoSuchProcess:  # gone since it was listed
            continue
        names = [name for name in ("forkserver", "resource_tracker", "reaper") if name in words]
        found[" ".join(names) or words] += 1
    return found


def test_the_process_stays_with_everything_new_in_it_and_the_configuration_of_now(
    gateway: GatewayProcess,
) -> None:
    before, old = gateway.status(), gateway.pids()

    restart(gateway, agent={"max_turns": 7})

    after = gateway.status()
    assert after["pid"] == before["pid"] == gateway.process.pid
    assert after["boot"] != before["boot"]
    assert after["http"] == before["http"]
    assert not set(gateway.pids()) & set(old)
    assert gateway.tell("told")["config"]["agent"]["max_turns"] == 7
    assert "started again" not in (gateway.home.logs / "supervisor.log").read_text()  # the fork server was handed over


def test_connections_that_come_while_nobody_serves_are_answered_by_the_next_life(gateway: GatewayProcess) -> None:
    old = set(gateway.pids())
    begin(gateway)

    waiting = [call(gateway) for _ in range(CONNECTIONS)]

    pids = {answer(connection)["pid"] for connection in waiting}
    assert len(pids) == 2
    assert not pids & old


@pytest.mark.parametrize(
    ("text", "error", "why"),
    [
        ("model: {provider: demo}\nagent: {max_turn: 7}", "configuration", "did you mean max_turns"),
        ("model: {provider: demo}\nsupervisor: {shards: 32}", "cannot_restart", "made with 8 shards"),
        ("model: {provider: demo}\napi_server: {host: no-such-host.invalid}", "cannot_restart", "is unknown"),
    ],
)
def test_a_start_that_would_fail_is_refused_and_everything_goes_on(
    steadfast: GatewayProcess, text: str, error: str, why: str
) -> None:
    before, workers = steadfast.status(), steadfast.pids()
    steadfast.rewrite(text=text)

    reply = steadfast.ask("drain", timeout=None, then="restart", asker=None)

    assert reply.error == error
    assert why in reply.why
    after = steadfast.status()
    assert (after["boot"], after["phase"]) == (before["boot"], "serving")
    assert steadfast.pids() == workers
    assert children(steadfast.process.pid)["forkserver"] == 1


def test_a_gateway_that_was_refused_a_restart_restarts_when_its_configuration_is_right(gateway: GatewayProcess) -> None:
    gateway.rewrite(text="agent: {max_turn: 7}")
    assert gateway.ask("drain", then="restart").error == "configuration"

    restart(gateway)


def test_nothing_stays_open_or_alive_over_restarts(gateway: GatewayProcess) -> None:
    pid = gateway.process.pid
    restart(gateway)
    files, family = open_for_long(pid), children(pid)
    assert family == {"forkserver": 1, "resource_tracker": 1, "reaper": 1}

    for _ in range(2):
        restart(gateway)

    eventually(lambda: open_files(pid) == files and children(pid) == family)


def test_what_the_workers_started_does_not_outlive_the_restart(gateway: GatewayProcess) -> None:
    child = gateway.tell("child")

    restart(gateway)

    wait_gone([child])


def test_the_next_life_is_as_well_guarded_as_the_first(gateway: GatewayProcess) -> None:
    restart(gateway)
    child = gateway.tell("child")
    marked = gateway.marked()
    assert child in marked

    gateway.process.kill()

    wait_gone(marked)


def test_fewer_workers_answer_on_the_sockets_of_more(prepare: Callable[..., GatewayProcess]) -> None:
    gateway = prepare(supervisor={"workers": 3}).start()
    begin(gateway, supervisor={"workers": 1, "heartbeat_seconds": 0.5})

    waiting = [call(gateway) for _ in range(CONNECTIONS)]

    assert {answer(connection)["slot"] for connection in waiting} == {0}
    later = [call(gateway) for _ in range(CONNECTIONS)]
    assert {tuple(answer(connection)["listens"]) for connection in later} == {(0, 1, 2)}


def test_more_workers_have_a_socket_each(gateway: GatewayProcess) -> None:
    restart(gateway, supervisor={"workers": 3, "heartbeat_seconds": 0.5})

    told = [answer(connection) for connection in [call(gateway) for _ in range(2 * CONNECTIONS)]]

    assert {(one["slot"], *one["listens"]) for one in told} == {(0, 0), (1, 1), (2, 2)}


def test_another_address_is_taken_and_the_old_one_given_up(gateway: GatewayProcess) -> None:
    old = gateway.port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        new = probe.getsockname()[1]

    restart(gateway, api_server={"port": new})

    assert gateway.port == new
    assert gateway.tell("who")["slot"] in (0, 1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", old), timeout=BOUND_S)


def test_an_address_that_is_taken_is_refused(steadfast: GatewayProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        steadfast.rewrite(text=f"model: {{provider: demo}}\napi_server: {{port: {taken.getsockname()[1]}}}")

        reply = steadfast.ask("drain", then="restart")

    assert reply.error == "cannot_restart"
    assert "in use" in reply.why


def test_a_reload_signal_ends_nothing_between_two_lives_and_reloads_in_the_second(gateway: GatewayProcess) -> None:
    before = gateway.status()["boot"]
    begin(gateway)

    def serves_anew() -> bool:
        gateway.process.send_signal(signal.SIGHUP)
        try:
            return bool(gateway.status()["boot"] != before)
        except OSError:  # nobody listens
            return False

    eventually(serves_anew)
    gateway.settled()

    gateway.rewrite(agent={"max_turns": 9})
    gateway.process.send_signal(signal.SIGHUP)

    eventually(lambda: gateway.tell("told")["config"]["agent"]["max_turns"] == 9)


@pytest.mark.parametrize("said", ["drained", "restarting in place", "worker ready"])
def test_a_stop_signal_is_obeyed_in_whichever_life_it_comes(gateway: GatewayProcess, said: str) -> None:
    log = gateway.home.logs / "supervisor.log"
    before = log.read_text().count(said)
    begin(gateway)
    marked = gateway.marked()
    eventually(lambda: log.read_text().count(said) > before)

    gateway.process.send_signal(signal.SIGTERM)

    code, _ = gateway.end()
    assert code == 0
    wait_gone(marked)
    assert gateway.marked() == []


def test_the_home_is_never_free_between_two_lives(
    gateway: GatewayProcess, prepare: Callable[..., GatewayProcess]
) -> None:
    begin(gateway)

    code, output = prepare().launch().end()

    assert code == 1
    assert "HomeBusy" in output
    gateway.await_ready()


def test_an_administrator_restarts_in_a_message(gateway: GatewayProcess) -> None:
    before = gateway.status()["boot"]
    gateway.rewrite()

    gateway.tell("restart", "api:default:a")
    gateway.await_ready()

    assert gateway.status()["boot"] != before


def test_what_was_made_ready_is_dropped_when_the_drain_is_cancelled(gateway: GatewayProcess) -> None:
    gateway.tell_slot(0, "run", "api:default:a", "turn_1")
    gateway.rewrite(agent={"restart_drain_timeout": 60.0})
    with gateway.connect() as asking:
        send(asking, "drain", timeout=60.0, then="restart", asker=None)
        eventually(lambda: gateway.status()["phase"] == "draining")
        assert children(gateway.process.pid)["forkserver"] == 2

        assert gateway.ask("drain.cancel").error is None

        assert receive(asking).error == "cancelled"
    eventually(lambda: children(gateway.process.pid)["forkserver"] == 1)
    assert gateway.status()["phase"] == "serving"


def test_a_stop_that_joins_a_restart_stops(gateway: GatewayProcess) -> None:
    gateway.tell_slot(0, "run", "api:default:a", "turn_1")
    gateway.rewrite()
    with gateway.connect() as asking:
        send(asking, "drain", timeout=60.0, then="restart", asker=None)
        eventually(lambda: gateway.status()["phase"] == "draining")

        gateway.process.send_signal(signal.SIGTERM)

        assert gateway.end()[0] == 0
    assert gateway.marked() == []


def test_restarts_that_are_asked_for_at_once_are_one_and_all_are_answered(gateway: GatewayProcess) -> None:
    before = gateway.status()["boot"]
    gateway.rewrite()
    with gateway.connect() as first, gateway.connect() as second, gateway.connect() as third:
        send(first, "drain", then="restart")
        send(second, "drain", then="restart")
        eventually(lambda: gateway.status()["preparing"])
        assert children(gateway.process.pid)["forkserver"] <= 2
        send(third, "drain", timeout=None, then="restart", asker=None)

        replies = [receive(one) for one in (first, second, third)]

    assert [(reply.error, reply.data["then"]) for reply in replies] == [(None, "restart")] * 3
    gateway.await_ready()
    assert gateway.status()["boot"] != before
    assert (gateway.home.logs / "supervisor.log").read_text().count("preparing a restart") == 1


@pytest.mark.parametrize(
    ("operation", "arguments", "told", "phase"),
    [
        ("drain.cancel", {}, "cancelled", "serving"),
        ("drain", {"then": "hold", "timeout": 0}, "overruled", "held"),
    ],
)
def test_a_restart_that_is_being_prepared_gives_way(
    gateway: GatewayProcess, operation: str, arguments: dict[str, Any], told: str, phase: str
) -> None:
    before, own = gateway.status()["boot"], children(gateway.process.pid)
    gateway.rewrite()
    with gateway.connect() as asking:
        send(asking, "drain", then="restart")
        eventually(lambda: gateway.ask("drain.status").data["preparing"])

        assert gateway.ask(operation, **arguments).error is None

        assert receive(asking).error == told
    eventually(lambda: children(gateway.process.pid) == own)
    assert not gateway.status()["preparing"]
    assert (gateway.status()["phase"], gateway.status()["boot"]) == (phase, before)
