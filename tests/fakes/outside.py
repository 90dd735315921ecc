"""Software of others, pinned, in folders of its own: for the suites that meet the real thing."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

INSTALL_S = 1_800.0  # some are gigabytes
LOOK_S = 0.2
END_S = 10.0
TOLD = 3_000  # characters of an output that an error quotes


class Unavailable(Exception):
    """It cannot be installed, or does not start; the words say why."""


def python_env(folder: Path, *requirements: str, without: Sequence[str] = ()) -> Path:
    """A virtual environment with these packages; kept where the folder is kept.

    Args:
        folder: of the environment.
        requirements: each with its version.
        without: packages that come along and are taken away again.

    Returns:
        Its interpreter.

    Raises:
        Unavailable: a package is not to be had.
    """
    python, wanted = folder / "bin" / "python", "\n".join((*requirements, *(f"-{name}" for name in without)))
    noted = folder / "installed"
    if noted.exists() and noted.read_text() == wanted:
        return python
    _run(sys.executable, "-m", "venv", "--clear", str(folder))
    pip = (str(python), "-m", "pip", "--disable-pip-version-check", "--quiet")
    _run(*pip, "install", *requirements)
    if without:
        _run(*pip, "uninstall", "--yes", *without)
    noted.write_text(wanted)
    return python


def npm_folder(folder: Path, *packages: str) -> Path:
    """A folder with these npm packages; the folder of their commands.

    Raises:
        Unavailable: npm is not here, or a package is not to be had.
    """
    commands, wanted = folder / "node_modules" / ".bin", "\n".join(packages)
    noted = folder / "installed"
    if not (noted.exists() and noted.read_text() == wanted):
        folder.mkdir(parents=True, exist_ok=True)
        _run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *packages)
        noted.write_text(wanted)
    return commands


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{' '.join(command[:4])} …: {error}") from error
    if done.returncode:
        raise Unavailable(
            f"{' '.join(command[:4])} … ended with {done.returncode}:\n{(done.stdout + done.stderr)[-TOLD:]}"
        )


def free_port() -> int:
    """A port that was free a moment ago: for servers that cannot choose one themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """A server process in a session of its own, its output in a log file."""

    def __init__(self, command: Sequence[str], log: Path, environ: Mapping[str, str]) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, env={**os.environ, **environ}, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip

    def await_http(self, url: str, bound_s: float) -> None:
        """Return when ``url`` answers.

        Raises:
            Unavailable: the process ended, or the time is over.
        """
        deadline = time.monotonic() + bound_s
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1.0):
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"{url} does not answer:\n{self._log.read_text(errors='replace')[-TOLD:]}")
            time.sleep(LOOK_S)

    def kill(self) -> None:
        """SIGKILL to the whole session's group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(END_S)


@contextmanager
def serving(
    command: Sequence[str], log: Path, url: str, bound_s: float, environ: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """A server process that answers at ``url``, until the block ends.

    Raises:
        Unavailable: it does not answer in time.
    """
    served = Served(command, log, environ or {})
    try:
        served.await_http(url, bound_s)
        yield served
    finally:
        served.kill()
