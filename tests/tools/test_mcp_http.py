"""Remote servers: what a broken connection means for a call, and how a connection comes back."""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from aiohttp import web
from fakes.mcp_counting import BOUND_S, Counting, call, free_port, until
from fakes.virtual_time import step
from structlog.testing import capture_logs

from hermes_actors.config.model import McpServer
from workers.tools import connection, streamable_http
from workers.tools.servers import ToolServers
from workers.tools.toolbox import Toolbox

Serve = Callable[..., ToolServers]


def remote(port: int, **settings: Any) -> McpServer:
    return McpServer(**{"url": f"http://127.0.0.1:{port}/mcp", "connect_timeout": BOUND_S, **settings})


async def is_answered(toolbox: Toolbox) -> bool:
    return (await call(toolbox, "echo", text="back")).text == "back"


RELEASED = web.AppKey("released", asyncio.Event)
OPEN = web.AppKey("open", set[asyncio.Task[Any]])


@asynccontextmanager
async def answering(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
    released: asyncio.Event | None = None,
    unanswered: set[asyncio.Task[Any]] | None = None,
) -> AsyncIterator[int]:
    """A web server that is no good MCP server; its port."""
    app = web.Application()
    app[RELEASED] = released or asyncio.Event()
    app[OPEN] = set() if unanswered is None else unanswered
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield port
    finally:
        await runner.cleanup()


def answer_to(message: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


async def misbehave(request: web.Request) -> web.StreamResponse:
    """A server of the older protocol whose tools are ways to answer badly; ``slow`` answers well, after the others."""
    message = await request.json() if request.can_read_body else {}
    match message:
        case {"method": "initialize"}:
            info = {"name": "bad", "version": "1"}
            about = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
            return web.json_response(answer_to(message, about))
        case {"method": "tools/list"}:
            names = ("slow", "cut", "bomb", "hang", "drip", "resume")
            tools = [{"name": name, "inputSchema": {"type": "object"}} for name in names]
            return web.json_response(answer_to(message, {"tools": tools}))
        case {"method": "tools/call", "params": {"name": "slow"}}:
            await request.app[RELEASED].wait()
            return web.json_response(answer_to(message, {"content": [{"type": "text", "text": "slow but sure"}]}))
        case {"method": "tools/call", "params": {"name": "cut"}}:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            await response.write(b": that is all\n\n")
            return response
        case {"method": "tools/call", "params": {"name": "bomb"}}:
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            return web.Response(body=gzip.compress(b" " * 100_000_000, 1), headers=headers)
        case {"method": "tools/call", "params": {"name": "hang" | "drip" | "resume" as name}}:
            return await never_answer(request, name)
        case {"method": "notifications/cancelled"}:
            await never_answer(request, "hang")
    if "Last-Event-ID" in request.headers:
        return await never_answer(request, "drip")
    return web.Response(status=202)


async def never_answer(request: web.Request, how: str) -> web.StreamResponse:
    """Not a word, a comment now and then, or a promise to answer another request."""
    task = asyncio.current_task()
    assert task is not None
    request.app[OPEN].add(task)
    task.add_done_callback(request.app[OPEN].discard)
    if how == "hang":
        await asyncio.sleep(3600)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"id: 1\nretry: 1\ndata:\n\n" if how == "resume" else b": still here\n\n")
    while how == "drip":
        await asyncio.sleep(0.02)
        await response.write(b": still here\n\n")
    return response


@pytest.mark.parametrize("protocol", ["auto", "legacy"])
async def test_a_server_that_dies_during_a_call_costs_that_call_and_is_used_again_when_it_is_back(
    serve: Serve, counting: Counting, protocol: str
) -> None:
    port = free_port()
    counting.start_http(port)
    toolbox = serve(count=remote(port, protocol=protocol)).toolbox("a")
    await toolbox.definitions()
    calling = asyncio.create_task(call(toolbox, "sleep", seconds=60))
    await until(lambda: counting.calls == ["sleep"], "the call arrived")

    counting.kill_http()

    assert (await calling).outcome == "unknown"
    down = await call(toolbox, "echo", text="down")
    assert down.outcome == "not_sent"
    counting.start_http(port)
    await until(lambda: is_answered(toolbox), "calls are answered again")
    assert counting.calls == ["sleep", "echo"]


@pytest.mark.parametrize("protocol", ["auto", "legacy"])
async def test_a_server_that_restarts_while_idle_costs_no_call(serve: Serve, counting: Counting, protocol: str) -> None:
    port = free_port()
    counting.start_http(port)
    toolbox = serve(count=remote(port, protocol=protocol)).toolbox("a")
    await toolbox.definitions()
    assert (await call(toolbox, "echo", text="before")).text == "before"

    counting.kill_http()
    counting.start_http(port)

    assert (await call(toolbox, "echo", text="after")).text == "after"
    assert counting.calls == ["echo", "echo"]


async def test_sessions_of_one_remote_server_run_their_calls_at_the_same_time(serve: Serve, counting: Counting) -> None:
    port = free_port()
    counting.start_http(port)
    servers = serve(count=remote(port, scope="worker"))
    toolboxes = [servers.toolbox(str(number)) for number in range(3)]
    await asyncio.gather(*(toolbox.definitions() for toolbox in toolboxes))
    calling = [asyncio.create_task(call(toolbox, "sleep", seconds=60)) for toolbox in toolboxes]
    await until(lambda: len(counting.calls) == 3, "all calls arrived")

    for each in calling:
        each.cancel()
    await asyncio.gather(*calling, return_exceptions=True)

    assert (await call(toolboxes[0], "echo", text="on")).text == "on"
    assert len(servers.connections()) == 1


@pytest.mark.parametrize("protocol", ["auto", "legacy"])
async def test_closing_does_not_wait_for_a_server_that_hangs(
    serve: Serve, counting: Counting, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.setattr(connection, "CLOSE_GRACE_S", 0.2)
    port = free_port()
    counting.start_http(port)
    servers = serve(count=remote(port, protocol=protocol))
    toolbox = servers.toolbox("a")
    await toolbox.definitions()
    os.kill(counting.starts[0], signal.SIGSTOP)

    async with asyncio.timeout(BOUND_S):
        await toolbox.close()

    assert servers.connections() == []
    assert "mcp count" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_headers_are_sent_and_a_refusal_names_its_status(serve: Serve) -> None:
    seen: list[str] = []

    async def refuse(request: web.Request) -> web.Response:
        seen.append(request.headers.get("authorization", ""))
        return web.Response(status=401, text="<html>who are you</html>")

    async with answering(refuse) as port:
        entry = remote(port, headers={"Authorization": "Bearer ${TOKEN}"})
        toolbox = serve({"TOKEN": "s3cret"}, count=entry).toolbox("a")

        assert (await toolbox.definitions()).joined == b""

    assert "HTTP 401" in (toolbox.notice or "")
    assert set(seen) == {"Bearer s3cret"}


async def test_what_a_server_says_of_its_failure_is_told_and_not_logged(serve: Serve) -> None:
    async def echo(request: web.Request) -> web.Response:
        words = {"code": -32603, "message": f"bad token {request.headers['authorization']}"}
        number = (await request.json()).get("id")
        return web.json_response({"jsonrpc": "2.0", "id": number, "error": words}, status=400)

    async with answering(echo) as port:
        entry = remote(port, protocol="legacy", headers={"Authorization": "s3cret"})
        servers = serve(count=entry)
        with capture_logs() as logged:
            await servers.toolbox("a").definitions()

    assert "bad token s3cret" in servers.connections()[0]["last_error"]
    assert "s3cret" not in str(logged)
    down = next(line for line in logged if line["event"] == "mcp server down")
    assert down["why"] == "an error of the server (-32603)"


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_within_the_origin_is_followed(serve: Serve, status: int) -> None:
    released = asyncio.Event()
    released.set()

    async def redirect(request: web.Request) -> web.StreamResponse:
        if request.path == "/mcp":
            return web.Response(status=status, headers={"Location": "/mcp/"})
        return await misbehave(request)

    async with answering(redirect, released) as port:
        toolbox = serve(count=remote(port, protocol="legacy")).toolbox("a")
        await toolbox.definitions()

        assert toolbox.notice is None
        assert (await call(toolbox, "slow")).text == "slow but sure"


@pytest.mark.parametrize("protocol", ["auto", "legacy"])
async def test_a_redirect_to_another_origin_is_not_followed_and_said(serve: Serve, protocol: str) -> None:
    elsewhere: list[web.Request] = []

    async def note(request: web.Request) -> web.Response:
        elsewhere.append(request)
        return web.Response(status=401)

    async with answering(note) as other:

        async def redirect(request: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": f"http://127.0.0.1:{other}/mcp"})

        async with answering(redirect) as port:
            entry = remote(port, protocol=protocol, headers={"Authorization": "Bearer s3cret", "X-Key": "s3cret"})
            toolbox = serve(count=entry).toolbox("a")

            assert (await toolbox.definitions()).joined == b""

    assert "not followed" in (toolbox.notice or "")
    assert elsewhere == []


async def test_a_silent_server_is_given_up_after_its_connect_timeout(serve: Serve) -> None:
    over = asyncio.Event()

    async def hang(request: web.Request) -> web.Response:
        await over.wait()
        return web.Response()

    async with answering(hang) as port:
        toolbox = serve(count=remote(port, connect_timeout=0.3)).toolbox("a")

        assert (await toolbox.definitions()).joined == b""

        assert "no answer within 0.3 s" in (toolbox.notice or "")
        over.set()


async def test_a_server_that_is_not_there_is_said_to_be_unreachable(serve: Serve) -> None:
    toolbox = serve(count=remote(free_port())).toolbox("a")

    assert (await toolbox.definitions()).joined == b""

    assert "cannot connect" in (toolbox.notice or "")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (httpx2.ConnectTimeout(""), "cannot connect: ConnectTimeout"),
        (httpx2.ReadError(""), "before the answer: ReadError"),
        (httpx2.ReadError("reset"), "before the answer: reset"),
    ],
)
async def test_an_error_without_words_is_named(error: httpx2.TransportError, said: str) -> None:
    def fail(_: httpx2.Request) -> httpx2.Response:
        raise error

    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    async with streamable_http._HttpClient(
        lambda _: None, lambda _: None, transport=httpx2.MockTransport(fail)
    ) as client:
        response = await client.post("http://127.0.0.1/mcp", json=request)

    assert said in response.json()["error"]["message"]


@pytest.mark.parametrize("protocol", ["auto", "legacy"])
async def test_an_answer_that_is_too_large_costs_its_call_alone(
    serve: Serve, counting: Counting, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.setattr(streamable_http, "MAX_MESSAGE_BYTES", 1_000_000)
    port = free_port()
    counting.start_http(port)
    servers = serve(count=remote(port, protocol=protocol))
    toolbox = servers.toolbox("a")
    await toolbox.definitions()

    big, other = await asyncio.gather(call(toolbox, "big", characters=3_000_000), call(toolbox, "echo", text="hi"))

    assert big.outcome == "tool_error"
    assert "ask for less" in big.text
    assert other.text == "hi"
    assert servers.connections()[0]["starts"] == 1


@pytest.mark.parametrize(("tool", "said"), [("cut", "outcome of the call is unknown"), ("bomb", "ask for less")])
async def test_an_answer_that_is_cut_or_swells_costs_its_call_alone(serve: Serve, tool: str, said: str) -> None:
    released = asyncio.Event()
    async with answering(misbehave, released) as port:
        servers = serve(count=remote(port, protocol="legacy", scope="worker"))
        toolbox, other = servers.toolbox("a"), servers.toolbox("b")
        await toolbox.definitions()
        running = asyncio.create_task(call(other, "slow"))
        await until(lambda: servers.connections()[0]["calls"] == 1, "the other call is sent")

        assert said in (await call(toolbox, tool)).text

        await step()
        assert servers.live == 1
        released.set()
        assert (await running).text == "slow but sure"
        assert servers.connections()[0]["starts"] == 1


@pytest.mark.parametrize("tool", ["hang", "drip", "resume"])
async def test_nothing_is_left_of_calls_that_timed_out_or_were_cancelled(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    monkeypatch.setattr(streamable_http, "NOTICE_TIMEOUT_S", 0.1)  # the server takes no notices
    unanswered: set[asyncio.Task[Any]] = set()
    released = asyncio.Event()
    released.set()
    async with answering(misbehave, released, unanswered) as port:
        servers = serve(count=remote(port, protocol="legacy", scope="worker", timeout=0.3))
        toolbox = servers.toolbox("a")
        await toolbox.definitions()
        before = len(asyncio.all_tasks())

        for _ in range(3):
            late, quick = await asyncio.gather(call(toolbox, tool), call(toolbox, "slow"))
            assert (late.outcome, quick.text) == ("unknown", "slow but sure")
        cancelled = [asyncio.create_task(call(toolbox, tool)) for _ in range(3)]
        await until(lambda: unanswered, "a call is at the server")
        for each in cancelled:
            each.cancel()

        await until(lambda: not unanswered, "nothing is open at the server")
        await until(lambda: len(asyncio.all_tasks()) <= before, "no task is left")
        assert servers.connections()[0]["starts"] == 1


async def test_a_server_that_takes_no_notices_goes_on_to_answer_calls(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamable_http, "NOTICE_TIMEOUT_S", 0.1)
    released = asyncio.Event()
    released.set()
    async with answering(misbehave, released) as port:
        toolbox = serve(count=remote(port, protocol="legacy", timeout=1.0)).toolbox("a")
        await toolbox.definitions()

        assert (await call(toolbox, "hang")).outcome == "unknown"

        assert (await call(toolbox, "slow")).text == "slow but sure"
