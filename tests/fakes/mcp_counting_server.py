"""A real MCP server, made with the official SDK, that counts its starts and calls and misbehaves when asked to.

    python mcp_counting_server.py DIRECTORY [stdio | http PORT | silent | crash | stubborn]

Each start appends its pid to ``DIRECTORY/starts``, each call ``<pid> <tool>`` to ``DIRECTORY/calls``.
It speaks both eras of the protocol, as its client wishes.
"""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Image

HERE = Path(sys.argv[1])
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

server = MCPServer("counting")


def note(name: str, line: str) -> None:
    """Append a line in one write: several processes do."""
    with (HERE / name).open("ab", buffering=0) as file:
        file.write(line.encode() + b"\n")


def called(tool: str) -> None:
    note("calls", f"{os.getpid()} {tool}")


@server.tool()
def echo(text: str) -> str:
    """Give the text back."""
    called("echo")
    return text


@server.tool()
def pid() -> int:
    """The server's process id."""
    called("pid")
    return os.getpid()


@server.tool()
async def sleep(seconds: float) -> str:
    """Sleep without a word."""
    called("sleep")
    await asyncio.sleep(seconds)
    return "slept"


@server.tool()
async def block(seconds: float) -> str:
    """Sleep, deaf to everything."""
    called("block")
    time.sleep(seconds)  # noqa: ASYNC251  # that is the fault to be shown
    return "slept"


@server.tool()
async def progress(steps: int, seconds: float, ctx: Context[Any, Any]) -> str:
    """Sleep between steps, each reported."""
    called("progress")
    for step in range(steps):
        await asyncio.sleep(seconds)
        await ctx.report_progress(step + 1, steps, "still at it")
    return "done"


@server.tool()
def boom() -> str:
    """Fail."""
    called("boom")
    raise ValueError("boom")


@server.tool()
def crash() -> str:
    """End the server at once."""
    called("crash")
    os._exit(3)


@server.tool()
def spawn_child(seconds: float, *, leave_group: bool = False) -> int:
    """Start a process that outlives its call, and may leave the process group; its pid."""
    called("spawn_child")
    command = ["sleep", str(seconds)]
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(command, start_new_session=leave_group, stdin=quiet, stdout=quiet, stderr=quiet)
    return child.pid


@server.tool()
def big(characters: int) -> str:
    """A long text."""
    called("big")
    return "x" * characters


@server.tool()
def image() -> Image:
    """A picture of one pixel."""
    called("image")
    return Image(data=PIXEL, format="png")


@server.tool()
def variable(name: str) -> str:
    """A variable of the server's environment."""
    called("variable")
    return os.environ.get(name, "(not set)")


@server.tool()
async def grow(ctx: Context[Any, Any]) -> str:
    """Offer one more tool, named grown, and say so."""
    called("grow")

    def grown() -> str:
        called("grown")
        return "grown"

    server.add_tool(grown, name="grown")
    await ctx.notify_tools_changed()
    await ctx.request_context.session.send_tool_list_changed()
    return "grown"


def main(mode: str = "stdio", port: str = "0") -> None:
    """Serve in one way or the other."""
    note("starts", str(os.getpid()))
    match mode:
        case "http":
            server.run("streamable-http", host="127.0.0.1", port=int(port))
        case "silent":
            time.sleep(3600)
        case "crash":
            sys.exit("no good")
        case "stubborn":  # ends neither by EOF nor by SIGTERM
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            try:
                server.run("stdio")
            finally:
                time.sleep(3600)
        case _:
            server.run("stdio")


if __name__ == "__main__":
    main(*sys.argv[2:])
