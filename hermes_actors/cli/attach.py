"""A turn that runs already, followed live over the gateway's own HTTP API: its events again, then those that come."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any
from urllib.parse import quote

import aiohttp

from hermes_actors.cli.chat import (
    CUT,
    MAX_ERROR_BYTES,
    ChatFailed,
    Endpoint,
    Event,
    Finished,
    Piece,
    ServerSentEvents,
    Tool,
    connected,
    object_of,
    refusal,
)

NOTHING_RUNS = "no turn of this session runs"
LET_GO = "no longer attached; the turn goes on"

_TOOL_STATUS = {"tool.started": "running", "tool.completed": "completed"}


class NothingRuns(Exception):
    """No turn of the session runs; the text is for people."""


async def running_turn(endpoint: Endpoint) -> str:
    """The id of the turn that runs in a session.

    Raises:
        NothingRuns: none does.
        ChatFailed: there is no such session, or the gateway does not answer.
    """
    async with connected(endpoint) as client:
        path = f"{endpoint.url}/api/sessions/{quote(endpoint.session, safe='')}"
        async with client.get(path) as answer:
            body = await answer.content.read(MAX_ERROR_BYTES)
            if answer.status != 200:
                raise refusal(answer.status, body)
    turn_id = object_of(body).get("running")
    if not isinstance(turn_id, str):
        raise NothingRuns(f"{NOTHING_RUNS}: {endpoint.session}")
    return turn_id


async def follow(endpoint: Endpoint, turn_id: str, on_data: Callable[[dict[str, Any]], None]) -> None:
    """Pass each event of a turn on, as the API gives it, to the last.

    Raises:
        ChatFailed: the connection broke, or the turn is not known any more.
    """
    async with contextlib.aclosing(_events(endpoint, turn_id)) as events:
        async for data in events:
            on_data(data)


def attach(endpoint: Endpoint, on_data: Callable[[dict[str, Any]], None]) -> None:
    """Follow the turn that runs in a session, to its end.

    Raises:
        NothingRuns: none does.
        ChatFailed: there is no such session, or the connection broke.
    """

    async def attached() -> None:
        await follow(endpoint, await running_turn(endpoint), on_data)

    asyncio.run(attached())


def shown(data: dict[str, Any]) -> Event | None:
    """An event of a turn as a conversation shows it; None: it is not for people.

    Raises:
        ChatFailed: the turn ended without an answer.
    """
    match data.get("event"):
        case "message.delta":
            return Piece(text=str(data.get("delta", "")))
        case "tool.started" | "tool.completed" as kind:
            status = "failed" if data.get("error") else _TOOL_STATUS[kind]
            return Tool(name=str(data.get("tool")), status=status)
        case "run.completed":
            return Finished(reason="stop")
        case "run.failed" | "run.cancelled":
            error = data.get("error") or {}
            raise ChatFailed(str(error.get("code")), str(error.get("message") or "the turn gave no answer"))
        case _:
            return None


async def _events(endpoint: Endpoint, turn_id: str) -> AsyncGenerator[dict[str, Any]]:
    stream = ServerSentEvents()
    async with connected(endpoint) as client, client.get(f"{endpoint.url}/v1/runs/{turn_id}/events") as answer:
        if answer.status != 200:
            raise refusal(answer.status, await answer.content.read(MAX_ERROR_BYTES))
        async for data in _data(answer.content, stream):
            yield data
            if str(data.get("event")).startswith("run."):
                return
    raise ChatFailed("connection", CUT)


async def _data(body: aiohttp.StreamReader, stream: ServerSentEvents) -> AsyncIterator[dict[str, Any]]:
    async for received in body.iter_any():
        for _, data in stream.feed(received):
            yield json.loads(data)
