#!/usr/bin/env bash
# llama.cpp's server says "Keep-Alive" and closes the connection after each stream.
#
# Software:  llama.cpp b11549 (wheel xllamacpp 2026.10.11549)
# Expected:  a response of HTTP/1.1 that ends its chunked body, with "Keep-Alive: timeout=5" and without
#            "Connection: close", leaves the connection open for the next request (RFC 9112, section 9.3)
# Seen:      the answer to a plain request leaves it open; a streamed answer is followed by the connection's end at once
# Matters:   a client with a pool puts the connection back and loses its next request to it, now and then, as
#            "connection reset" or "cannot write request body"; a POST cannot be repeated blindly
#
# Exit code 0 while this is so, 1 when it has changed.
set -euo pipefail
tests=$(cd "$(dirname "$0")/../tests" && pwd)
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install xllamacpp==2026.10.11549
PYTHONPATH="$tests" "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import http.client, json, select, subprocess, sys
from pathlib import Path
from urllib.parse import urlsplit

from real_models import llama_cpp_program
from real_models.formats import write_gguf

WAIT_S = 2.0  # less than the five seconds that the server promises

folder = Path(sys.argv[1])
write_gguf(folder / "model.gguf")
wanted = {"model": str(folder / "model.gguf"), "window": 2048, "slots": 1, "memory": 3 * 2**30, "log": str(folder / "log")}
command = [sys.executable, llama_cpp_program.__file__, json.dumps(wanted)]


def closed_after(url: str, stream: bool) -> bool:
    """Whether the server ended the connection within WAIT_S of a whole answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    body = json.dumps({"messages": [{"role": "user", "content": "hello"}], "stream": stream})
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    sock = connection.sock
    answer = connection.getresponse()
    answer.read()
    readable, _, _ = select.select([sock], [], [], WAIT_S)
    closed = bool(readable) and sock.recv(1) == b""
    said = {name: answer.getheader(name) for name in ("Connection", "Keep-Alive", "Transfer-Encoding")}
    print(f"stream={stream!s:5}", said, "-> closed by the server" if closed else "-> still open")
    connection.close()
    return closed


with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
    try:
        url = json.loads(server.stdout.readline())["url"]
        seen = [closed_after(url, stream) for stream in (False, True)]
    finally:
        server.stdin.close()
sys.exit(0 if seen == [False, True] else 1)
PYTHON
