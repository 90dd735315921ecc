#!/usr/bin/env bash
# A text tool of the Python SDK says its text twice, and the second time not in the form that the first one has.
#
# Software:  mcp 1.30.0 and 2.3.0 (the official Python SDK), a tool that is declared "-> str"
# Expected:  text content, as TypeScript servers answer; or, where structuredContent is given, the text that goes with it
#            is its serialization (specification of 2025-11-25, server/tools, structured content), so that a client can
#            see that both say the same
# Seen:      content is the text, structuredContent is {"result": the text}; where the text is JSON itself, it is in there
#            once more, quoted
# Matters:   a host that gives its model both spends twice the tokens on each answer of most Python servers; one that
#            compares them as JSON takes them for different
#
# Exit code 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cat >"$folder/look.py" <<'PYTHON'
import asyncio, importlib.metadata, json, sys

try:
    from mcp.server import MCPServer as Server  # 2.x
except ImportError:
    from mcp.server.fastmcp import FastMCP as Server  # 1.x

ROWS = json.dumps({"rows": [1, 2]})
server = Server("texts")


@server.tool()
def rows() -> str:
    """Rows, as JSON."""
    return ROWS


async def main() -> bool:
    if hasattr(server, "run_stdio_async") and importlib.metadata.version("mcp").startswith("1."):
        from mcp.shared.memory import create_connected_server_and_client_session as connected
        async with connected(server._mcp_server) as client:
            result = await client.call_tool("rows", {})
            structured = result.structuredContent
    else:
        from mcp import Client
        async with Client(server) as client:
            result = await client.call_tool("rows", {})
            structured = result.structured_content
    text = result.content[0].text
    print("mcp", importlib.metadata.version("mcp"))
    print("  content:          ", text)
    print("  structuredContent:", json.dumps(structured))
    return text == ROWS and structured == {"result": ROWS}


sys.exit(0 if asyncio.run(main()) else 1)
PYTHON
for version in 1.30.0 2.3.0; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" --quiet --disable-pip-version-check install "mcp==$version"
    "$folder/$version/bin/python" "$folder/look.py"
done
