"""A fake supervisor on a real control socket."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Any

from fakes.operations import filled_result

from hermes_actors.home import Home
from hermes_actors.operators.messages import OperatorRequest, OperatorResponse
from hermes_actors.wire.codec import decode, encode

BOUND_S = 30.0
HEADER = struct.Struct(">I")

Behaviour = Callable[[socket.socket, OperatorRequest], None]


class FakeSupervisor:
    """Answers each connection's requests with ``behave`` until it closes the connection."""

    def __init__(self, home: Home, behave: Behaviour) -> None:
        self.requests: list[OperatorRequest] = []
        self._behave = behave
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(home.control))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._serve)]  # the first one accepts, each other has a connection
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(BOUND_S)
            assert not thread.is_alive()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._converse, args=(connection,)))
            self._threads[-1].start()

    def _converse(self, connection: socket.socket) -> None:
        connection.settimeout(BOUND_S)
        # The client may go away at any moment.
        with contextlib.suppress(ConnectionError), connection, connection.makefile("rb") as stream:
            while head := stream.read(HEADER.size):
                request = decode(stream.read(HEADER.unpack(head)[0]))
                self.requests.append(request)
                self._behave(connection, request)


def answer(
    connection: socket.socket,
    request: OperatorRequest,
    data: Mapping[str, Any],
    error: str | None = None,
    why: str = "",
) -> None:
    """Send the response to a request; what ``data`` does not say of the result is empty."""
    result = {} if error else filled_result(request.operation, data)
    body = encode(OperatorResponse(request=request.request, error=error, why=why, data=result))
    connection.sendall(HEADER.pack(len(body)) + body)


def answering(replies: Mapping[str, Mapping[str, Any]]) -> Behaviour:
    """A supervisor that says the same to the same operation."""
    return lambda connection, request: answer(connection, request, replies[request.operation])
