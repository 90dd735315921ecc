#!/usr/bin/env bash
# The client of the Python SDK reads the tools of an older server by a newer specification, and one tool costs the whole list.
#
# Software:  mcp 2.3.0 (the official Python SDK), its client, with a server that agrees on the protocol 2025-06-18
# Expected:  the two tools of the server. A tool of 2025-06-18 has no field "icons", and the schema of that version forbids
#            none that it does not name, so a server may have put a text of its own there. At least the other tool is listed
# Seen:      list_tools raises a ValidationError for the whole answer: the field is read as 2025-11-25 defines it, which is
#            a list of objects. The same server without the field lists both tools
# Matters:   a host loses every tool of a server for one field that it does not use; it has to read the answer itself to
#            leave out what it cannot read and keep the rest
#
# Exit code 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cat >"$folder/server.py" <<'PYTHON'
"""A server of 2025-06-18 on stdio; its argument is the JSON of fields that one of its two tools has besides."""

import json, sys

more = json.loads(sys.argv[1])
tools = [{"name": "plain", "inputSchema": {"type": "object"}}, {"name": "own", "inputSchema": {"type": "object"}, **more}]
answers = {
    "initialize": {
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "older", "version": "1"},
    },
    "tools/list": {"tools": tools},
}
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    if message["method"] in answers:
        answer["result"] = answers[message["method"]]
    else:
        answer["error"] = {"code": -32601, "message": "Method not found"}
    print(json.dumps(answer), flush=True)
PYTHON
cat >"$folder/look.py" <<'PYTHON'
import asyncio, importlib.metadata, json, sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


async def listed(fields: dict[str, object]) -> list[str] | None:
    """The names of the tools, or None where the answer was refused."""
    command = StdioServerParameters(command=sys.executable, args=[sys.argv[1], json.dumps(fields)])
    async with stdio_client(command) as streams, ClientSession(*streams) as session:
        agreed = await session.initialize()
        try:
            names = [tool.name for tool in (await session.list_tools()).tools]
        except ValueError as error:  # pydantic's ValidationError is one
            print(f"  {agreed.protocol_version}, {fields}: {type(error).__name__}:", *str(error).splitlines()[:3])
            return None
    print(f"  {agreed.protocol_version}, {fields}: {names}")
    return names


print("mcp", importlib.metadata.version("mcp"))
without, with_own = (asyncio.run(listed(fields)) for fields in ({}, {"icons": "wrench"}))
sys.exit(0 if without == ["plain", "own"] and with_own is None else 1)
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install mcp==2.3.0
"$folder/venv/bin/python" "$folder/look.py" "$folder/server.py"
