"""Wheels of this repository: of a commit, or of the files as they are.

    python tests/upgrade/wheels.py

builds one of the files as they are, installs it into a folder of its own without its requirements, which the running
environment has, and starts, asks and stops the gateway that it installs. Exits 1 where that fails.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).parents[2]
START_S = 30.0
SAY = Console(highlight=False, soft_wrap=True, markup=False)
CONFIG = "model: {provider: demo}\napi_server: {port: 0, key_env: API_SERVER_KEY}\nsupervisor: {workers: 1}\n"


def wheel_of(commit: str | None, directory: Path) -> Path:
    """Build a wheel in this directory: of a commit, or of the files as they are (None).

    Raises:
        subprocess.CalledProcessError: there is no such commit, or it cannot be built.
    """
    source = directory / "source"
    if commit is not None:
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(source, filter="data")
    else:
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
            if (file := ROOT / name).is_file():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                (source / name).write_bytes(file.read_bytes())
    pip(sys.executable, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(directory), str(source))
    (wheel,) = directory.glob("*.whl")
    return wheel


def pip(python: Path | str, *arguments: str) -> None:
    """Run pip of an interpreter.

    Raises:
        subprocess.CalledProcessError: it failed; its words are on stderr.
    """
    command = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})


def starts(prefix: Path) -> str:
    """Start what is installed below a prefix, ask for its state, stop it; which file its code is in.

    Raises:
        subprocess.CalledProcessError: a command of it failed, or the gateway is not ready in time.
        subprocess.TimeoutExpired: the gateway does not stop in time.
    """
    (packages,) = prefix.glob("lib*/python*/site-packages")
    home = prefix / "home"
    home.mkdir(mode=0o700)
    (home / "config.yaml").write_text(CONFIG)
    environment = {**os.environ, "PYTHONPATH": str(packages), "API_SERVER_KEY": "key-of-a-trial-0123456789"}

    def run(command: Sequence[str]) -> str:
        done = subprocess.run(
            command, env=environment, cwd=prefix, check=True, stdout=subprocess.PIPE, text=True, timeout=START_S
        )
        return done.stdout

    command = [str(prefix / "bin/hermes-supervisor"), "start", "--home", str(home)]
    with subprocess.Popen(command, env=environment, cwd=prefix, stderr=subprocess.PIPE, text=True) as gateway:
        last = threading.Timer(START_S, gateway.kill)
        last.start()
        try:
            assert gateway.stderr is not None
            if not any("gateway ready" in line for line in gateway.stderr):
                raise subprocess.CalledProcessError(gateway.wait(), command)
            run([str(prefix / "bin/hermes-ctl"), "status", "--home", str(home)])
            run([str(prefix / "bin/hermes-ctl"), "drain", "--timeout", "0", "--home", str(home)])
            gateway.wait(START_S)
        finally:
            last.cancel()
            gateway.kill()
    return run([sys.executable, "-c", "import hermes_actors; print(hermes_actors.__file__)"]).strip()


def main() -> int:
    """Build, install, start."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder).resolve()
        wheel = wheel_of(None, directory)
        prefix = directory / "installed"
        pip(sys.executable, "install", "--no-deps", "--ignore-installed", "--prefix", str(prefix), str(wheel))
        code = starts(prefix)
        if not code.startswith(str(prefix)):
            SAY.print(f"the code that ran is not the wheel's: {code}")
            return 1
    SAY.print("the wheel installs, and what it installs starts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
