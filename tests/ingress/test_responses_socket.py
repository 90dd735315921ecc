"""``GET /v1/responses`` as a WebSocket, in front of a fake gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest
from fakes.gateway import FakeGateway, completed
from fakes.open_responses import LAST, check_stream
from fakes.served_ingress import BOUND_S, KEYS, Served, serving

from hermes_actors.config.model import ApiServerConfig
from hermes_actors.wire.refusals import RefusalCode
from workers.conversations import assistant_message, canonical
from workers.ingress.responses.socket import MAX_WAITING
from workers.turns import Delta, Refusal

HI = canonical({"role": "user", "content": "hi"})


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(FakeGateway(Delta(text="it is "), Delta(text="noon"), completed("it is noon"))) as running:
        yield running


class Client:
    """One connection."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, given: Any = "hi", /, **fields: Any) -> None:
        await self.socket.send_str(orjson.dumps({"type": "response.create", "input": given, **fields}).decode())

    async def event(self) -> dict[str, Any]:
        event: dict[str, Any] = await self.socket.receive_json(timeout=BOUND_S)
        return event

    async def ask(self, given: Any = "hi", /, **fields: Any) -> list[dict[str, Any]]:
        """The events of one request; those of a response are checked."""
        await self.send(given, **fields)
        events = [await self.event()]
        while events[-1]["type"] not in LAST | {"error"}:
            events.append(await self.event())
        return events if events[-1]["type"] == "error" else check_stream(events)


@asynccontextmanager
async def connected(served: Served, *, autoping: bool = True, **headers: str) -> AsyncIterator[Client]:
    sent = {"Authorization": f"Bearer {KEYS['alice']}"} | {k.replace("_", "-"): v for k, v in headers.items()}
    async with served.session.ws_connect(f"{served.url}/v1/responses", headers=sent, autoping=autoping) as socket:
        yield Client(socket)


async def test_responses_come_one_after_another_over_one_connection(served: Served) -> None:
    async with connected(served) as client:
        first, second = await client.ask(), await client.ask("again")

    assert first[-1]["response"]["output"][0]["content"][0]["text"] == "it is noon"
    assert first[-1]["response"]["id"] != second[-1]["response"]["id"]
    assert len(served.gateway.turns) == 2


async def test_a_response_that_is_not_stored_is_gone_on_with_over_its_connection_alone(served: Served) -> None:
    async with connected(served) as client, connected(served) as other:
        first = await client.ask(store=False)
        name = first[-1]["response"]["id"]
        await client.ask("thanks", store=False, previous_response_id=name)
        sent = served.gateway.submission.messages
        (elsewhere,) = await other.ask("thanks", previous_response_id=name)
        (forgotten,) = await client.ask("more", previous_response_id=name)

    assert sent == [HI, assistant_message("it is noon"), canonical({"role": "user", "content": "thanks"})]
    assert elsewhere["code"] == forgotten["code"] == "previous_response_not_found"


async def test_a_request_that_is_wrong_is_an_event_and_the_connection_goes_on(served: Served) -> None:
    async with connected(served) as client:
        (error,) = await client.ask(temperature="hot")
        events = await client.ask()

    assert (error["status"], error["error"]["param"], error["code"]) == (400, "temperature", "invalid_value")
    assert events[-1]["type"] == "response.completed"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"type": "session.update"}', '{"type": "response.create", "background": true, "input": "x"}'],
)
async def test_what_is_no_request_is_an_event_too(served: Served, text: str) -> None:
    async with connected(served) as client:
        await client.socket.send_str(text)
        error = await client.event()
        await client.socket.send_bytes(b"x")
        binary = await client.event()

    assert (error["type"], error["status"], binary["code"]) == ("error", 400, "invalid_message")
    assert served.gateway.submissions == []


async def test_a_refusal_is_an_event(served: Served) -> None:
    served.gateway.refusal = Refusal(RefusalCode.MAILBOX_FULL, "full")
    async with connected(served) as client:
        (error,) = await client.ask()

    assert (error["status"], error["code"]) == (429, "mailbox_full")


async def test_a_client_that_leaves_abandons_its_turn() -> None:
    async with serving(FakeGateway(Delta(text="a"), completed("a"), held=True)) as served:
        async with connected(served) as client:
            await client.send()
            await asyncio.wait_for(served.gateway.accepted.wait(), BOUND_S)
            client.socket._response.connection.transport.abort()  # type: ignore[union-attr]  # it has one while it is open
        await asyncio.wait_for(served.gateway.turns[0].abandoned.wait(), BOUND_S)


async def test_a_client_that_closes_its_connection_abandons_its_turn() -> None:
    async with serving(FakeGateway(Delta(text="a"), completed("a"), held=True)) as served, connected(served) as client:
        await client.send()
        await asyncio.wait_for(served.gateway.accepted.wait(), BOUND_S)
        await client.socket.close()
        await asyncio.wait_for(served.gateway.turns[0].abandoned.wait(), BOUND_S)


async def test_a_ping_is_answered_while_a_response_runs() -> None:
    gateway = FakeGateway(Delta(text="a"), completed("a"), held=True)
    async with serving(gateway) as served, connected(served, autoping=False) as client:
        await client.send()
        await asyncio.wait_for(gateway.accepted.wait(), BOUND_S)
        await client.socket.ping(b"there?")
        while (message := await client.socket.receive(timeout=BOUND_S)).type is aiohttp.WSMsgType.TEXT:
            assert orjson.loads(message.data)["type"] != "response.completed"

    assert (message.type, bytes(message.data)) == (aiohttp.WSMsgType.PONG, b"there?")


async def test_requests_wait_for_the_response_that_runs_and_too_many_close_the_connection() -> None:
    gateway = FakeGateway(Delta(text="a"), completed("a"), held=True)
    async with serving(gateway) as served, connected(served) as client:
        await client.send()
        await asyncio.wait_for(gateway.accepted.wait(), BOUND_S)
        for _ in range(MAX_WAITING + 1):
            await client.send()
        while (message := await client.socket.receive(timeout=BOUND_S)).type is aiohttp.WSMsgType.TEXT:
            pass

    assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.POLICY_VIOLATION)
    assert len(gateway.turns) == 1


async def test_a_gateway_that_stops_closes_a_connection_that_waits(served: Served) -> None:
    async with connected(served) as client:
        await client.ask()
        closing = asyncio.create_task(served.ingress.close(BOUND_S))
        closed = await client.socket.receive(timeout=BOUND_S)
        await closing

    assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.SERVICE_RESTART)


async def test_a_key_that_is_taken_back_is_refused_over_its_open_connection(served: Served) -> None:
    async with connected(served) as client:
        await client.ask()
        served.ingress.reconfigure(ApiServerConfig(), {"bob": KEYS["bob"]})
        (error,) = await client.ask()

    assert error["status"] == 401
    assert len(served.gateway.turns) == 1


async def test_a_connection_has_no_idempotency_key(served: Served) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with connected(served, Idempotency_Key="once"):
            pass

    assert refused.value.status == 400


async def test_a_gateway_that_drains_closes_the_connection_after_the_response(served: Served) -> None:
    async with connected(served) as client:
        served.gateway.draining = True
        await client.ask()
        closed = await client.socket.receive(timeout=BOUND_S)

    assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.SERVICE_RESTART)


async def test_a_message_that_is_too_large_closes_the_connection() -> None:
    async with serving(max_body_bytes=1000) as served, connected(served) as client:
        await client.send("x" * 2000)
        closed = await client.socket.receive(timeout=BOUND_S)

    assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.MESSAGE_TOO_BIG)


async def test_a_plain_request_learns_what_the_path_is_for(served: Served) -> None:
    reply = await served.ask("GET", "/v1/responses")

    assert (reply.status, reply.error["code"], reply.headers["Upgrade"]) == (426, "upgrade_required", "websocket")


async def test_a_connection_needs_a_key(served: Served) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with connected(served, Authorization="Bearer nobody"):
            pass

    assert refused.value.status == 401
