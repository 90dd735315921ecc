"""A process that owns an MCP server until it is killed: ``owner_process.py LOGS ENTRY_AS_JSON``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop
from fakes.mcp_counting import call

from hermes_actors.config.model import McpServer
from workers.tools.servers import ToolServers


async def main(logs: str, entry: str) -> None:
    servers = {"count": McpServer.model_validate_json(entry)}
    toolbox = ToolServers(servers, {}, owner_mark=f"{logs}:boot:0:1:", home=Path(logs), logs=Path(logs)).toolbox("a")
    await toolbox.definitions()
    await call(toolbox, "pid")
    await asyncio.sleep(300)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
