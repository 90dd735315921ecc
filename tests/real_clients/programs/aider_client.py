"""The command aider, which sends one message about no files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from asked import MODEL, Asked, answering


class Failed(Exception):
    """It says that there was no answer."""


def say(asked: Asked) -> str:
    name = f"openai/{MODEL}"
    with tempfile.TemporaryDirectory() as folder:
        extra = {"extra_headers": asked.headers} if asked.headers else {}
        settings = [{"name": name, "edit_format": "ask", "extra_params": extra}]
        Path(folder, "settings.yml").write_text(json.dumps(settings))  # JSON is YAML
        command = [
            str(Path(sys.executable).with_name("aider")), "--model", name, "--openai-api-base", asked.base_url,
            "--openai-api-key", asked.key, "--model-settings-file", "settings.yml", "--message", asked.text,
            "--no-git", "--yes-always", "--no-check-update", "--no-pretty", "--no-show-model-warnings",
            "--analytics-disable",
            "--stream" if asked.stream else "--no-stream",
        ]  # fmt: skip
        command += [] if asked.timeout_s is None else ["--timeout", str(asked.timeout_s)]
        done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, check=False)
    if done.returncode or "litellm." in done.stdout:
        raise Failed(done.stdout + done.stderr)
    return done.stdout


answering(say)
