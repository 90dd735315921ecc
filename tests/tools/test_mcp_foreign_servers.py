"""Servers that others wrote, in both eras of the protocol: 2026-07-28 from PyPI, 2025-11-25 from npm."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from fakes.mcp_counting import BOUND_S, call
from filelock import FileLock

from hermes_actors.config.model import McpServer
from workers.tools import entry
from workers.tools.servers import ToolServers
from workers.tools.toolbox import Toolbox

Serve = Callable[..., ToolServers]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers start slowly on a busy machine."""
    monkeypatch.setattr(entry, "TURN_WAIT_S", BOUND_S)


NPM_VERSION = "2026.8.31"
NPM_SERVERS = ("everything", "filesystem", "memory")
NPM_INSTALL_S = 100.0


@pytest.fixture(scope="session")
def npm_server() -> Callable[..., McpServer]:
    """Makes configurations of servers from npm, installed once outside of the repository."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("Node and npm are not there")
    cache = os.environ.get("HERMES_ACTORS_TEST_CACHE") or "~/.cache/hermes-actors-tests"
    prefix = Path(cache).expanduser() / f"mcp-servers-{NPM_VERSION}"
    prefix.mkdir(parents=True, exist_ok=True)
    packages = {name: prefix / f"node_modules/@modelcontextprotocol/server-{name}" for name in NPM_SERVERS}
    with FileLock(prefix / "lock"):
        if not (prefix / "complete").exists():
            wanted = [f"@modelcontextprotocol/server-{name}@{NPM_VERSION}" for name in NPM_SERVERS]
            command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(prefix), *wanted]
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=NPM_INSTALL_S)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                pytest.skip(f"npm could not install the servers: {error}")
            (prefix / "complete").touch()

    def entry(name: str, *args: str) -> McpServer:
        script = packages[name] / "dist" / "index.js"
        return McpServer(command="node", args=(str(script), *args), connect_timeout=BOUND_S)

    return entry


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", "-b", "trunk", str(path)], check=True)
    return path


def python_server(module: str, *args: str) -> McpServer:
    return McpServer(command=sys.executable, args=("-m", module, *args), connect_timeout=BOUND_S)


async def offered(toolbox: Toolbox) -> set[str]:
    return {tool["function"]["name"] for tool in orjson.loads((await toolbox.definitions()).joined)}


async def test_servers_from_pypi_are_used(serve: Serve, repository: Path) -> None:
    time = python_server("mcp_server_time", "--local-timezone", "UTC")
    toolbox = serve(time=time, git=python_server("mcp_server_git")).toolbox("a")

    assert {"mcp__time__convert_time", "mcp__git__git_status"} <= await offered(toolbox)
    now, status, wrong = await asyncio.gather(
        call(toolbox, "mcp__time__get_current_time", timezone="Europe/Vienna"),
        call(toolbox, "mcp__git__git_status", repo_path=str(repository)),
        call(toolbox, "mcp__time__get_current_time", timezone="Nowhere/Atall"),
    )

    assert "Europe/Vienna" in now.text
    assert "On branch trunk" in status.text
    assert wrong.outcome == "tool_error"


async def test_servers_from_npm_are_used(serve: Serve, tmp_path: Path, npm_server: Callable[..., McpServer]) -> None:
    (tmp_path / "note.txt").write_text("written by a test")
    servers = serve(
        all=npm_server("everything"), files=npm_server("filesystem", str(tmp_path)), memory=npm_server("memory")
    )
    toolbox = servers.toolbox("a")

    assert {"mcp__all__echo", "mcp__files__read_text_file", "mcp__memory__read_graph"} <= await offered(toolbox)
    echo, picture, links, read, graph = await asyncio.gather(
        call(toolbox, "mcp__all__echo", message="hi"),
        call(toolbox, "mcp__all__get-tiny-image"),
        call(toolbox, "mcp__all__get-resource-links", count=2),
        call(toolbox, "mcp__files__read_text_file", path=str(tmp_path / "note.txt")),
        call(toolbox, "mcp__memory__read_graph"),
    )

    assert "hi" in echo.text
    assert picture.images[0].startswith("data:image/png;base64,")
    assert links.text.count("[resource]") == 2
    assert read.text == "written by a test"
    assert orjson.loads(graph.text) == {"entities": [], "relations": []}
    assert (await call(toolbox, "mcp__files__read_text_file", path="/etc/passwd")).outcome == "tool_error"
