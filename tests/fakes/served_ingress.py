"""The ingress on a real socket in front of a fake gateway, and clients for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from fakes.described import described
from fakes.gateway import FakeGateway
from fakes.virtual_time import step

from hermes_actors.config.model import ApiServerConfig
from workers.ingress.http.connection import ClientLimits
from workers.ingress.http.server import HttpIngress

KEYS = {"alice": "key-of-alice", "bob": "key-of-bob"}
NOW = 1_700_000_000.5
BOUND_S = 5.0  # for everything a test waits for
CHAT = "/v1/chat/completions"
HI: dict[str, Any] = {"model": "any", "messages": [{"role": "user", "content": "hi"}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return orjson.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object, which must have just the four keys that OpenAI's has."""
        error: dict[str, Any] = self.data["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error["message"], str)
        return error


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    ingress: HttpIngress
    gateway: FakeGateway
    sock: socket.socket
    session: aiohttp.ClientSession
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def port(self) -> int:
        port: int = self.sock.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        key: str | None = KEYS["alice"],
        **headers: str,
    ) -> Reply:
        """Send a request whose answer the OpenAPI document must describe; underscores in header names are hyphens."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        async with self.session.request(method, self.url + path, data=body, headers=sent) as response:
            reply = Reply(status=response.status, headers=response.headers, body=await response.read())
        described(tuple(self.ingress._routes.routes)).check(method, path, reply.status, reply.headers, reply.body)
        return reply

    async def chat(self, request: dict[str, Any] | bytes = HI, **headers: str) -> Reply:
        body = request if isinstance(request, bytes) else orjson.dumps(request)
        return await self.ask("POST", CHAT, body, **{"Content_Type": "application/json", **headers})

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of one's own; it is closed in the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer

    async def reading(self) -> None:
        """Until a request has arrived that is not answered."""
        async with asyncio.timeout(BOUND_S):
            while all(connection.idle for connection in self.ingress._connections()):  # no event says so
                await step()

    async def accepted(self) -> None:
        """Until a connection has been accepted."""
        async with asyncio.timeout(BOUND_S):
            while not self.ingress._connections():  # no event says so
                await step()

    async def deserted(self) -> None:
        """Until the server has seen that every client is gone."""
        async with asyncio.timeout(BOUND_S):
            await asyncio.gather(*(connection.lost for connection in self.ingress._connections()))


@asynccontextmanager
async def serving(
    gateway: FakeGateway | None = None,
    *,
    limits: ClientLimits | None = None,
    max_body_bytes: int = 100_000,
    **fields: Any,
) -> AsyncIterator[Served]:
    """An ingress that listens.

    Args:
        gateway: behind it.
        limits: for its clients.
        max_body_bytes: of a request.
        fields: others of the section ``api_server``.
    """
    gateway = gateway or FakeGateway()
    config = ApiServerConfig(max_body_bytes=max_body_bytes, **fields)
    ingress = HttpIngress(gateway, config=config, api_keys=KEYS, slot=3, limits=limits, clock=lambda: NOW)
    await ingress.start()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        await ingress.listen(0, sock)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=BOUND_S)) as session:
            served = Served(ingress=ingress, gateway=gateway, sock=sock, session=session)
            try:
                yield served
            finally:
                for writer in served.writers:
                    writer.close()
                await ingress.close(0.1)


def http_request(method: str, path: str, body: bytes = b"", /, **headers: str) -> bytes:
    """A request as it goes over the wire."""
    fields = {"Host": "test", "Authorization": f"Bearer {KEYS['alice']}", "Content-Type": "application/json"}
    fields |= {"Content-Length": str(len(body))} if body else {}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """One answer with a Content-Length from a raw connection."""
    async with asyncio.timeout(BOUND_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status_line, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Reply(status=int(status_line.split()[1]), headers=headers, body=body)


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """Whatever comes until the server closes the connection, politely or not."""
    received = b""
    async with asyncio.timeout(BOUND_S):
        with suppress(ConnectionResetError):
            while piece := await reader.read(65536):
                received += piece
    return received


def sse_events(body: bytes) -> list[tuple[str, Any]]:
    """The events of a stream: their names (``""`` for none) and their data."""
    events = []
    for block in body.decode().split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        fields = dict(line.split(": ", 1) for line in lines)
        if fields:
            data = fields["data"]
            events.append((fields.get("event", ""), data if data == "[DONE]" else orjson.loads(data)))
    return events
