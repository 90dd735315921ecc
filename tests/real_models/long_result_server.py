"""A stdio MCP server whose one tool, ``get_current_time``, says more than a model can read: python -S … CHARACTERS

Standard library only. It says the time first, so that what is left of a shortened result can be told.
"""

from __future__ import annotations

import json
import sys
from typing import Any

BEGINNING = "It is noon, and this is the beginning of a long story."


def answered(number: Any, result: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", "id": number, "result": result}), flush=True)  # noqa: T201  # the protocol


def main(characters: int) -> None:
    zone = {"type": "object", "properties": {"timezone": {"type": "string"}}}
    tool = {"name": "get_current_time", "description": "Says the time, and more.", "inputSchema": zone}
    for line in sys.stdin:
        match json.loads(line):
            case {"method": "initialize", "id": number}:
                info = {"name": "long", "version": "1"}
                answered(number, {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info})
            case {"method": "tools/list", "id": number}:
                answered(number, {"tools": [tool]})
            case {"method": "tools/call", "id": number}:
                text = (BEGINNING + " word" * (characters // 5))[:characters]
                answered(number, {"content": [{"type": "text", "text": text}]})
            case {"id": number}:
                error = {"code": -32601, "message": "no such method"}
                print(json.dumps({"jsonrpc": "2.0", "id": number, "error": error}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]))
