"""A real MCP server, made with the official SDK, that offers all that is not a tool too: ``python … [MODE]``.

Mode ``bare`` has a tool and nothing else, ``loud`` dies at its start with words on stderr.
"""

from __future__ import annotations

import sys

from mcp.server import MCPServer
from mcp.server.mcpserver import Image
from mcp.server.mcpserver.prompts.base import AssistantMessage, Message, UserMessage

MODE = sys.argv[1] if len(sys.argv) > 1 else "full"

if MODE == "loud":
    sys.stderr.write("loading\nError: no contexts are defined\x1b[31m in kubeconfig\n")
    sys.exit(3)

server = MCPServer("offering", version="1.2.3", instructions="Call look first.\nThen " + "act " * 900)


@server.tool()
def look() -> str:
    """Look."""
    return "seen"


if MODE == "full":

    @server.prompt()
    def plain() -> str:
        """A prompt without arguments."""
        return "Say hello."

    @server.prompt()
    def weather(city: str, unit: str = "C") -> list[Message]:
        """Ask for the weather."""
        return [UserMessage(f"Weather in {city}?"), AssistantMessage(f"In {unit}: ")]

    @server.prompt()
    def broken(city: str) -> str:
        """Fail."""
        raise ValueError(f"no such city: {city}")

    @server.resource("note://one", mime_type="text/plain")
    def one() -> str:
        """The first note."""
        return "note one"

    @server.resource("note://picture", mime_type="image/png")
    def picture() -> bytes:
        """A picture."""
        data = Image(data=PIXEL, format="png").data
        assert data is not None
        return data

    @server.resource("note://of/{name}")
    def of(name: str) -> str:
        """The note of somebody."""
        return f"note of {name}"


PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6364f8cf500f0003060180"
    "5a347d6b0000000049454e44ae426082"
)

server.run("stdio")
