from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from itertools import chain

import pytest
from fakes.mcp_counting import BOUND_S
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCMessage, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from workers.tools.pipes import MAX_QUEUED, opened


@pytest.mark.parametrize(
    "message",
    [
        JSONRPCNotification(jsonrpc="2.0", method="notifications/cancelled", params={"requestId": 1}),
        JSONRPCResponse(jsonrpc="2.0", id=1, result={}),
    ],
)
async def test_nothing_but_a_call_waits_for_a_server_that_does_not_read(message: JSONRPCMessage) -> None:
    (stdin, theirs), (stdout, theirs_out) = pairs = socket.socketpair(), socket.socketpair()
    async with AsyncExitStack() as stack:
        for each in chain(*pairs):
            stack.enter_context(each).setblocking(False)
        pipes = await stack.enter_async_context(opened(stdin, stdout, on_heard=lambda: None, on_noise=lambda _: None))
        async with asyncio.timeout(BOUND_S):
            for number in range(MAX_QUEUED):
                request = JSONRPCRequest(jsonrpc="2.0", id=number, method="tools/call", params={"name": "echo"})
                await pipes.write_stream.send(SessionMessage(request))

            for _ in range(2):
                await pipes.write_stream.send(SessionMessage(message))

            theirs_out.close()
            pipes.close()
            await pipes.write()
            await pipes.read()  # which nobody hears any more
            sent = b""
            while some := await asyncio.get_running_loop().sock_recv(theirs, 65_536):
                sent += some
    assert len(sent.splitlines()) == MAX_QUEUED
