"""The registry as workers and operators see it through the supervisor."""

from __future__ import annotations

import socket
from collections.abc import Callable

from fakes.gateway_process import GatewayProcess, eventually, exchange, owned_by, receive

from hermes_actors.operators.server import MOST_CLIENTS
from hermes_actors.wire.sharding import shard_of

Prepare = Callable[..., GatewayProcess]


def test_a_session_keeps_its_id_over_activations_workers_and_restarts(prepare: Prepare) -> None:
    gateway, key = prepare().start(), owned_by(0)
    made = gateway.tell_slot(0, "activate", key)
    assert made["is"] == "Activated"
    assert made["session_id"].startswith("ses_")
    assert gateway.tell_slot(0, "activate", key)["session_id"] == made["session_id"]
    gateway.process.kill()

    again = prepare().start().tell_slot(0, "look", key)

    assert (again["session_id"], again["created_at"]) == (made["session_id"], made["created_at"])


def test_a_look_makes_no_session(gateway: GatewayProcess) -> None:
    answer = gateway.tell_slot(0, "look", owned_by(0))

    assert (answer["is"], answer["code"]) == ("Refused", "not_found")
    assert gateway.status()["sessions"] == 0


def test_a_worker_with_an_older_fence_is_refused(gateway: GatewayProcess) -> None:
    key = owned_by(0)
    _, fence = gateway.tell_slot(0, "who")["owners"][str(shard_of(key, 8))]

    answer = gateway.tell_slot(0, "activate", key, fence - 1)

    assert (answer["is"], answer["code"]) == ("Refused", "stale_fence")


def test_a_forgotten_session_is_made_anew(gateway: GatewayProcess) -> None:
    key = owned_by(1)
    first = gateway.tell_slot(1, "activate", key)["session_id"]

    assert gateway.tell_slot(1, "forget", key)["is"] == "Recorded"
    assert gateway.tell_slot(1, "forget", key)["is"] == "Recorded", "and again where nothing is left"
    assert gateway.tell_slot(1, "activate", key)["session_id"] != first


def test_pages_of_a_principal_begin_with_the_newest_activity(gateway: GatewayProcess) -> None:
    keys = [owned_by(0, f"api:alice:{n}-") for n in range(3)]
    for key in [*keys, owned_by(0, "api:bob:")]:
        gateway.tell_slot(0, "activate", key)
    gateway.tell_slot(0, "touch", keys[0], 4e9)

    def newest() -> list[str]:
        return [session["key"] for session in gateway.tell_slot(0, "page", "alice", 2)["sessions"]]

    assert eventually(lambda: (page := newest())[0] == keys[0] and page) == [keys[0], keys[2]]
    page = gateway.tell("page", "alice", 2)
    rest = gateway.tell("page", "alice", 2, page["next"])
    assert ([session["key"] for session in rest["sessions"]], rest["next"]) == ([keys[1]], None)


def test_a_cursor_that_is_none_is_refused(gateway: GatewayProcess) -> None:
    answer = gateway.tell("page", "alice", 2, "nonsense")

    assert (answer["is"], answer["code"]) == ("Refused", "bad_request")
    assert gateway.ask("sessions.list", after="nonsense").error == "bad_request"


def test_operators_list_and_show_sessions_by_a_unique_last_part(gateway: GatewayProcess) -> None:
    zero, one = owned_by(0), owned_by(1, "api:other:t")
    gateway.tell_slot(0, "activate", zero)
    session_id = gateway.tell_slot(1, "activate", one)["session_id"]

    listed = gateway.ask("sessions.list", limit=1)
    assert [session["key"] for session in listed.data["sessions"]] == [one]
    rest = gateway.ask("sessions.list", limit=1, after=listed.data["next"])
    assert [session["worker"] for session in rest.data["sessions"]] == [0]
    shown = gateway.ask("sessions.show", session=one.removeprefix("api:")).data
    assert (shown["key"], shown["session_id"], shown["worker"]) == (one, session_id, 1)
    assert (shown["state"], shown["actor"]["restarts"]) == ("on worker 1", 0)
    assert gateway.ask("sessions.show", session="nobody").error == "not_found"


def test_a_name_of_several_sessions_is_ambiguous_unless_it_is_one_of_them_exactly(gateway: GatewayProcess) -> None:
    inner = owned_by(0, "api:a:x")
    outer = next(key for n in range(100) if shard_of(key := f"api:{n}:{inner}", 8) // 4 == 0)
    for key in (inner, outer):
        gateway.tell_slot(0, "activate", key)

    assert gateway.ask("sessions.show", session=inner).data["key"] == inner
    ambiguous = gateway.ask("sessions.show", session=inner.removeprefix("api:"))
    assert ambiguous.error == "ambiguous"
    assert inner in ambiguous.why
    assert outer in ambiguous.why


def test_a_worker_that_does_not_answer_does_not_keep_an_operator_waiting_for_ever(gateway: GatewayProcess) -> None:
    key = next(key for n in range(100) if shard_of(key := f"api:{n}:silent", 8) // 4 == 0)
    gateway.tell_slot(0, "activate", key)

    shown = gateway.ask("sessions.show", session=key)

    assert shown.error is None
    assert "slot" not in shown.data["actor"]


def test_the_control_socket_is_private(gateway: GatewayProcess) -> None:
    assert gateway.home.control.stat().st_mode & 0o777 == 0o600


def test_a_client_that_speaks_no_frames_is_let_go_and_others_are_served(gateway: GatewayProcess) -> None:
    with gateway.connect() as rude:
        rude.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert receive(rude) is None

    with gateway.connect() as control:
        assert exchange(control, "reboot", 1).error == "bad_request"
        assert exchange(control, "status", 2).request == 2


def test_there_is_room_for_so_many_clients_and_no_more(gateway: GatewayProcess) -> None:
    clients: list[socket.socket] = []
    try:
        for _ in range(MOST_CLIENTS):
            clients.append(gateway.connect())
            exchange(clients[-1], "status")
        with gateway.connect() as late:
            assert receive(late).error == "busy"
            assert receive(late) is None
    finally:
        for client in clients:
            client.close()
    eventually(lambda: gateway.ask("status").error is None)
