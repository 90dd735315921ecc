#!/usr/bin/env bash
# llama.cpp's server refuses a whole request because one property of one tool may be anything.
#
# Software:  llama.cpp b11549 (wheel xllamacpp 2026.10.11549)
# Expected:  "true" is a schema like {} (JSON Schema since draft 6, section 4.3.2): both allow any value; servers that
#            turn schemas into grammars take {} and could take true the same way
# Seen:      {} is taken; true is 400 "schema must be an object". The message gives the path inside the schema, not the
#            tool, and no other tool of the request can be used either
# Matters:   generators of tool schemas write true for "any value" (and for additionalProperties); one such tool among a
#            hundred, from somebody else's MCP server, ends every request of every conversation
#
# Exit code 0 while this is so, 1 when it has changed.
set -euo pipefail
tests=$(cd "$(dirname "$0")/../tests" && pwd)
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install xllamacpp==2026.10.11549
PYTHONPATH="$tests" "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json, subprocess, sys, urllib.error, urllib.request
from pathlib import Path

from real_models import llama_cpp_program
from real_models.formats import write_gguf

folder = Path(sys.argv[1])
write_gguf(folder / "model.gguf")
wanted = {"model": str(folder / "model.gguf"), "window": 4096, "slots": 1, "memory": 3 * 2**30, "log": str(folder / "log")}
command = [sys.executable, llama_cpp_program.__file__, json.dumps(wanted)]


def status(url: str, anything: object) -> int:
    """Of a request with a sound tool, and one whose property ``value`` has this schema."""
    named = {"note": {"type": "object", "properties": {"text": {"type": "string"}}},
             "put": {"type": "object", "properties": {"value": anything}}}
    tools = [{"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in named.items()]
    body = json.dumps({"messages": [{"role": "user", "content": "hello"}], "tools": tools}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/chat/completions", body)) as answer:
            print(f"value: {json.dumps(anything):4} ->", answer.status)
            return answer.status
    except urllib.error.HTTPError as error:
        print(f"value: {json.dumps(anything):4} ->", error.code, json.load(error)["error"]["message"])
        return error.code


with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
    try:
        url = json.loads(server.stdout.readline())["url"]
        seen = [status(url, anything) for anything in ({}, True)]
    finally:
        server.stdin.close()
sys.exit(0 if seen == [200, 400] else 1)
PYTHON
