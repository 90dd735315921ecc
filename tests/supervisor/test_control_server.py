"""Who may speak on the control socket, and how much."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fakes.gateway_process import exchange
from fakes.virtual_time import in_virtual_time

from hermes_actors.core.events import Event, OperatorAsked
from hermes_actors.operators import server as control
from hermes_actors.operators.messages import OperatorRequest, OperatorResponse
from hermes_actors.wire import frames
from hermes_actors.wire.codec import encode
from hermes_actors.wire.link import FrameLink

BOUND_S = 100.0  # for anything that a test waits for; more than an idle client gets


class Operator:
    """A client on the test's own loop."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.link = FrameLink(self.heard.put_nowait, self.heard.put_nowait)

    async def connect(self, path: Path) -> Operator:
        await asyncio.get_running_loop().create_unix_connection(lambda: self.link, str(path))
        return self

    async def next(self) -> Any:
        async with asyncio.timeout(BOUND_S):
            return await self.heard.get()

    def ask(self, request: int, operation: str = "status") -> None:
        self.link.send(OperatorRequest(request=request, operation=operation, arguments={}))


class Server:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.control = control.ControlServer(path, self.events.put_nowait)

    async def next(self) -> OperatorAsked:
        async with asyncio.timeout(BOUND_S):
            event = await self.events.get()
        assert isinstance(event, OperatorAsked)
        return event

    async def operator(self) -> Operator:
        return await Operator().connect(self.path)


@pytest.fixture
async def server(home_root: Path) -> AsyncIterator[Server]:
    made = Server(home_root / "s")
    await made.control.open()
    yield made
    await made.control.close()


async def test_a_request_becomes_an_event_and_its_reply_finds_the_client(server: Server) -> None:
    first, second = await server.operator(), await server.operator()
    second.ask(8)
    first.ask(7)
    for event in (await server.next(), await server.next()):
        client, request = event.reply_to
        server.control.respond(client, OperatorResponse(request=request, error=None, why="", data={}))

    assert (await first.next()).request == 7
    assert (await second.next()).request == 8


async def test_a_reply_to_a_client_that_left_is_dropped(server: Server) -> None:
    operator = await server.operator()
    operator.ask(1)
    event = await server.next()
    operator.link.close()
    await operator.next()

    server.control.respond(event.reply_to.client, OperatorResponse(request=1, error=None, why="", data={}))


async def test_a_reply_that_no_frame_holds_becomes_an_error_and_the_client_stays(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 1000)
    operator = await server.operator()
    for data in ({"connections": "x" * 1000}, {}):
        operator.ask(1)
        event = await server.next()
        server.control.respond(event.reply_to.client, OperatorResponse(request=1, error=None, why="", data=data))

    assert (await operator.next()).error == "too_large"
    assert (await operator.next()).error is None


async def test_one_client_may_only_have_so_many_requests_waiting(server: Server) -> None:
    operator = await server.operator()
    for request in range(control.MOST_WAITING + 1):
        operator.ask(request)

    refused = await operator.next()

    assert (refused.request, refused.error) == (control.MOST_WAITING, "busy")


@in_virtual_time
async def test_an_idle_client_is_let_go_but_not_one_that_waits_for_the_end(
    server: Server,
) -> None:
    idle, draining = await server.operator(), await server.operator()
    draining.ask(1, "drain")
    event = await server.next()

    assert await idle.next() == "closed by the other end"

    again = await server.operator()
    assert await again.next() == "closed by the other end"
    assert draining.heard.empty()
    server.control.respond(event.reply_to.client, OperatorResponse(request=1, error="cancelled", why="", data={}))
    assert (await draining.next()).error == "cancelled"
    assert await draining.next() == "closed by the other end", "it waits for nothing any more"


def test_the_last_reply_reaches_its_client_though_the_loop_ends(home_root: Path) -> None:
    data = {"cut": ["k" * 1000] * 5000}  # more than a socket takes at once

    def ask() -> OperatorResponse:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as operator:
            operator.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(BOUND_S), 0))
            operator.connect(str(home_root / "s"))
            return exchange(operator, "drain")

    async def live() -> Future[OperatorResponse]:
        server = Server(home_root / "s")
        await server.control.open()
        asked = operators.submit(ask)
        event = await server.next()
        server.control.respond(event.reply_to.client, OperatorResponse(request=1, error=None, why="", data=data))
        await server.control.close()
        return asked

    with ThreadPoolExecutor(max_workers=1) as operators:
        assert asyncio.run(live()).result(BOUND_S).data == data


@in_virtual_time
async def test_a_client_that_does_not_read_does_not_hold_up_the_end(
    server: Server,
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
        deaf.setblocking(False)
        await asyncio.get_running_loop().sock_connect(deaf, str(server.path))
        body = encode(OperatorRequest(request=1, operation="drain", arguments={}))
        await asyncio.get_running_loop().sock_sendall(deaf, struct.pack(">I", len(body)) + body)
        event = await server.next()
        server.control.respond(
            event.reply_to.client, OperatorResponse(request=1, error=None, why="", data={"cut": ["k"] * 10**6})
        )

        async with asyncio.timeout(BOUND_S):
            await server.control.close()


@pytest.mark.parametrize("message", [OperatorResponse(request=1, error=None, why="", data={})])
async def test_a_client_that_says_what_no_client_says_is_let_go(server: Server, message: Any) -> None:
    operator = await server.operator()

    operator.link.send(message)

    assert isinstance(await operator.next(), str)
    assert server.events.empty()


class Transport(asyncio.Transport):
    """Of a peer with any user id."""

    def __init__(self, uid: int) -> None:
        super().__init__({"socket": self})
        self.uid = uid
        self.closed = False

    def getsockopt(self, *_: object) -> bytes:
        return struct.pack("3i", 1, self.uid, 1)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("uid", "allowed"), [(os.geteuid(), True), (0, True), (os.geteuid() + 12345, False)])
async def test_only_the_owner_and_root_may_connect(tmp_path: Path, uid: int, allowed: bool) -> None:
    server = control.ControlServer(tmp_path / "s", lambda _: None)
    client, transport = control._Client(server, 1), Transport(uid)

    client.connection_made(transport)

    assert transport.closed is not allowed
    client.connection_lost(None)


@pytest.mark.parametrize("left", ["a directory", "a file"])
async def test_whatever_stands_in_its_place_does_not_keep_it_from_opening(home_root: Path, left: str) -> None:
    server = Server(home_root / "control.sock")
    if left == "a directory":
        server.path.mkdir()
        (server.path / "kept").touch()
    else:
        server.path.write_text("stale")

    await server.control.open()

    assert server.path.is_socket()
    assert len(list(home_root.glob("*/kept"))) == (left == "a directory")
    await server.control.close()
