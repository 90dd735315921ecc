"""The reaper as a child of the supervisor: started first, dismissed last, replaced when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys

import structlog

from hermes_actors.pool import reaper

RESTART_S = 1.0  # before a reaper that died is replaced
DISMISS_TIMEOUT_S = 2.0

log = structlog.get_logger(__name__)


class ReaperProcess:
    """A small process that kills what carries a mark once this process is gone without a word.

    It knows of that by the end of a pipe, so nothing has to be alive here to tell it.

    Args:
        marks: each ``NAME=value``, the beginning of a variable in the environments of whom to kill.
    """

    def __init__(self, *marks: str) -> None:
        self._marks = marks
        self._loop = asyncio.get_running_loop()
        self._pidfd = -1
        self._again: asyncio.TimerHandle | None = None
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", reaper.__file__, *self._marks],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,  # a terminal's Ctrl-C is not meant for it
        )
        self._pidfd = os.pidfd_open(process.pid)
        self._loop.add_reader(self._pidfd, self._died)
        return process

    def _died(self) -> None:
        self._unwatch()
        log.error("the reaper died and is replaced", exit=self._process.wait())
        self._again = self._loop.call_later(RESTART_S, self._replace)

    def _replace(self) -> None:
        try:
            self._process = self._start()
        except OSError as error:  # no memory, no descriptors: for now
            log.error("no reaper can be started", why=str(error))  # noqa: TRY400  # nothing to trace
            self._again = self._loop.call_later(RESTART_S, self._replace)

    def _unwatch(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        self._close_pipe()

    def dismiss(self) -> None:
        """End it: everything stopped in order."""
        if self._again is not None:
            self._again.cancel()
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(reaper.DISMISSED)
        self._unwatch()
        try:
            self._process.wait(DISMISS_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _close_pipe(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
