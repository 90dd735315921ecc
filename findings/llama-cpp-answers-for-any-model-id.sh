#!/usr/bin/env bash
# llama.cpp's server answers for a model that it does not have.
#
# Software:  llama.cpp b11549, as the wheel xllamacpp 2026.10.11549 brings its server
# Expected:  a request for a model id that is not loaded is refused (OpenAI: 404 model_not_found; vLLM: 404; LiteLLM: 400)
# Seen:      200, answered by the loaded model; only the field "model" of the answer, and /v1/models, tell its name
# Matters:   a wrong or outdated id in a configuration is never noticed: switching models seems to work, and what is
#            logged or billed by the id that was asked for names a model that never answered
#
# Exit code 0 while this is so, 1 when it has changed.
set -euo pipefail
tests=$(cd "$(dirname "$0")/../tests" && pwd)
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install xllamacpp==2026.10.11549
PYTHONPATH="$tests" "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json, subprocess, sys, urllib.request
from pathlib import Path

from real_models import llama_cpp_program
from real_models.formats import write_gguf

folder = Path(sys.argv[1])
write_gguf(folder / "loaded.gguf")
wanted = {"model": str(folder / "loaded.gguf"), "window": 2048, "slots": 1, "memory": 3 * 2**30, "log": str(folder / "log")}
command = [sys.executable, llama_cpp_program.__file__, json.dumps(wanted)]
with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
    try:
        url = json.loads(server.stdout.readline())["url"]
        listed = json.load(urllib.request.urlopen(f"{url}/v1/models"))["data"]
        print("models listed:   ", [model["id"] for model in listed])
        body = {"model": "no-such-model", "messages": [{"role": "user", "content": "hello"}]}
        request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode())
        with urllib.request.urlopen(request) as answer:
            status, said = answer.status, json.load(answer)
        print("model asked for: ", body["model"])
        print("answer:          ", status, said["choices"][0]["message"]["content"])
        print("model that spoke:", said["model"])
    finally:
        server.stdin.close()
sys.exit(0 if status == 200 and said["model"] != body["model"] else 1)
PYTHON
