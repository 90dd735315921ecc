#!/usr/bin/env bash
# llm does not send the key that it is given, to a model of extra-openai-models.yaml that names no key.
#
# Software:  llm 0.36, a model with model_id, model_name and api_base, and nothing else
# Expected:  `llm --key KEY` sends KEY, as it does for its other models and as its help says, or refuses the option
# Seen:      it sends "DUMMY_KEY" and says nothing. With `api_key_name` in the file, it sends KEY
# Matters:   a server that checks its keys answers 401 to a person who has given the right one; our page on llm
#            therefore names `api_key_name`
#
# Exit code 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install 'llm==0.36'
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json, os, subprocess, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ANSWER_S = 60.0
KEY = "sk-of-a-person-0123456789"
folder = Path(sys.argv[1])
keys = []


class Server(BaseHTTPRequestHandler):
    """Answers each completion, and remembers the key."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        keys.append(self.headers["Authorization"])
        message = {"role": "assistant", "content": "hello"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        body = json.dumps({"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()


def sent(**more: str) -> str:
    """The key that arrives, when a person gives one."""
    keys.clear()
    model = {"model_id": "mine", "model_name": "m", "api_base": f"http://127.0.0.1:{server.server_address[1]}/v1", **more}
    (folder / "extra-openai-models.yaml").write_text(json.dumps([model]))  # JSON is YAML
    command = [str(folder / "venv/bin/llm"), "-m", "mine", "--no-stream", "--key", KEY, "hello"]
    subprocess.run(command, env={**os.environ, "LLM_USER_PATH": str(folder)}, check=True, timeout=ANSWER_S, capture_output=True)
    print(f"with {more or 'no api_key_name'}: llm --key {KEY} sends {keys[0]!r}")
    return keys[0]


seen = (sent(), sent(api_key_name="mine"))
sys.exit(0 if seen == ("Bearer DUMMY_KEY", f"Bearer {KEY}") else 1)
PYTHON
