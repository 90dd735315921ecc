"""Clients that are slow, hasty, or gone; listeners that come and go."""

from __future__ import annotations

import asyncio
import socket
import struct

import orjson
import pytest
from fakes.gateway import FakeGateway, completed
from fakes.served_ingress import BOUND_S, CHAT, HI, http_request, read_reply, read_to_end, serving
from fakes.virtual_time import in_virtual_time, step, time_passes
from structlog.testing import capture_logs

from workers.ingress.http.connection import ClientLimits
from workers.turns import Delta

RESETS = 20

REQUEST = http_request("POST", CHAT, orjson.dumps(HI))
STREAM = http_request("POST", CHAT, orjson.dumps({**HI, "stream": True}))


# -- slow ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Slow: "], ids=["silent", "slow head"]
)
async def test_a_client_that_does_not_get_its_head_across_is_hung_up_on(sent: bytes) -> None:
    async with serving(limits=ClientLimits(idle_s=0.05)) as served:
        reader, writer = await served.raw()
        writer.write(sent)
        assert await read_to_end(reader) == b""


@in_virtual_time
async def test_dripping_bytes_into_a_head_buys_no_time() -> None:
    async with serving(limits=ClientLimits(idle_s=3.0)) as served:
        reader, writer = await served.raw()
        writer.write(b"GET /health HTTP/1.1\r\nX: ")

        async def drip() -> None:
            while True:
                writer.write(b"a")
                await time_passes(0.5)

        dripping = asyncio.create_task(drip())
        assert await read_to_end(reader) == b""
        dripping.cancel()


async def test_an_idle_connection_is_closed_and_a_running_one_is_not() -> None:
    async with serving(FakeGateway(held=True), limits=ClientLimits(idle_s=0.05)) as served:
        idle, _ = await served.raw()
        running, writer = await served.raw()
        writer.write(REQUEST)
        await served.gateway.submitted.wait()

        assert await read_to_end(idle) == b""
        served.gateway.turns[0].go()
        assert (await read_reply(running)).status == 200


async def test_a_body_that_does_not_come_is_408_and_the_end() -> None:
    async with serving(limits=ClientLimits(body_s=0.05, linger_s=0.05)) as served:
        reader, writer = await served.raw()
        writer.write(REQUEST[:-1])
        reply = await read_reply(reader)
        assert await read_to_end(reader) == b""

    assert (reply.status, reply.error["code"]) == (408, "request_timeout")
    assert reply.headers["connection"] == "close"


async def test_a_client_that_reads_nothing_of_its_stream_is_cut_off() -> None:
    flood = [Delta(text="x" * 100_000)] * 200
    async with serving(FakeGateway(*flood, completed()), limits=ClientLimits(stalled_s=0.05)) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as client:
            client.sendall(STREAM)
            await served.gateway.submitted.wait()
            async with asyncio.timeout(BOUND_S):
                await served.gateway.turns[0].abandoned.wait()


# -- hasty --------------------------------------------------------------------------------------------------------


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving() as served:
        reader, writer = await served.raw()
        writer.write(http_request("GET", "/health") + http_request("POST", CHAT, b"{") + REQUEST * 50)
        statuses = [(await read_reply(reader)).status for _ in range(52)]

    assert statuses == [200, 400, *[200] * 50]
    assert len(served.gateway.submissions) == 50


# -- gone ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [REQUEST, STREAM], ids=["whole", "stream"])
async def test_a_client_that_leaves_has_its_turn_abandoned_at_once(request_: bytes) -> None:
    async with serving(FakeGateway(held=True)) as served:
        _, writer = await served.raw()
        writer.write(request_)
        await served.gateway.submitted.wait()
        writer.transport.abort()

        async with asyncio.timeout(BOUND_S):
            await served.gateway.turns[0].abandoned.wait()


@pytest.mark.parametrize("request_", [REQUEST, STREAM], ids=["whole", "stream"])
async def test_a_client_that_leaves_while_its_message_is_committed_has_its_turn_abandoned(request_: bytes) -> None:
    committed = asyncio.Event()
    gateway = FakeGateway(held=True)
    gateway.before_accept = committed.wait
    async with serving(gateway) as served:
        _, writer = await served.raw()
        writer.write(request_)
        await gateway.submitted.wait()
        writer.transport.abort()
        await served.deserted()
        assert gateway.turns == []  # it waits on: the message may be on disk already
        committed.set()

        async with asyncio.timeout(BOUND_S):
            await gateway.accepted.wait()
            await gateway.turns[0].abandoned.wait()


@pytest.mark.parametrize("request_", [REQUEST, STREAM], ids=["whole", "stream"])
async def test_a_turn_that_got_its_answer_is_not_abandoned(request_: bytes) -> None:
    async with serving() as served:
        reader, writer = await served.raw()
        writer.write(request_.replace(b"Host", b"Connection: close\r\nHost"))
        await read_to_end(reader)

        assert not served.gateway.turns[0].abandoned.is_set()


_BODY = orjson.dumps(HI)
_EXPECT = {"Content_Length": str(len(_BODY)), "Expect": "100-continue"}


@pytest.mark.parametrize(
    "request_",
    [
        http_request("POST", CHAT, **_EXPECT) + _BODY,
        http_request("POST", CHAT, **_EXPECT),
        http_request("POST", CHAT, orjson.dumps({**HI, "stream": True}), Expect="100-continue"),
        REQUEST,
        STREAM,
        REQUEST[:-1],
        http_request("GET", "/v1/models"),
        http_request("GET", "/health") * 3,
        http_request("POST", CHAT, b"{"),
    ],
    ids=["invited", "to be invited", "invited stream", "whole", "stream", "cut", "list", "several", "broken"],
)
async def test_a_client_that_resets_the_connection_is_no_bug(request_: bytes) -> None:
    with capture_logs() as logged:
        async with serving() as served:
            for turns in range(RESETS):
                with socket.create_connection(("127.0.0.1", served.port)) as client:
                    client.sendall(request_)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    if turns % 2:
                        await served.accepted()
                for _ in range(turns):
                    await step()
                await served.deserted()

    assert {line["log_level"] for line in logged} <= {"info", "debug"}


async def test_a_client_that_leaves_within_its_body_makes_no_turn() -> None:
    async with serving() as served:
        _, writer = await served.raw()
        writer.write(REQUEST[:-1])
        await served.reading()
        writer.transport.abort()
        await served.deserted()

    assert served.gateway.submissions == []


# -- listeners ----------------------------------------------------------------------------------------------------


async def test_another_listening_socket_is_served_until_it_is_taken_away() -> None:
    async with serving() as served:
        with socket.create_server(("127.0.0.1", 0)) as other:
            address = other.getsockname()
            await served.ingress.listen(1, other)
            await served.ingress.listen(1, other)  # twice is once
            kept, kept_writer = await asyncio.open_connection(*address)
            kept_writer.write(http_request("GET", "/health"))
            assert (await read_reply(kept)).status == 200

            await served.ingress.unlisten(1)
            kept_writer.write(http_request("GET", "/health"))
            assert (await read_reply(kept)).status == 200
            kept_writer.close()

            # The socket is still the caller's: another process would accept what comes now.
            _, writer = await asyncio.open_connection(*address)
            accepted, _ = await asyncio.get_running_loop().sock_accept(other)
            accepted.close()
            writer.close()

        assert (await served.ask("GET", "/health")).status == 200


async def test_closing_ends_idle_connections_and_lets_running_requests_finish() -> None:
    async with serving(FakeGateway(held=True)) as served:
        idle, idle_writer = await served.raw()
        idle_writer.write(http_request("GET", "/health"))
        await read_reply(idle)
        running, writer = await served.raw()
        writer.write(REQUEST)
        await served.gateway.submitted.wait()

        closing = asyncio.create_task(served.ingress.close(BOUND_S))
        assert await read_to_end(idle) == b""
        assert not served.ingress.ready
        assert not closing.done()
        served.gateway.turns[0].go()
        reply = await read_reply(running)
        assert await read_to_end(running) == b""
        await closing

    assert (reply.status, reply.headers["connection"]) == (200, "close")


async def test_a_connection_ends_with_its_answer_while_the_gateway_drains() -> None:
    async with serving() as served:
        reader, writer = await served.raw()
        writer.write(REQUEST)
        assert "connection" not in (await read_reply(reader)).headers
        served.gateway.draining = True

        writer.write(REQUEST)

        assert (await read_reply(reader)).headers["connection"] == "close"
        assert await read_to_end(reader) == b""


@in_virtual_time
async def test_a_client_that_has_just_connected_gets_its_answer_though_the_ingress_closes() -> None:
    async with serving() as served:
        reader, writer = await served.raw()
        await served.accepted()

        closing = asyncio.create_task(served.ingress.close(BOUND_S))
        await step()
        writer.write(REQUEST)

        assert (await read_reply(reader)).status == 200
        await closing


@in_virtual_time
async def test_a_client_that_connects_and_says_nothing_does_not_hold_up_the_close() -> None:
    async with serving() as served:
        reader, _ = await served.raw()
        await served.accepted()

        await served.ingress.close(BOUND_S)

        assert await read_to_end(reader) == b""


@in_virtual_time
async def test_a_request_that_outlives_the_grace_is_cut_off_and_abandoned() -> None:
    async with serving(FakeGateway(held=True)) as served:
        reader, writer = await served.raw()
        writer.write(STREAM)
        await served.gateway.submitted.wait()

        await served.ingress.close(3.0)

        assert served.gateway.turns[0].abandoned.is_set()
        assert b"[DONE]" not in await read_to_end(reader)


@in_virtual_time
async def test_a_stream_that_began_before_closing_ends_as_it_should() -> None:
    async with serving(FakeGateway(held=True)) as served:
        reader, writer = await served.raw()
        writer.write(STREAM)
        async with asyncio.timeout(BOUND_S):
            await reader.readuntil(b'"role":"assistant"')
        closing = asyncio.create_task(served.ingress.close(BOUND_S))
        await step()
        served.gateway.turns[0].go()

        assert b"data: [DONE]" in await read_to_end(reader)
        await closing
