"""The blocking client of the control socket: what ``hermes-ctl`` speaks through. Every wait has a deadline.

No asyncio here: a command asks one question, and importing an event loop costs more than asking it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from hermes_actors.home import Home
from hermes_actors.operations.operation import Operation
from hermes_actors.operations.plain import Misfit, from_plain, to_plain
from hermes_actors.operations.requests import ShowStatus
from hermes_actors.operations.results import Phase, Status
from hermes_actors.operators.messages import OperatorRequest, OperatorResponse
from hermes_actors.wire.codec import ProtocolError, decode
from hermes_actors.wire.frames import HEADER_BYTES, body_bytes, framed
from hermes_actors.wire.peer import peer_of

ANSWER_S = 5.0  # a supervisor that is well answers within milliseconds
LOCK_POLL_S = 0.05  # between two looks at the lock of a supervisor that is ending
VACANT_S = 15.0  # without anybody in the home, after which no next supervisor is expected: service managers are faster


R = TypeVar("R")


class NotRunning(Exception):
    """No supervisor holds this home."""


class NoAnswer(Exception):
    """A supervisor holds this home, but does not answer: it starts, ends or hangs."""


class OperationFailed(Exception):
    """The request was not done. ``code``: the response's ``error``, ``forbidden``, ``unreachable`` or ``protocol``."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


class Control:
    """A connection to a running supervisor; made by :func:`connect`."""

    def __init__(self, home: Home, connection: socket.socket) -> None:
        self._connection = connection
        self._who = f"the supervisor of {home.root} (pid {peer_of(connection).pid})"
        self._asked = 0

    def ask(self, operation: Operation[R]) -> R:
        """One request, and its result.

        Raises:
            NoAnswer: silence for :data:`ANSWER_S`, or the connection ended instead.
            OperationFailed: the supervisor refused, or did not speak our protocol.
        """
        self.begin(operation)
        return self.result(operation)

    def begin(self, operation: Operation[R]) -> None:
        """Send a request whose response may take long: see :meth:`responded`, then :meth:`result`.

        Raises:
            NoAnswer: the connection ended, or takes nothing for :data:`ANSWER_S`.
        """
        self._asked += 1
        frame = framed(OperatorRequest(request=self._asked, operation=operation.name, arguments=to_plain(operation)))
        with self._bounded():
            self._connection.settimeout(ANSWER_S)
            self._connection.sendall(b"".join(frame))

    def responded(self, within_s: float) -> bool:
        """Whether the response came within the time, or the end of the connection."""
        return bool(select.select([self._connection], [], [], within_s)[0])

    def result(self, operation: Operation[R]) -> R:
        """The result of the last request, which was for this operation.

        Raises:
            NoAnswer: silence for :data:`ANSWER_S`, or the connection ended instead.
            OperationFailed: the supervisor refused, or did not speak our protocol.
        """
        try:
            with self._bounded():
                response = self._response(time.monotonic() + ANSWER_S)
            if response.error is not None:
                raise OperationFailed(response.error, response.why)
            result: R = from_plain(operation.result, response.data, operation.name)
        except (ProtocolError, Misfit) as error:
            raise OperationFailed("protocol", f"{self._who} is not of this release: {error}") from error
        return result

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise NoAnswer(f"{self._who} gave no answer within {ANSWER_S:g} s") from error
        except OSError as error:  # reset, or broken pipe
            raise NoAnswer(f"{self._who} ended the connection without an answer") from error

    def wait_closed(self, timeout_s: float) -> bool:
        """Whether the supervisor ended the connection within the time."""
        deadline = time.monotonic() + timeout_s
        try:
            while self._receive(1, deadline):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True

    def _response(self, deadline: float) -> OperatorResponse:
        length = body_bytes(self._exactly(HEADER_BYTES, deadline))
        response = decode(self._exactly(length, deadline))
        if not isinstance(response, OperatorResponse) or response.request != self._asked:
            raise ProtocolError(f"unexpected {type(response).__name__}")
        return response

    def _exactly(self, wanted: int, deadline: float) -> bytes:
        received = bytearray()
        while len(received) < wanted:
            piece = self._receive(wanted - len(received), deadline)
            if not piece:
                raise ConnectionResetError("ended by the other end")
            received += piece
        return bytes(received)

    def _receive(self, most: int, deadline: float) -> bytes:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._connection.settimeout(left_s)
        return self._connection.recv(most)


@contextmanager
def connect(home: Home) -> Iterator[Control]:
    """A connection to the supervisor of a home.

    Raises:
        NotRunning: there is none.
        NoAnswer: there is one, without a control socket that listens.
        OperationFailed: the socket is another user's, or cannot be reached.
    """
    held = f"a supervisor holds {home.root}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_S)
        try:
            connection.connect(os.fspath(home.control))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
            if lock_held(home):
                raise NoAnswer(f"{held}, but does not listen: it starts, ends or hangs") from error
            raise NotRunning(f"no supervisor runs on {home.root}") from error
        except (TimeoutError, BlockingIOError) as error:  # the queue of its socket is full
            raise NoAnswer(f"{held}, but accepts no connection") from error
        except PermissionError as error:
            why = f"{home.control} belongs to another user; run this as its owner"
            raise OperationFailed("forbidden", why) from error
        except OSError as error:  # a path longer than a socket's may be, a loop of links
            raise OperationFailed("unreachable", f"{home.control}: {error.strerror or error}") from error
        yield Control(home, connection)


def ask(home: Home, operation: Operation[R]) -> R:
    """One request on a connection of its own; see :func:`connect` and :meth:`Control.ask`."""
    with connect(home) as control:
        return control.ask(operation)


def wait_free(home: Home, timeout_s: float) -> bool:
    """Wait until no process holds the home's lock; False where that takes longer."""
    deadline = time.monotonic() + timeout_s
    while lock_held(home):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOCK_POLL_S)
    return True


def wait_successor(home: Home, boot: str, timeout_s: float) -> Status | None:
    """The status of the supervisor that serves after that of ``boot``.

    Returns:
        None where none does within the time, or where no process held the home for :data:`VACANT_S`.
    """
    deadline = time.monotonic() + timeout_s
    vacant_until = time.monotonic() + VACANT_S
    while time.monotonic() < min(deadline, vacant_until):
        status: Status | None = None
        try:
            with contextlib.suppress(NoAnswer):  # it is between two lives
                status = ask(home, ShowStatus())
            vacant_until = time.monotonic() + VACANT_S
        except NotRunning:
            pass
        if status is not None and status.boot != boot and status.phase is not Phase.STARTING:
            return status
        time.sleep(LOCK_POLL_S)
    return None


def lock_held(home: Home) -> bool:
    """Whether a process holds the home's lock. Looking takes it, shared, for some microseconds."""
    try:
        lock = os.open(home.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
