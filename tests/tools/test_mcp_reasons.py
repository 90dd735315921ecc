"""What an operator gets to know of a server that fails, and a model and the log do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from fakes.mcp_counting import BOUND_S
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from hermes_actors.config.model import McpServer
from workers.tools import entry
from workers.tools.reasons import MAX_BODY_CHARS, MAX_LINES, MAX_LINES_CHARS, last_words, shown, size_of
from workers.tools.servers import ToolServers

Serve = Callable[..., ToolServers]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers start slowly on a busy machine."""
    monkeypatch.setattr(entry, "TURN_WAIT_S", BOUND_S)


def sh(script: str) -> McpServer:
    return McpServer(command="sh", args=("-c", script), connect_timeout=BOUND_S)


@pytest.mark.parametrize(
    ("script", "detail"),
    [
        ("echo no contexts are defined >&2; exit 1", "no contexts are defined"),
        ("seq 1 9 >&2; exit 1", "5\n6\n7\n8\n9"),
        ("printf 'half a line' >&2; exec >&-; exit 0", "half a line"),
    ],
)
async def test_an_operator_gets_what_a_server_said_last_and_nobody_else_does(
    serve: Serve, tmp_path: Path, script: str, detail: str
) -> None:
    (tmp_path / "mcp-loud.log").write_text("of an earlier start\n")
    servers = serve(loud=sh(script))
    toolbox = servers.toolbox("a")

    with capture_logs() as logged:
        await toolbox.definitions()

    (connection,) = servers.connections()
    assert connection["detail"] == detail
    assert "see logs/mcp-loud.log" in connection["last_error"]
    told = f"{toolbox.notice} {logged} {connection['last_error']}"
    assert detail.splitlines()[-1] not in told or len(detail.splitlines()[-1]) == 1


@pytest.mark.parametrize(
    ("status", "body", "detail"),
    [
        (403, "Access is only allowed at\n localhost:8931\x1b[0m", "Access is only allowed at localhost:8931 [0m"),
        (421, "Invalid Host header", "Invalid Host header"),
        (500, "x" * 1000, "x" * (MAX_BODY_CHARS - 1) + "…"),
        (401, "", None),
    ],
)
async def test_an_operator_gets_the_words_of_an_http_error(
    serve: Serve, status: int, body: str, detail: str | None
) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body)

    app = web.Application()
    app.router.add_route("*", "/mcp", refuse)
    async with TestServer(app) as server:
        servers = serve(web=McpServer(url=str(server.make_url("/mcp"))))
        toolbox = servers.toolbox("a")
        with capture_logs() as logged:
            await toolbox.definitions()

        (connection,) = servers.connections()
    assert connection["detail"] == detail
    assert f"HTTP {status}" in connection["last_error"]
    assert not body or body[:20] not in f"{toolbox.notice} {logged}"


@pytest.mark.parametrize(("path", "hinted"), [("/sse", True), ("/x/sse/", True), ("/mcp", False), ("/assess", False)])
async def test_the_address_of_the_old_transport_gets_a_hint(serve: Serve, path: str, hinted: bool) -> None:
    async with TestServer(web.Application()) as server:
        servers = serve(old=McpServer(url=str(server.make_url(path))))
        toolbox = servers.toolbox("a")
        await toolbox.definitions()

    assert ("try /mcp" in (toolbox.notice or "")) == hinted


@given(st.binary(max_size=9_000))
def test_what_is_shown_of_a_body_is_short_and_printable(body: bytes) -> None:
    assert len(shown(body)) <= MAX_BODY_CHARS
    assert shown(body).isprintable()


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=400), max_size=30))
def test_the_last_words_in_a_log_are_few_and_its_own(tmp_path: Path, lines: list[str]) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"of an earlier start\n")
    since = size_of(log)
    with log.open("ab") as file:
        file.write("\n".join(lines).encode())

    told = last_words(log, since=since)

    assert len(told) <= MAX_LINES_CHARS
    assert told.count("\n") < MAX_LINES * 2 or len(told.split("\n")) <= MAX_LINES
    assert "earlier" not in told
    assert not last_words(tmp_path / "none", since=0)


def test_a_log_that_was_emptied_meanwhile_is_read_from_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("short\n")

    assert last_words(tmp_path / "log", since=1_000) == "short"
