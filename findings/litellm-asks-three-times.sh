#!/usr/bin/env bash
# LiteLLM's proxy asks its upstream three times for what cannot pass.
#
# Software:  litellm[proxy] 1.108.7, one openai/ model behind it, nothing configured about retries
# Expected:  one request upstream for a refusal that another attempt cannot change, or a documented default
# Seen:      a 500 of the upstream costs three requests and some seconds before the caller hears of it; the caller sees
#            one 500, without a sign that it was tried again. A 400 costs one. "num_retries: 0" in litellm_settings ends it
# Matters:   self-hosted servers answer 500 to what is wrong with the request itself (llama.cpp: a picture, a past tool
#            call that is no JSON); attempts multiply with those of each client (4 x 3 requests, 20 s, for one message)
#
# Exit code 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install 'litellm[proxy]==1.108.7'
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json, os, signal, socket, subprocess, sys, threading, time, urllib.error, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

START_S = 180.0
KEY = "sk-0123456789-abcdefghij"
folder = Path(sys.argv[1])
asked = []


class Upstream(BaseHTTPRequestHandler):
    """Refuses each completion with the status that its path names."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        status = int(self.path.split("/")[1])
        asked.append(status)
        body = json.dumps({"error": {"message": "image input is not supported", "type": "server_error", "code": status}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
threading.Thread(target=upstream.serve_forever, daemon=True).start()
behind = f"http://127.0.0.1:{upstream.server_address[1]}"


def counted(settings: str) -> dict[int, int]:
    """How often the upstream is asked for one request of a client, by its status."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    models = [
        {"model_name": f"refuses-{status}", "litellm_params": {"model": "openai/any", "api_base": f"{behind}/{status}/v1", "api_key": "none"}}
        for status in (400, 500)
    ]
    config = folder / "config.yaml"
    config.write_text(f"model_list: {json.dumps(models)}\nlitellm_settings: {settings}\ngeneral_settings: {{master_key: {KEY}}}\n")
    command = [str(folder / "venv/bin/litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("ab") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness")
                break
            except OSError:
                time.sleep(0.5)
        seen = {}
        for status in (400, 500):
            asked.clear()
            body = {"model": f"refuses-{status}", "messages": [{"role": "user", "content": "hello"}]}
            request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"})
            try:
                urllib.request.urlopen(request)
            except urllib.error.HTTPError as error:
                print(f"litellm_settings {settings}: the client gets {error.code} once; the upstream was asked {len(asked)} times")
            seen[status] = len(asked)
        return seen
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


seen = [counted("{}"), counted("{num_retries: 0}")]
sys.exit(0 if seen == [{400: 1, 500: 3}, {400: 1, 500: 1}] else 1)
PYTHON
