"""A page of a server's tool listing, tool by tool.

The SDK's types refuse a whole listing for one tool whose input schema, output schema or icon has another form than
they know. So each listing is read here, on its way to the SDK, which gets no more of a tool than it needs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import orjson
from mcp.shared.dispatcher import coerce_request_id
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCRequest, JSONRPCResponse, RequestId
from mcp_types.methods import validate_server_result
from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION
from pydantic import ValidationError

from workers.tools.catalogue import LeftOut, ListedTool
from workers.tools.schema import validator

TASK_ONLY = "it runs as a task only (execution.taskSupport: required), which no call here can ask for"
MAX_ASKED = 100  # listings that a server has not answered yet, of which is known that they are listings

_HEADER = b'"x-mcp-header"'
_ANY_OBJECT = {"type": "object"}
_WHOLE = {"resultType": "complete", "cacheScope": "private", "ttlMs": 0}  # what the newest protocol wants besides


@dataclass(slots=True)
class Page:
    """What one answer to a listing holds."""

    tools: list[ListedTool] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    cursor: str | None = None  # of the next page
    ttl_s: float | None = None  # how long it is fresh, where the server says so


current: ContextVar[Page | None] = ContextVar("current", default=None)  # gets the answer to what is sent


def taken(result: dict[str, Any], page: Page) -> dict[str, Any]:
    """Read a result of ``tools/list`` into the page; what the SDK gets of it."""
    listed = [] if result.get("tools", ()) is None else result.get("tools")  # Go writes an empty list as null
    if not isinstance(listed, list):
        return result
    kept = [_read(tool, f"(tool {number})", page) for number, tool in enumerate(listed, 1)]
    cursor, ttl_ms = result.get("nextCursor"), result.get("ttlMs")
    page.cursor = cursor if isinstance(cursor, str) and cursor else None
    if isinstance(ttl_ms, int | float) and not isinstance(ttl_ms, bool):
        page.ttl_s = max(0.0, ttl_ms / 1000)
    following = {"nextCursor": page.cursor} if page.cursor else {}
    tools = [tool for tool in kept if tool is not None]
    return {"tools": tools, **_WHOLE, **following}


def _read(tool: Any, place: str, page: Page) -> dict[str, Any] | None:
    """One tool, for the page and for the SDK."""
    fields = tool if isinstance(tool, dict) else {}
    name, schema, execution = fields.get("name"), fields.get("inputSchema"), fields.get("execution")
    why = None
    if not isinstance(name, str) or not name:
        name, why = place, "it has no name"
    elif schema is not None and schema is not True and not isinstance(schema, dict):
        why = "its input schema is no JSON schema"
    elif isinstance(execution, dict) and execution.get("taskSupport") == "required":
        why = TASK_ONLY
    if why is not None:
        page.left_out.append(LeftOut(name, why))
        return None
    schema = schema if isinstance(schema, dict) else _ANY_OBJECT
    description = fields.get("description")
    about = description if isinstance(description, str) else None
    page.tools.append(ListedTool(name=name, description=about, input_schema=schema))
    return _for_sdk(name, schema, fields.get("outputSchema"))


def _for_sdk(name: str, schema: dict[str, Any], output: Any) -> dict[str, Any]:
    """A tool as the SDK is sure to take it: with the parts that it uses, as far as their form allows."""
    plain = {"name": name, "inputSchema": _ANY_OBJECT}
    with_headers = {**plain, "inputSchema": {**schema, **_ANY_OBJECT}} if _has_headers(schema) else plain
    whole = {**with_headers, "outputSchema": output} if _can_check(output) else with_headers
    return next((tool for tool in (whole, with_headers) if _is_taken(tool)), plain)


def _has_headers(schema: dict[str, Any]) -> bool:
    """Whether some arguments go into HTTP headers too, by protocol 2026-07-28."""
    try:
        return _HEADER in orjson.dumps(schema)
    except TypeError:  # integers of more than 64 bits
        return False


def _is_taken(tool: dict[str, Any]) -> bool:
    """Whether the types of both eras take a tool."""
    try:
        for version in (LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION):
            validate_server_result("tools/list", version, {"tools": [tool], **_WHOLE})
    except ValidationError:
        return False
    return True


def _can_check(schema: Any) -> bool:
    """Whether the SDK can check results by an output schema; by another it refuses each, after the tool acted."""
    if not isinstance(schema, dict):
        return False
    try:
        validator(schema)
        return all(_resolves(schema, reference) for reference in _references(schema))
    except Exception:  # noqa: BLE001  # there is no end to what jsonschema raises for what is no schema
        return False


def _references(schema: Any) -> list[Any]:
    if isinstance(schema, list):
        return [found for part in schema for found in _references(part)]
    if not isinstance(schema, dict):
        return []
    own = [value for key, value in schema.items() if key in ("$ref", "$dynamicRef", "$recursiveRef")]
    return own + [found for part in schema.values() for found in _references(part)]


def _resolves(schema: dict[str, Any], reference: Any) -> bool:
    """Whether a reference is a pointer to a part of the schema itself."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return False
    part: Any = schema
    for step in reference.split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        part = part.get(step) if isinstance(part, dict) else None
    return isinstance(part, dict | bool)


@asynccontextmanager
async def by_tool(streams: AbstractAsyncContextManager[Any]) -> AsyncIterator[Any]:
    """A stream pair to a server, whose listings are read tool by tool."""
    async with streams as (read_stream, write_stream):
        asked: dict[RequestId, Page] = {}
        yield _Answers(read_stream, asked), _Questions(write_stream, asked)


class _Stream:
    """What both directions are besides: the stream itself."""

    def __init__(self, stream: Any, asked: dict[RequestId, Page]) -> None:
        self._stream = stream
        self._asked = asked

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stream.__aexit__(kind, error, trace)


class _Questions(_Stream):
    """To the server; it notes, in the context of the sender, which page a listing fills."""

    async def send(self, item: SessionMessage) -> None:
        if isinstance(item.message, JSONRPCRequest) and item.message.method == "tools/list":
            if len(self._asked) >= MAX_ASKED:
                del self._asked[next(iter(self._asked))]
            self._asked[coerce_request_id(item.message.id)] = current.get() or Page()
        await self._stream.send(item)


class _Answers(_Stream):
    """From the server."""

    @property
    def last_context(self) -> Any:
        """The context in which the last message was received, where the stream keeps it."""
        return getattr(self._stream, "last_context", None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        return self._seen(await self._stream.__anext__())

    async def receive(self) -> SessionMessage | Exception:
        """The next message."""
        return self._seen(await self._stream.receive())

    def _seen(self, item: SessionMessage | Exception) -> SessionMessage | Exception:
        message = None if isinstance(item, Exception) else item.message
        if isinstance(message, JSONRPCResponse | JSONRPCError) and message.id is not None:
            page = self._asked.pop(coerce_request_id(message.id), None)
            if page is not None and isinstance(message, JSONRPCResponse):
                message.result = taken(message.result, page)
        return item
