"""The blocking control client against a peer that answers, is silent, speaks garbage, or goes away."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable

import pytest
from fakes.asking import ask
from fakes.control_peer import BOUND_S, HEADER, Behaviour, FakeSupervisor, answer, answering

from hermes_actors.home import Home
from hermes_actors.operations.requests import BeginDrain, CancelDrain, ShowStatus
from hermes_actors.operations.results import DONE, Status, Then
from hermes_actors.operators import client
from hermes_actors.operators.client import NoAnswer, NotRunning, OperationFailed
from hermes_actors.operators.messages import OperatorRequest, OperatorResponse
from hermes_actors.wire.codec import encode

Start = Callable[[Behaviour], FakeSupervisor]
Hold = Callable[[], Callable[[], None]]

NEXT = {"boot": "b2", "phase": "serving"}


def served(status: Status | None) -> dict[str, str]:
    assert status is not None
    return {"boot": status.boot, "phase": status.phase}


def test_the_data_of_a_reply_is_returned_as_it_is(home: Home, supervisor: Start) -> None:
    fake = supervisor(answering({"sessions.list": {"sessions": [], "next": "c"}}))

    assert ask(home, "sessions.list", limit=3, after=None) == {"sessions": [], "next": "c"}
    assert fake.requests[0].arguments == {"limit": 3}


def test_a_result_with_a_field_of_another_type_is_another_release(home: Home, supervisor: Start) -> None:
    supervisor(answering({"sessions.list": {"sessions": [{"strikes": "three"}], "next": None}}))

    with pytest.raises(
        OperationFailed, match=r"sessions\.list\.sessions\[0\]\.strikes must be a whole number"
    ) as caught:
        ask(home, "sessions.list")
    assert caught.value.code == "protocol"


def test_a_connection_carries_several_requests(home: Home, supervisor: Start) -> None:
    supervisor(answering({"status": {"pid": 1}, "drain.cancel": {}}))

    with client.connect(home) as control:
        assert control.ask(ShowStatus()).pid == 1
        assert control.ask(CancelDrain()) == DONE


def test_a_refusal_carries_the_code_and_words_of_the_supervisor(home: Home, supervisor: Start) -> None:
    supervisor(lambda connection, request: answer(connection, request, {}, "ambiguous", "cli may mean a:cli, b:cli"))

    with pytest.raises(OperationFailed, match="cli may mean a:cli, b:cli") as caught:
        ask(home, "sessions.show", session="cli")
    assert caught.value.code == "ambiguous"


def test_a_home_without_socket_has_no_supervisor(home: Home) -> None:
    with pytest.raises(NotRunning, match=str(home.root)):
        ask(home, "status")


def test_a_home_that_is_not_there_has_no_supervisor(home: Home) -> None:
    with pytest.raises(NotRunning):
        ask(Home(home.root / "nowhere"), "status")


def test_a_socket_that_a_dead_supervisor_left_is_no_supervisor(home: Home) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home.control))

    with pytest.raises(NotRunning):
        ask(home, "status")


def test_a_path_that_no_socket_can_have_is_told(home: Home) -> None:
    with pytest.raises(OperationFailed, match="path too long") as caught:
        ask(Home(home.root / ("x" * 120)), "status")
    assert caught.value.code == "unreachable"


def test_a_held_lock_without_a_listener_is_told_apart_from_not_running(home: Home, hold_lock: Hold) -> None:
    hold_lock()

    with pytest.raises(NoAnswer, match=r"holds .* but does not listen"):
        ask(home, "status")


def test_silence_is_bounded_and_names_the_process(
    home: Home, supervisor: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_S", 0.05)
    supervisor(lambda connection, request: None)

    with pytest.raises(NoAnswer, match=rf"pid {os.getpid()}\) gave no answer within 0.05 s"):
        ask(home, "status")


def test_a_reply_that_trickles_in_does_not_stretch_the_bound(
    home: Home, supervisor: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_S", 0.2)
    gone = threading.Event()

    def trickle(connection: socket.socket, request: OperatorRequest) -> None:
        connection.sendall(HEADER.pack(1_000_000))
        while not gone.wait(0.01):
            connection.sendall(b"x")

    supervisor(trickle)
    try:
        with pytest.raises(NoAnswer, match="no answer within"):
            ask(home, "status")
    finally:
        gone.set()


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(HEADER.pack(0xFFFFFFFF), id="a frame larger than frames may be"),
        pytest.param(HEADER.pack(3) + b"\xc1\xc1\xc1", id="no msgpack"),
        pytest.param(HEADER.pack(8) + b"\xa7unknown"[:8], id="no message"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b" " * 64, id="another protocol"),
    ],
)
def test_garbage_is_another_release_and_never_an_exception_of_ours(
    home: Home, supervisor: Start, garbage: bytes
) -> None:
    supervisor(lambda connection, request: connection.sendall(garbage))

    with pytest.raises(OperationFailed, match="is not of this release") as caught:
        ask(home, "status")
    assert caught.value.code == "protocol"


@pytest.mark.parametrize(
    "other",
    [
        OperatorRequest(request=1, operation="x", arguments={}),
        OperatorResponse(request=99, error=None, why="", data={}),
    ],
)
def test_what_is_no_reply_to_our_request_is_not_taken_for_one(home: Home, supervisor: Start, other: object) -> None:
    body = encode(other)
    supervisor(lambda connection, request: connection.sendall(HEADER.pack(len(body)) + body))

    with pytest.raises(OperationFailed, match=f"unexpected {type(other).__name__}"):
        ask(home, "status")


@pytest.mark.parametrize("sent", [b"", HEADER.pack(100) + b"half"])
def test_an_end_of_the_connection_instead_of_an_answer_is_no_answer(home: Home, supervisor: Start, sent: bytes) -> None:
    def hang_up(connection: socket.socket, request: OperatorRequest) -> None:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_RDWR)

    supervisor(hang_up)

    with pytest.raises(NoAnswer, match="ended the connection without an answer"):
        ask(home, "status")


def test_the_end_of_a_connection_may_take_longer_than_an_answer(
    home: Home, supervisor: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_S", 0.1)

    def end_later(connection: socket.socket, request: OperatorRequest) -> None:
        answer(connection, request, {})
        threading.Timer(0.3, connection.shutdown, [socket.SHUT_RDWR]).start()

    supervisor(end_later)

    with client.connect(home) as control:
        control.ask(BeginDrain())
        assert not control.wait_closed(0.05)
        assert control.wait_closed(BOUND_S)


def test_an_answer_may_be_waited_for_longer_than_one_usually_takes(
    home: Home, supervisor: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_S", 0.1)
    released = threading.Event()

    def answer_late(connection: socket.socket, request: OperatorRequest) -> None:
        assert released.wait(BOUND_S)
        answer(connection, request, {"then": "stop"})

    supervisor(answer_late)

    with client.connect(home) as control:
        control.begin(BeginDrain())
        assert not control.responded(0.2)
        released.set()
        assert control.responded(BOUND_S)
        assert control.result(BeginDrain()).then is Then.STOP


def test_a_home_is_free_once_its_lock_is(home: Home, hold_lock: Hold) -> None:
    free = hold_lock()

    assert not client.wait_free(home, 0.05)
    threading.Timer(0.1, free).start()
    assert client.wait_free(home, BOUND_S)


def test_a_successor_is_whoever_serves_under_another_boot_id(home: Home, supervisor: Start) -> None:
    said = [
        {"boot": "b1", "phase": "stopping"},
        {"boot": "b2", "phase": "starting"},
        {"boot": "b2", "phase": "serving"},
    ]
    fake = supervisor(lambda connection, request: answer(connection, request, said[len(fake.requests) - 1]))

    assert served(client.wait_successor(home, "b1", BOUND_S)) == said[-1]


def test_a_successor_is_waited_for_while_somebody_holds_the_home(
    home: Home, hold_lock: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "VACANT_S", 0.2)
    hold_lock()
    fakes: list[FakeSupervisor] = []
    later = threading.Timer(0.5, lambda: fakes.append(FakeSupervisor(home, answering({"status": NEXT}))))
    later.start()
    try:
        assert served(client.wait_successor(home, "b1", BOUND_S)) == NEXT
    finally:
        later.join()
        fakes[0].close()


def test_nobody_comes_to_a_home_that_is_vacant(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "VACANT_S", 0.1)

    assert client.wait_successor(home, "b1", BOUND_S) is None


def test_looking_at_a_lock_leaves_it_free(home: Home, hold_lock: Hold) -> None:
    free = hold_lock()
    assert client.lock_held(home)
    free()

    assert not client.lock_held(home)
    assert not client.lock_held(home)
