#!/usr/bin/env bash
# LiteLLM's proxy without a database answers a wrong key with 400 "No connected db.", and no key with 500.
#
# Software:  litellm[proxy] 1.108.7, a master key, no database
# Expected:  401 for a key that is not the master key, and for none, as OpenAI's API does
# Seen:      400 no_db_connection for a wrong key; 500 for none
# Matters:   a client that goes by the status takes a wrong key for a bad message (400: "change the message", do not
#            fall back) or for a fault that passes (500: try again); the words do not name the key either
#
# Exit code 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install 'litellm[proxy]==1.108.7'
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json, os, signal, socket, subprocess, sys, time, urllib.error, urllib.request
from pathlib import Path

START_S = 180.0
folder = Path(sys.argv[1])
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
url = f"http://127.0.0.1:{port}"
(folder / "config.yaml").write_text("general_settings: {master_key: sk-the-master-key}\nmodel_list: []\n")
command = [str(folder / "venv/bin/litellm"), "--config", str(folder / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)]


def asked(key: str | None) -> int:
    """The status of GET /v1/models with this key."""
    request = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request) as answer:
            status, said = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, said = error.code, error.read().decode()
    print(f"key {key}: {status} {said[:160]}")
    return status


with (folder / "log").open("wb") as log:
    server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
try:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{url}/health/liveliness")
            break
        except OSError:
            time.sleep(0.5)
    seen = [asked(key) for key in ("sk-the-master-key", "sk-another-key", None)]
finally:
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()
sys.exit(0 if seen == [200, 400, 500] else 1)
PYTHON
