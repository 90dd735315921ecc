"""Where figures were measured: they mean little anywhere else."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from scaling.floor import open_store

COMMITS = 200  # that the disk is judged by


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a figure depends on."""

    measured_at: str
    commit: str
    python: str
    kernel: str
    cpu: str
    cores: int
    memory_gib: float
    load_average: float  # of the minute before the run
    scratch: str  # file system that floor and gateway write to
    commit_ms: float  # a durable SQLite commit there, median


def look_at_machine(scratch: Path) -> Machine:
    """Look at this machine; commits a few rows into ``scratch``."""
    return Machine(
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=_commit(),
        python=platform.python_version(),
        kernel=platform.release(),
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        load_average=round(os.getloadavg()[0], 2),
        scratch=_file_system(scratch),
        commit_ms=round(_commit_ms(scratch), 3),
    )


def _commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude", "*", "--abbrev=12"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(path: Path) -> str:
    mounts = [part for part in psutil.disk_partitions(all=True) if path.resolve().is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown"


def _commit_ms(scratch: Path) -> float:
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        store = open_store(Path(place) / "disk.db")
        took = []
        for _ in range(COMMITS):
            began = time.perf_counter()
            store.execute("INSERT INTO turns (message, answer) VALUES (?, ?)", (b"ping", "pong"))
            took.append((time.perf_counter() - began) * 1000)
        store.close()
    return statistics.median(took)
