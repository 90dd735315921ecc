"""The command llm, with a model of its extra-openai-models.yaml."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from asked import MODEL, Asked, answering

FUNCTION = 'def look(window: str) -> str:\n    "Look out of a window."\n    return f"rain in the {window}"\n'


class Failed(Exception):
    """The command ended with another code than 0."""


def say(asked: Asked) -> str:
    with tempfile.TemporaryDirectory() as home:
        model = {
            "model_id": "gateway", "model_name": MODEL, "api_base": asked.base_url, "api_key_name": "gateway",
            "supports_tools": True, "headers": asked.headers,
        }  # fmt: skip
        Path(home, "extra-openai-models.yaml").write_text(json.dumps([model]))  # JSON is YAML
        Path(home, "keys.json").write_text(json.dumps({"gateway": asked.key}))
        command = [str(Path(sys.executable).with_name("llm")), "-m", "gateway", asked.text]
        command += [] if asked.stream else ["--no-stream"]
        command += ["--functions", FUNCTION] if asked.tool else []
        done = subprocess.run(
            command, env={**os.environ, "LLM_USER_PATH": home}, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise Failed(done.stderr.strip())
    return done.stdout.strip()


answering(say)
