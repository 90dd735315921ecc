#!/usr/bin/env bash
# FastMCP tells clients of the new protocol that it announces no changes of its tools, and announces them all the same.
#
# Software:  fastmcp 4.2.3 (on mcp 2.3.0), stdio
# Expected:  one server, one behaviour: in 2026-07-28 a server that announces changes says listChanged, offers
#            subscriptions/listen, and sends to those who subscribed; one that does not, sends nothing
# Seen:      to a client of 2025-11-25: listChanged true, and the announcement. To a client of 2026-07-28: listChanged
#            false, subscriptions/listen "Method not found", and the announcement all the same, unasked
# Matters:   a client of the new protocol that believes the capability misses tools that a server unlocks while it runs,
#            where the same client in the old protocol finds them; it must heed what was never promised, or list again
#
# Exit code 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install fastmcp==4.2.3 mcp==2.3.0
cat >"$folder/server.py" <<'PYTHON'
import mcp_types
from fastmcp import Context, FastMCP

server = FastMCP("growing")


@server.tool
async def unlock(context: Context) -> str:
    """Add a tool and announce it."""

    @server.tool
    def unlocked() -> str:
        """Was not there before."""
        return "here"

    await context.send_notification(mcp_types.ToolListChangedNotification())
    return "added and announced"


server.run(show_banner=False)
PYTHON
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json, subprocess, sys

NEW = "2026-07-28"
OURS = {"name": "look", "version": "1"}
META = {f"io.modelcontextprotocol/{name}": value for name, value in
        {"protocolVersion": NEW, "clientInfo": OURS, "clientCapabilities": {}}.items()}


class Client:
    """Raw JSON-RPC over stdio; ``told`` has what came unasked."""

    def __init__(self, command):
        self.server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.told, self.answers, self.number = [], {}, 0

    def send(self, method, params, *, request=True):
        self.number += request
        message = {"jsonrpc": "2.0", "method": method, "params": params} | ({"id": self.number} if request else {})
        self.server.stdin.write(json.dumps(message) + "\n")
        self.server.stdin.flush()
        return self.number

    def answer(self, number):
        while number not in self.answers:
            message = json.loads(self.server.stdout.readline())
            if "id" in message:
                self.answers[message["id"]] = message.get("result") or message["error"]
            else:
                self.told.append(message["method"])
        return self.answers[number]

    def ask(self, method, params):
        return self.answer(self.send(method, params))


def seen(modern: bool) -> tuple[bool, list[str], list[str]]:
    """What the server says of itself, what it announces, and its tools afterwards."""
    client = Client([sys.executable, f"{sys.argv[1]}/server.py"])
    meta = {"_meta": META} if modern else {}
    try:
        if modern:
            about = client.ask("server/discover", meta)
            listen = client.ask("subscriptions/listen", meta | {"notifications": {"toolsListChanged": True}})
            print("2026-07-28: subscriptions/listen ->", listen.get("message", listen))
        else:
            about = client.ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": OURS})
            client.send("notifications/initialized", {}, request=False)
        result = client.ask("tools/call", meta | {"name": "unlock", "arguments": {}})
        tools = [tool["name"] for tool in client.ask("tools/list", meta)["tools"]]
        changed = about["capabilities"]["tools"].get("listChanged", False)
        print("2026-07-28:" if modern else "2025-11-25:", "listChanged", changed, "| the tool says:", result["content"][0]["text"],
              "| announced:", client.told, "| tools now:", tools)
        return changed, client.told, tools
    finally:
        client.server.kill()
        client.server.wait()


old, new = seen(False), seen(True)
there = ["unlock", "unlocked"]
sys.exit(0 if old == (True, ["notifications/tools/list_changed"], there) and new == (False, ["notifications/tools/list_changed"], there) else 1)
PYTHON
