"""Messages over the pipes of a stdio server: one JSON-RPC message a line.

The MCP SDK's reader copies the whole line again for each 64 KiB of it that arrive and bounds nothing: an answer of
30 MB takes 29 s of the loop, one of 100 MB more than 270 s (measured with mcp 2.3). Here a line costs what its bytes
do, and one that is too large costs the call that it answers, not the connection.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from weakref import WeakValueDictionary

import anyio
from anyio.abc import ObjectSendStream
from anyio.streams.memory import MemoryObjectSendStream
from mcp.shared.dispatcher import coerce_request_id
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCMessage, JSONRPCRequest, JSONRPCResponse

from workers.tools.bounds import EDGE_BYTES, MAX_MESSAGE_BYTES
from workers.tools.calls import NO_CALL, ToolInvocation, current
from workers.tools.messages import read, skipped

MAX_SKIPPED_BYTES = 256 * 1024 * 1024  # a server whose line is longer than this is left
MAX_QUEUED = (
    64  # messages to a server that does not read; then calls wait, as long as they may, and all else is dropped
)
ENDLESS = f"it wrote {MAX_SKIPPED_BYTES >> 20} MiB to its standard output without the end of a line"


@asynccontextmanager
async def opened(
    stdin: socket.socket, stdout: socket.socket, *, on_heard: Callable[[], None], on_noise: Callable[[str], None]
) -> AsyncIterator[Pipes]:
    """The pipes of a server, which are sockets, as streams; leaving closes them.

    Args:
        stdin: to the server.
        stdout: from it.
        on_heard: called with each message from it.
        on_noise: called with what it writes between its messages.
    """
    async with AsyncExitStack() as stack:
        _, outward = await asyncio.open_unix_connection(sock=stdin)
        stack.callback(outward.transport.abort)  # what a server that has ended did not read is not waited for
        reader, inward = await asyncio.open_unix_connection(sock=stdout, limit=MAX_MESSAGE_BYTES)
        stack.callback(inward.transport.abort)
        yield Pipes(outward, reader, on_heard, on_noise)


class Pipes:
    """Both directions, and what they show of the server."""

    def __init__(
        self,
        stdin: asyncio.StreamWriter,
        stdout: asyncio.StreamReader,
        on_heard: Callable[[], None],
        on_noise: Callable[[str], None],
    ) -> None:
        self.endless = False  # the server wrote a line that was given up
        self._stdin = stdin
        self._stdout = stdout
        self._on_heard = on_heard
        self._on_noise = on_noise
        self._asked: WeakValueDictionary[str | int, ToolInvocation] = WeakValueDictionary()  # by the id of its request
        self._inward, self.read_stream = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        written, self._outward = anyio.create_memory_object_stream[SessionMessage](MAX_QUEUED)
        self.write_stream = _Written(written, self._asked)

    def close(self) -> None:
        """No one reads or writes any more. The server sees the end once what was written is sent."""
        self.read_stream.close()
        self.write_stream.close()

    async def write(self) -> None:
        """Send what the client writes, until it is closed or the server takes nothing more."""
        try:
            async with self._outward:
                async for written in self._outward:
                    self._stdin.write(
                        written.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
                    )
                    await self._stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            self._inward.close()  # the client sees the end, though the server may live
        finally:
            self._stdin.close()

    async def read(self) -> None:
        """Hand the client what the server says, until either ends."""
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with self._inward:
                async for message in self._messages():
                    self._on_heard()
                    if isinstance(message, JSONRPCResponse | JSONRPCError) and message.id is not None:
                        call = self._asked.pop(coerce_request_id(message.id), NO_CALL)
                        call.refused = isinstance(message, JSONRPCError)
                        call.answered.set()
                    await self._inward.send(SessionMessage(message))

    async def drain(self) -> None:
        """Drop what the server still says, so that it can end."""
        with suppress(ConnectionError):
            while await self._stdout.read(MAX_MESSAGE_BYTES):
                pass

    async def _messages(self) -> AsyncIterator[JSONRPCMessage]:
        with suppress(ConnectionError):
            while not self._stdout.at_eof():
                try:
                    messages = self._read(await self._stdout.readuntil())
                except asyncio.IncompleteReadError as error:  # the end, perhaps within a line
                    messages = self._read(error.partial)
                except asyncio.LimitOverrunError as error:
                    messages = await self._skipped(error.consumed)
                for message in messages:
                    yield message

    def _read(self, line: bytes) -> Iterable[JSONRPCMessage]:
        found = read(line)
        if found.noise:
            self._on_noise(found.noise)
        return found.messages

    async def _skipped(self, length: int) -> Iterable[JSONRPCMessage]:
        """Drop a line that is too long; the error for the call that it answers, where that can be seen.

        Raises:
            ConnectionError: there is no end of it.
        """
        part = await self._stdout.readexactly(length)
        first, last = part[:EDGE_BYTES], part[-EDGE_BYTES:]
        while length <= MAX_SKIPPED_BYTES:
            try:
                rest = await self._stdout.readuntil()
            except asyncio.IncompleteReadError as error:
                rest = error.partial
            except asyncio.LimitOverrunError as error:
                part = await self._stdout.readexactly(error.consumed)
                length += len(part)
                last = (last + part)[-EDGE_BYTES:]
                continue
            answer = skipped(first, (last + rest)[-EDGE_BYTES:])
            self._on_noise(f"{first.decode(errors='replace')} … (a line of {length + len(rest)} bytes was skipped)")
            return answer
        self.endless = True
        self._on_noise(ENDLESS)
        raise ConnectionError(ENDLESS)


class _Written(ObjectSendStream[SessionMessage]):
    """What the client writes to; it notes, in the context of the sender, for which call a request is."""

    def __init__(
        self, stream: MemoryObjectSendStream[SessionMessage], asked: MutableMapping[str | int, ToolInvocation]
    ) -> None:
        self._stream = stream
        self._asked = asked

    async def send(self, item: SessionMessage) -> None:
        if not isinstance(item.message, JSONRPCRequest):
            with suppress(anyio.WouldBlock):  # the SDK has the end of a call wait for its notice
                self._stream.send_nowait(item)
            return
        if item.message.method == "tools/call":
            call = self._asked[item.message.id] = current.get()
            call.answered.clear()
        await self._stream.send(item)

    def close(self) -> None:
        self._stream.close()

    async def aclose(self) -> None:
        self.close()
