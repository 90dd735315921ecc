"""An error that came as a message is the server's answer, whatever its number: it costs its call and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from fakes.mcp_counting import BOUND_S, Counting, call, free_port, until

from hermes_actors.config.model import McpServer
from workers.tools.outcomes import CONNECTION_CLOSED, NOT_SENT, OWN_CODES, SESSION_LOST
from workers.tools.servers import ToolServers
from workers.tools.toolbox import ToolResult

Serve = Callable[..., ToolServers]

ERRORS = [
    *({"code": code, "message": "quota exceeded"} for code in (*sorted(OWN_CODES), -32001, -32020, -32099, -32800, 7)),
    {"code": "E_QUOTA", "message": "quota exceeded"},
    {"code": 1.5, "message": "quota exceeded"},
    "quota exceeded",
    {"reason": "quota exceeded"},
]


def is_an_answer(result: ToolResult) -> bool:
    return result.outcome == "tool_error" and "quota exceeded" in result.text and "unknown" not in result.text


async def test_an_error_of_a_shared_local_server_is_its_answer_and_nothing_else_ends(
    serve: Serve, counting: Counting
) -> None:
    servers = serve(count=counting.raw(scope="worker"))
    toolbox, other = servers.toolbox("a"), servers.toolbox("b")
    await toolbox.definitions()
    running = asyncio.create_task(call(other, "mute"))
    await until(lambda: counting.calls == ["mute"], "the other session's call arrived")

    answers = [await call(toolbox, "refuse", error=error) for error in ERRORS]

    assert all(map(is_an_answer, answers))
    assert counting.calls == ["mute", *["refuse"] * len(ERRORS)]
    assert len(counting.starts) == 1
    assert not running.done()
    assert servers.connections()[0]["last_error"] is None
    running.cancel()


@pytest.mark.parametrize("code", [CONNECTION_CLOSED, NOT_SENT, SESSION_LOST])
async def test_an_error_of_a_server_of_one_session_leaves_its_process(
    serve: Serve, counting: Counting, code: int
) -> None:
    toolbox = serve(count=counting.raw()).toolbox("a")
    await toolbox.definitions()

    assert is_an_answer(await call(toolbox, "refuse", error={"code": code, "message": "quota exceeded"}))

    assert (await call(toolbox, "echo", text="on")).text == "on"
    assert counting.calls == ["refuse", "echo"]
    assert len(counting.starts) == 1


async def test_an_error_is_told_whole_unless_it_is_very_long(serve: Serve, counting: Counting) -> None:
    toolbox = serve(count=counting.raw()).toolbox("a")
    await toolbox.definitions()

    long = await call(toolbox, "refuse", error={"code": -32602, "message": "x" * 3_300 + "\0 the end"})
    longer = await call(toolbox, "refuse", error={"code": -32602, "message": "x" * 9_000})

    assert "\u2400 the end" in long.text
    assert len(longer.text) < 5_000
    assert "left out]" in longer.text


@pytest.mark.parametrize("printed", ["Working... ", "10%\r20%\r", '{"level":"info","id":3}', "x" * 2_000_000])
async def test_what_a_server_prints_without_a_line_end_costs_no_answer_and_is_in_its_log(
    serve: Serve, counting: Counting, tmp_path: Path, printed: str
) -> None:
    toolbox = serve(count=counting.raw()).toolbox("a")
    await toolbox.definitions()

    answer = await call(toolbox, "refuse", error={"code": 1, "message": "quota exceeded"}, printed=printed)

    assert is_an_answer(answer)
    log = tmp_path / "mcp-count.log"
    await until(lambda: b"[stdout] " in log.read_bytes(), "the log has what was printed")
    assert log.stat().st_size < 10_000


# -- over HTTP ----------------------------------------------------------------------------------------------------
class Refusing:
    """A server over HTTP whose tool ``refuse`` answers with the error and in the form that its arguments say."""

    def __init__(self) -> None:
        self.calls = 0
        self.slow = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        message = await request.json() if request.can_read_body else {}
        result: dict[str, Any]
        match message:
            case {"method": "initialize"}:
                about = {"name": "refusing", "version": "1"}
                result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": about}
            case {"method": "tools/list"}:
                result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("refuse", "slow")]}
            case {"method": "tools/call", "params": {"name": "slow"}}:
                await self.slow.wait()
                result = {"content": [{"type": "text", "text": "slow but sure"}]}
            case {"method": "tools/call", "params": {"arguments": given}}:
                self.calls += 1
                return self._refuse({"jsonrpc": "2.0", "id": message["id"], "error": given["error"]}, given["form"])
            case _:
                return web.Response(status=202)
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})

    def _refuse(self, message: dict[str, Any], form: str) -> web.Response:
        body = web.json_response(message).text or ""
        match form:
            case "events":
                return web.Response(text=f"id: 1\ndata: {body}\n\n", content_type="text/event-stream")
            case "status":
                return web.Response(text=body, status=400, content_type="application/json")
            case "text":
                return web.Response(text=body, content_type="text/plain")
            case _:
                return web.Response(text=body, content_type="application/json")


@pytest.fixture
async def refusing() -> AsyncIterator[tuple[Refusing, McpServer]]:
    server = Refusing()
    app = web.Application()
    app.router.add_route("*", "/mcp", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    url = f"http://127.0.0.1:{port}/mcp"
    yield server, McpServer(url=url, protocol="legacy", scope="worker", connect_timeout=BOUND_S)
    server.slow.set()
    await runner.cleanup()


@pytest.mark.parametrize("form", ["json", "events", "status", "text"])
async def test_an_error_of_a_remote_server_is_its_answer_and_nothing_else_ends(
    serve: Serve, refusing: tuple[Refusing, McpServer], form: str
) -> None:
    server, entry = refusing
    servers = serve(count=entry)
    toolbox, other = servers.toolbox("a"), servers.toolbox("b")
    await toolbox.definitions()
    running = asyncio.create_task(call(other, "slow"))
    await until(lambda: servers.connections()[0]["calls"] == 1, "the other session's call is sent")

    answers = [await call(toolbox, "refuse", error=error, form=form) for error in ERRORS]

    assert all(map(is_an_answer, answers))
    assert server.calls == len(ERRORS)
    server.slow.set()
    assert (await running).text == "slow but sure"
    assert servers.connections()[0]["starts"] == 1


async def test_a_server_whose_first_answer_is_an_error_is_told_in_its_own_words(serve: Serve, tmp_path: Path) -> None:
    script = (
        'import json, sys\nfor line in sys.stdin:\n    number = json.loads(line)["id"]\n'
        '    error = {"code": -32000, "message": "no licence"}\n'
        '    print(json.dumps({"jsonrpc": "2.0", "id": number, "error": error}), flush=True)\n'
    )
    (tmp_path / "server.py").write_text(script)
    toolbox = serve(count=McpServer(command="python3", args=(str(tmp_path / "server.py"),))).toolbox("a")

    assert (await toolbox.definitions()).joined == b""

    assert "no licence" in (toolbox.notice or "")
