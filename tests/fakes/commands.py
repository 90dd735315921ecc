"""The commands as real processes: with pipes, or at a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

BOUND_S = 30.0
POLL_S = 0.01

_AT_TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"  # so that Ctrl-C is a signal


def python(code: str, *arguments: str) -> list[str]:
    """The command line of a Python that runs some code."""
    return [sys.executable, "-c", code, *arguments]


def ctl(*arguments: str) -> list[str]:
    """The command line of ``hermes-ctl``."""
    return python("from hermes_actors.cli.ctl import main; main()", *arguments)


def piped(
    line: Sequence[str], *, stdin: str = "", cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end, with pipes for its standard streams."""
    return subprocess.run(
        line,
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=BOUND_S,
        check=False,
        cwd=cwd,
        env=_environment(environment),
    )


class Terminal:
    """A process whose standard streams are a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], keyboard: int) -> None:
        self.process = process
        self.shown = ""
        self._seen = 0  # characters up to the end of what was waited for
        self._keyboard = keyboard

    def type(self, text: str) -> None:
        os.write(self._keyboard, text.encode())

    def wait_for(self, text: str) -> None:
        """Return once the terminal has shown the text, after what was waited for before."""
        deadline = time.monotonic() + BOUND_S
        while (at := self.shown.find(text, self._seen)) < 0:
            assert self._read(deadline), f"it ended without {text!r}: {self.shown}"
        self._seen = at + len(text)

    def wait_asleep(self) -> None:
        """Return once the process waits. readline notices a Ctrl-C that comes earlier with the next key only."""
        deadline = time.monotonic() + BOUND_S
        while psutil.Process(self.process.pid).status() != psutil.STATUS_SLEEPING:
            assert time.monotonic() < deadline, self.shown
            time.sleep(POLL_S)

    def end(self) -> int:
        """Read until the process closed its terminal, and give its exit code."""
        deadline = time.monotonic() + BOUND_S
        while self._read(deadline):
            pass
        return self.process.wait(BOUND_S)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._keyboard], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"nothing more within {BOUND_S} s after: {self.shown}"
        try:
            self.shown += os.read(self._keyboard, 65536).decode()
        except OSError:  # EIO: the other side is closed
            return False
        return True


@contextlib.contextmanager
def at_terminal(line: Sequence[str], **environment: str) -> Iterator[Terminal]:
    """Run a command line of :func:`python` at a terminal; what still runs at the end of the block is killed."""
    keyboard, screen = pty.openpty()
    executable, option, code, *arguments = line
    process = subprocess.Popen(
        [executable, option, f"{_AT_TERMINAL}; {code}", *arguments],
        stdin=screen,
        stdout=screen,
        stderr=screen,
        start_new_session=True,
        env=_environment({"TERM": "xterm", **environment}),
    )
    os.close(screen)
    try:
        yield Terminal(process, keyboard)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait(BOUND_S)
        os.close(keyboard)


def _environment(given: dict[str, str]) -> dict[str, str]:
    """This process's environment without what would change how the commands behave."""
    unset = ("HERMES_", "NO_COLOR", "FORCE_COLOR", "API_SERVER_KEY", "OPENAI_API_KEY")
    return {name: value for name, value in os.environ.items() if not name.startswith(unset)} | given
