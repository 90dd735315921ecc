"""Kills what outlived its owner: processes whose environment carries a mark.

Also a program: ``python -I -S reaper.py VARIABLE=MARK ...`` waits until its standard input ends. When the supervisor
said :data:`DISMISSED` before, all is well; otherwise the supervisor was killed, and what still carries one of the marks
follows it. Only the standard library's smallest part is imported here, so that the program costs little while it waits.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Collection, Iterator

DISMISSED = b"dismissed\n"
GRACE_S = 2.0  # in which workers that lost their supervisor end by themselves
ROUNDS = 20  # looks at /proc, until one finds nothing
ROUND_S = 0.1  # between two looks
EXECVE_LOOKS = 200  # at a process that replaces its program, until it has an environment
EXECVE_LOOK_S = 0.001  # between two of them


def sweep(marks: Collection[str], spare: Collection[int] = ()) -> list[int]:
    """SIGKILL every process whose environment has a variable that begins with one of ``marks`` (``NAME=value``).

    Looks again until none is left, since a process may start another between the look and its death. This process and
    its ancestors are spared.

    Returns:
        The ids of the processes that were killed.
    """
    needles = tuple(b"\0" + os.fsencode(mark) for mark in marks)
    kept = {os.getpid(), *_ancestors(), *spare}
    killed: list[int] = []
    for _ in range(ROUNDS):
        found = [pid for pid in marked(needles) if pid not in kept]
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                kept.add(pid)  # gone, or not ours to kill
            else:
                killed.append(pid)
        if not found:
            break
        time.sleep(ROUND_S)
    return sorted(set(killed))


def marked(needles: Collection[bytes]) -> Iterator[int]:
    """Find the processes of this user whose environment has one of ``needles``; their ids.

    A NUL in a needle is where a variable begins or ends: ``NUL NAME=x`` finds each whose ``NAME`` begins with ``x``.
    """
    for entry in os.listdir("/proc"):  # noqa: PTH208  # pathlib would double the program's memory
        if entry.isdecimal() and carries(int(entry), needles):
            yield int(entry)


def carries(pid: int, needles: Collection[bytes]) -> bool:
    """Whether the environment of a process has one of ``needles``; no if it has ended or is another user's."""
    try:
        environment = _read(pid, "environ") or _environment_after_execve(pid)
    except OSError:
        return False
    return any(needle in b"\0" + environment for needle in needles)


def _environment_after_execve(pid: int) -> bytes:
    """Of a process that showed none: for a moment of execve(2) it has a program, but no arguments and no environment.

    Raises:
        OSError: It has no program either: it has ended, or is of the kernel.
    """
    os.readlink(f"/proc/{pid}/exe")  # noqa: PTH115
    for _ in range(EXECVE_LOOKS):
        if _read(pid, "cmdline"):
            break
        time.sleep(EXECVE_LOOK_S)
    return _read(pid, "environ")


def _read(pid: int, what: str) -> bytes:
    with open(f"/proc/{pid}/{what}", "rb") as file:  # noqa: PTH123
        return file.read()


def _ancestors() -> Iterator[int]:
    pid = os.getppid()
    while pid > 1:
        yield pid
        try:
            pid = int(_read(pid, "stat").rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            return


def main() -> None:
    """Wait for the supervisor's end and see that nothing survives it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a service manager that stops the whole group must not stop this first
    said = sys.stdin.buffer.read()
    if not said.endswith(DISMISSED):
        time.sleep(GRACE_S)
        sweep(sys.argv[1:])


if __name__ == "__main__":
    main()
