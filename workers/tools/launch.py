"""Runs in front of a stdio server, in the process that becomes the server: ``python -I -S launch.py …``.

The process dies with its worker (parent-death signal), sends stderr to the server's log file and executes the command.
The pid stays the same, so the process group that was made for it is the server's.

Standard error is a socket to the worker at first, which the exec closes. What goes over it before is why the command
cannot be executed.

Only the standard library, and little of it: each import delays every start of every server.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

PR_SET_PDEATHSIG = 1  # linux/prctl.h
EXIT_NOT_STARTED = 127  # as a shell does


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when ``parent`` dies.

    Raises:
        OSError: the parent is gone already, or the kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot ask for the parent-death signal")
    if os.getppid() != parent:  # it died before the kernel was asked
        raise OSError("the worker that started this process is gone")


def open_log(path: str) -> int:
    """The server's log, private, to append to: it is emptied by others while the server writes.

    Raises:
        OSError: it cannot be opened.
    """
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def main(parent: str, log_path: str, directory: str, *command: str) -> int:
    """Become ``command``; the exit code where that fails."""
    worker = os.dup(2)  # closed by a successful exec: that tells the worker
    try:
        die_with_parent(int(parent))
        log = open_log(log_path)
        os.dup2(log, 2)
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec would hand that on
            signal.signal(ignored, signal.SIG_DFL)
        if directory:
            os.chdir(directory)
        os.execvp(command[0], command)  # noqa: S606  # no shell is the point
    except OSError as error:
        reason = f"{error.filename or command[0]}: {error.strerror or error}"
        with suppress(OSError):  # the worker is gone or gave up: no one is left to hear it
            os.write(worker, reason.encode(errors="replace"))
    return EXIT_NOT_STARTED


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
