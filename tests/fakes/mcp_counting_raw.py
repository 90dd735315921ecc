"""A small stdio server without the SDK, quick to start, that does what a good server would not.

    python -S mcp_counting_raw.py DIRECTORY [steady | short | useless | untold | slow | paged | obedient]

Its tool ``grow`` has it list one more, ``grown``, without a word; ``shrink`` takes that back. ``slow`` answers nothing
before ``DIRECTORY/ready`` exists, ``paged`` lists the same page for ever,
``obedient`` answers what is cancelled, ``short`` ends after each answer to a call,
``useless`` after its listing once ``DIRECTORY/known`` exists, ``untold`` lists a tool besides whose schema has a number
of more than 64 bits. It reads one message at a time and never takes a call back. Notes are those of
``mcp_counting_server.py``. Standard library only.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from pathlib import Path
from typing import Any

HERE, MODE = Path(sys.argv[1]), (sys.argv[2:] or ["steady"])[0]
ANYTHING = {"type": "object"}
TOOLS = (
    "echo",
    "pid",
    "count",
    "work",
    "big",
    "endless",
    "variable",
    "garbled",
    "spawn",
    "mute",
    "refuse",
    "grow",
    "shrink",
    "late",
)


GROWN: list[str] = []
LATE: list[int] = []  # calls that are answered later


def note(name: str, line: str) -> None:
    with (HERE / name).open("ab", buffering=0) as file:
        file.write(line.encode() + b"\n")


def say(message: bytes) -> None:
    sys.stdout.buffer.write(message + b"\n")
    sys.stdout.buffer.flush()


def answered(number: int, result: Any) -> None:
    say(json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode())


def text(number: int, words: str, *, is_error: bool = False) -> None:
    answered(number, {"content": [{"type": "text", "text": words}], "isError": is_error})


def call(number: int, tool: str, given: dict[str, Any]) -> None:
    note("calls", f"{os.getpid()} {tool}")
    match tool:
        case "echo":
            text(number, given["text"])
        case "pid":
            text(number, str(os.getpid()))
        case "count":
            note("counted", given["id"])
            select.select([sys.stdin], [], [], given.get("seconds", 0))  # or until the client says more, or goes
            text(number, f"counted {given['id']}")
        case "work":  # to the end, whatever happens
            time.sleep(given["seconds"])
            note("calls", f"{os.getpid()} worked")
            text(number, "worked")
        case "big":  # so many bytes, the id before or after them
            body = (
                b"[" + b"[]," * (given["bytes"] // 3) + b"[]]"
                if given.get("dense")
                else b'"%s"' % (b"x" * given["bytes"])
            )
            result = b'"result":{"content":[],"structuredContent":{"all":%s}}' % body
            edge = b'"jsonrpc":"2.0","id":%d' % number
            say(b"{" + (result + b"," + edge if given.get("id_last") else edge + b"," + result) + b"}")
        case "endless":
            while True:
                sys.stdout.buffer.write(b"x" * 1024 * 1024)
        case "variable":
            text(number, os.environ.get(given["name"], "(not set)"))
        case "garbled":
            say(b'{"jsonrpc":"2.0","id":%d,"result":{"content":' % number)
        case "refuse":  # with an error of any form, after so much stray output
            sys.stdout.buffer.write(given.get("printed", "").encode())
            say(json.dumps({"jsonrpc": "2.0", "id": number, "error": given["error"]}).encode())
        case "grow" | "shrink" as how:
            GROWN[:] = ["grown"] if how == "grow" else []
            text(number, how)
        case "grown":
            text(number, "I am new") if GROWN else text(number, "Unknown tool: grown", is_error=True)
        case "late":  # its answer comes with that to the next message
            LATE.append(number)
        case "mute":  # for ever, while it does what else it is asked
            pass
        case "spawn":
            text(number, str(os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "300")))


def main() -> None:
    note("starts", str(os.getpid()))
    while MODE == "slow" and not (HERE / "ready").exists():
        time.sleep(0.02)
    for line in sys.stdin.buffer:
        message = json.loads(line)
        while LATE and message.get("id") is not None:
            text(LATE.pop(), "late")
        match message:
            case {"method": "initialize", "id": number}:
                info = {"name": "raw", "version": "1"}
                answered(number, {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info})
            case {"method": "tools/list", "id": number}:
                note("listings", str(os.getpid()))
                tools = [{"name": name, "inputSchema": ANYTHING} for name in (*TOOLS, *GROWN)]
                if MODE == "untold":
                    tools.append({"name": "huge", "inputSchema": {**ANYTHING, "maxProperties": 2**64}})
                answered(number, {"tools": tools, "nextCursor": "more" if MODE == "paged" else None})
                if MODE == "useless" and (HERE / "known").exists():
                    return
            case {"method": "tools/call", "id": number, "params": params}:
                call(number, params["name"], params.get("arguments", {}))
                if MODE == "short":
                    return
            case {"method": "notifications/cancelled", "params": {"requestId": number}} if MODE == "obedient":
                error = {"code": 0, "message": "Request cancelled"}
                say(json.dumps({"jsonrpc": "2.0", "id": number, "error": error}).encode())
            case {"method": "server/discover", "id": number}:
                note("questions", str(os.getpid()))
                say(b'{"jsonrpc":"2.0","id":%d,"error":{"code":-32601,"message":"no such method"}}' % number)
            case {"id": number}:
                say(b'{"jsonrpc":"2.0","id":%d,"error":{"code":-32601,"message":"no such method"}}' % number)


if __name__ == "__main__":
    main()
