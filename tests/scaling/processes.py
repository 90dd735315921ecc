"""Child processes with an owner, and what the kernel says of processes: CPU time, memory."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

STOP_S = 20.0  # from SIGTERM to SIGKILL
KILL_S = 5.0  # from SIGKILL to gone
POLL_S = 0.01  # between two looks at a starting process
LOG_LINES = 15  # of a process that did not start, shown to people
PR_SET_PDEATHSIG = 1


class ProcessFailed(Exception):
    """A child process did not start, or ended by itself; its last words are in the text."""


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    """Runs in the child: SIGTERM when the benchmark is gone, however it went."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def last_words(log: Path) -> str:
    """The end of a log, for an error message."""
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    return "\n".join(f"    {line}" for line in lines) or "    (it said nothing)"


@contextlib.contextmanager
def child(
    command: Sequence[str], *, log: Path, ready: Callable[[], bool], ready_s: float, env: Mapping[str, str], cwd: Path
) -> Iterator[int]:
    """Run a process from the moment it is ready to the end of the block; yields its pid.

    Args:
        command: the program and its arguments.
        log: where its output goes.
        ready: whether it serves by now.
        ready_s: how long it may take.
        env: its whole environment.
        cwd: its working directory.

    Raises:
        ProcessFailed: it ended or was not ready in time.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,  # Ctrl-C is for the benchmark, which then stops its children in order
            preexec_fn=_die_with_parent,
        )
    try:
        _await_ready(process, Path(command[0]).name, log, ready, ready_s)
        yield process.pid
    finally:
        _stop(process)


def _await_ready(
    process: subprocess.Popen[bytes], name: str, log: Path, ready: Callable[[], bool], ready_s: float
) -> None:
    deadline = time.monotonic() + ready_s
    while not ready():
        if process.poll() is not None:
            raise ProcessFailed(f"{name} ended with exit code {process.returncode}:\n{last_words(log)}")
        if time.monotonic() > deadline:
            raise ProcessFailed(f"{name} was not ready after {ready_s:.0f} s; its last words:\n{last_words(log)}")
        time.sleep(POLL_S)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, a grace, SIGKILL for it and whatever it left."""
    family = tree(process.pid)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    for left in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # psutil knows a reused pid by its start time
            left.kill()
    process.wait(KILL_S)


def listens(port: int, sockets: int = 1) -> Callable[[], bool]:
    """Whether so many sockets accept connections on a port."""

    def ask() -> bool:
        listening = [
            one
            for one in psutil.net_connections("tcp4")
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port
        ]
        return len(listening) >= sockets

    return ask


# -- what the kernel says -------------------------------------------------------------------------------------------


def tree(pid: int) -> list[psutil.Process]:
    """A process and all its descendants; empty when it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, of all its threads, in full resolution; 0 when it is gone."""
    try:  # the clock's id is what clock_getcpuclockid(3) makes of the pid
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def cpu_by_pid(roots: Iterable[int]) -> dict[int, float]:
    """CPU seconds so far of each process in the trees."""
    return {process.pid: cpu_seconds(process.pid) for root in roots for process in tree(root)}


def cpu_apart(roots: Iterable[int], mark: str) -> tuple[dict[int, float], float]:
    """CPU seconds so far in the trees, guests apart: of each process that is none, and of all guests together.

    A guest is a process whose command line holds ``mark``. Those that ended count too, by what the kernel keeps for
    who awaited their end: so do other children that ended, and of these there have to be none.
    """
    own: dict[int, float] = {}
    guests = 0.0
    for process in (process for root in roots for process in tree(root)):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(mark in word for word in process.cmdline()):
                guests += cpu_seconds(process.pid)
            else:
                own[process.pid] = cpu_seconds(process.pid)
            times = process.cpu_times()
            guests += times.children_user + times.children_system
    return own, guests


def cpu_between(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """CPU seconds of a set of trees between two looks; who went away in between counts until the first."""
    return sum(cpu - before.get(pid, 0.0) for pid, cpu in after.items())


def machine_busy_seconds() -> tuple[float, float]:
    """Since boot, over all cores: seconds that something ran, and seconds that the hypervisor took."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq, times.steal


def pss_mib(pid: int) -> float:
    """Memory of a process tree, pages that are shared split fairly among their users, in MiB."""
    total = 0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total / 2**20
