"""A gateway with fake workers in a process of its own, and what a test does to it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self, TypeVar

from hermes_actors.home import Home
from hermes_actors.operators.messages import OperatorRequest, OperatorResponse
from hermes_actors.pool import reaper
from hermes_actors.wire.codec import decode, encode
from hermes_actors.wire.ownership import OWNER_VARIABLE, home_mark
from hermes_actors.wire.sharding import shard_of

T = TypeVar("T")

BOUND_S = 20.0  # for anything that a test waits for
LOOK_S = 0.02  # between two looks at what tells nobody when it changes


def eventually(look: Callable[[], T]) -> T:
    """The first true thing that ``look`` returns."""
    deadline = time.monotonic() + BOUND_S
    while not (seen := look()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(LOOK_S)
    return seen


def wait_gone(pids: Iterable[int], bound_s: float = BOUND_S) -> None:
    """Return when none of the processes lives; zombies do not."""
    deadline = time.monotonic() + bound_s
    for pid in pids:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            readable, _, _ = select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"process {pid} still lives"
        finally:
            os.close(pidfd)


def cmdline(pid: int) -> str:
    """What a process was started with; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


class GatewayProcess:
    """Started with :meth:`start`; used as a context it leaves nothing behind.

    ``sections`` are those of the configuration; two workers with a quick heartbeat unless they say otherwise.
    """

    def __init__(self, root: Path, **sections: dict[str, Any]) -> None:
        self.home = Home(root)
        supervisor = {"workers": 2, "heartbeat_seconds": 0.5, **sections.pop("supervisor", {})}
        self.config = {
            "model": {"provider": "demo"},
            "api_server": {"port": 0},
            "agent": {"restart_drain_timeout": 1.0},
            "supervisor": supervisor,
            **sections,
        }
        self.port = 0
        self.process: subprocess.Popen[str]
        root.mkdir(mode=0o700, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "process"):
            self.process.kill()
            for pid in self.marked():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.communicate(timeout=BOUND_S)

    def launch(self) -> GatewayProcess:
        """Start it and do not wait."""
        program = Path(__file__).with_name("gateway_program.py")
        self.process = subprocess.Popen(
            [sys.executable, str(program), str(self.home.root), json.dumps(self.config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self

    def start(self) -> GatewayProcess:
        """Start it and wait until it serves."""
        self.launch()
        self.await_ready()
        return self

    def await_ready(self) -> None:
        """Read what it writes until it says that it serves, for the first time or after a restart in place."""
        assert self.process.stdout is not None
        while not (line := self.process.stdout.readline()).startswith("{"):  # logs go there too
            assert line, self.end()[1]
        self.port = json.loads(line)["port"]

    def end(self) -> tuple[int, str]:
        """Wait for its end; exit code, and all that it wrote."""
        out, err = self.process.communicate(timeout=BOUND_S)
        return self.process.returncode, out + err

    def marked(self) -> list[int]:
        """The live processes that say they belong to this home."""
        return list(reaper.marked([f"\0{OWNER_VARIABLE}={home_mark(self.home.root)}:".encode()]))

    def rewrite(self, text: str | None = None, **sections: dict[str, Any]) -> None:
        """The configuration as the next reload finds it: with other sections, or this text."""
        self.config |= sections
        self.home.config.write_text(json.dumps(self.config) if text is None else text)

    # -- its workers -------------------------------------------------------------------------------------------------
    def tell(self, *words: object) -> Any:
        """Tell whichever worker takes the connection; its answer, or None when it ended instead."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=BOUND_S) as connection:
            connection.sendall(" ".join(map(str, words)).encode() + b"\n")
            with connection.makefile() as answer:
                line = answer.read()
        return json.loads(line) if line else None

    def tell_slot(self, slot: int, *words: object) -> Any:
        """Tell the worker of a slot: ask as often as it takes until the kernel chooses it."""
        return eventually(lambda: self.tell("if", slot, *words))[0]

    # -- its operators -----------------------------------------------------------------------------------------------
    def connect(self) -> socket.socket:
        control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        control.settimeout(BOUND_S)
        try:
            control.connect(str(self.home.control))
        except OSError:
            control.close()
            raise
        return control

    def ask(self, operation: str, **arguments: Any) -> OperatorResponse:
        """One request over the control socket."""
        with self.connect() as control:
            return exchange(control, operation, **arguments)

    def status(self) -> Any:
        return self.ask("status").data

    def workers(self) -> Any:
        return self.status()["workers"]

    def pids(self) -> list[int]:
        """Of the workers that are ready, by slot."""
        return [worker["pid"] for worker in self.workers() if worker["state"] == "ready"]

    def settled(self, states: str = "ready ready") -> Any:
        """The workers, once they are in these states."""

        def look() -> Any:
            workers = self.workers()
            return workers if [worker["state"] for worker in workers] == states.split() else None

        return eventually(look)


def owned_by(slot: int, prefix: str = "api:default:s") -> str:
    """A session key whose shard the slot of a gateway of two workers and eight shards has."""
    return next(key for n in range(100) if shard_of(key := f"{prefix}{n}", 8) // 4 == slot)


def exchange(control: socket.socket, operation: str, request: int = 1, **arguments: Any) -> OperatorResponse:
    """Send a request and read frames until its reply."""
    send(control, operation, request, **arguments)
    reply = receive(control)
    assert isinstance(reply, OperatorResponse)
    return reply


def send(control: socket.socket, operation: str, request: int = 1, **arguments: Any) -> None:
    """Send a request and do not wait."""
    body = encode(OperatorRequest(request=request, operation=operation, arguments=arguments))
    control.sendall(struct.pack(">I", len(body)) + body)


def receive(control: socket.socket) -> Any:
    """One message; None at the end."""
    header = control.recv(4, socket.MSG_WAITALL)
    if len(header) < 4:
        return None
    (length,) = struct.unpack(">I", header)
    return decode(control.recv(length, socket.MSG_WAITALL))
