"""The floor: the least that a durable gateway can do. One process of it serves one core.

    python -m scaling.floor --port PORT --model-url URL --database FILE

Each POST asks the model server with ``stream: true``, joins the chunks, commits message and answer once to a SQLite
file of the process (WAL, ``synchronous=FULL``) and answers. It has no sessions, no routing, no tools, no keys, no
limits. Several processes share the port (``SO_REUSEPORT``). A caller that streams gets the chunks as they come, and the
end after the commit.
"""

from __future__ import annotations

import argparse
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvloop
from aiohttp import web

_JSON = {"Content-Type": "application/json"}
_DONE = b"data: [DONE]\n\n"


def open_store(path: Path) -> sqlite3.Connection:
    """A store whose every statement is a commit that survives power loss."""
    store = sqlite3.connect(path, isolation_level=None)
    store.execute("PRAGMA journal_mode=WAL")
    store.execute("PRAGMA synchronous=FULL")
    store.execute("CREATE TABLE turns (id INTEGER PRIMARY KEY, message BLOB, answer TEXT)")
    return store


class Floor:
    """One process of the floor."""

    def __init__(self, model_url: str, store: sqlite3.Connection) -> None:
        self._model_url = model_url
        self._store = store

    def application(self) -> web.Application:
        """The floor as an aiohttp application."""
        application = web.Application()
        application.cleanup_ctx.append(self._client_of)
        application.router.add_post("/v1/chat/completions", self._turn)
        return application

    async def _client_of(self, _: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=_JSON) as self._client:
            yield

    async def _turn(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        streams = bool(body.get("stream"))
        body["stream"] = True
        message = orjson.dumps(body["messages"])
        async with self._client.post(self._model_url, data=orjson.dumps(body)) as answer:
            if answer.status != 200:
                return web.Response(status=answer.status, body=await answer.read(), headers=_JSON)
            if streams:
                return await self._relay(request, message, answer)
            text = "".join([part async for _, part in _parts(answer)])
        self._commit(message, text)
        return web.Response(body=orjson.dumps(_completion(body["model"], text)), headers=_JSON)

    async def _relay(self, request: web.Request, message: bytes, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        text = ""
        async for line, part in _parts(answer):
            text += part
            await response.write(line + b"\n")
        self._commit(message, text)
        await response.write_eof(_DONE)
        return response

    def _commit(self, message: bytes, text: str) -> None:
        self._store.execute("INSERT INTO turns (message, answer) VALUES (?, ?)", (message, text))


async def _parts(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[bytes, str]]:
    async for line in answer.content:
        if line.startswith(b"data: {"):
            for choice in orjson.loads(line[6:])["choices"]:
                yield line, choice["delta"].get("content") or ""


def _completion(model: str, text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-floor",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }


def main() -> None:
    """Serve from the command line, until SIGTERM."""
    arguments = argparse.ArgumentParser(description="The floor: the least that a durable gateway can do.")
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--model-url", required=True, help="of chat completions")
    arguments.add_argument("--database", type=Path, required=True)
    given = arguments.parse_args()
    web.run_app(
        Floor(given.model_url, open_store(given.database)).application(),
        host="127.0.0.1",
        port=given.port,
        reuse_port=True,
        print=None,
        access_log=None,
        loop=uvloop.new_event_loop(),
    )


if __name__ == "__main__":
    main()
