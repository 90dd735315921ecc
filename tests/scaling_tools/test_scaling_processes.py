from __future__ import annotations

import os
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest
from scaling.processes import ProcessFailed, child, cpu_apart, cpu_between, cpu_by_pid, cpu_seconds, pss_mib, tree

FAMILY = """
import pathlib, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path("ready").touch()
time.sleep(60)
"""


def running(code: str, place: Path, ready_s: float = 10.0) -> AbstractContextManager[int]:
    return child(
        [sys.executable, "-c", code],
        log=place / "log",
        ready=(place / "ready").exists,
        ready_s=ready_s,
        env=dict(os.environ),
        cwd=place,
    )


def test_a_process_and_its_children_are_gone_after_the_block_even_where_it_fails(tmp_path: Path) -> None:
    family: list[psutil.Process] = []

    def be_interrupted() -> None:
        with running(FAMILY, tmp_path) as pid:
            family.extend(tree(pid))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        be_interrupted()

    assert len(family) == 2
    assert psutil.wait_procs(family, timeout=5)[1] == []


def test_a_process_that_ends_at_its_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    with (
        pytest.raises(ProcessFailed, match=r"exit code 78:\n    no such model"),
        running("print('no such model'); exit(78)", tmp_path),
    ):
        pass


def test_a_process_that_is_never_ready_is_told_and_stopped(tmp_path: Path) -> None:
    code = "import time; print('waiting', flush=True); time.sleep(60)"

    with pytest.raises(ProcessFailed, match="not ready after 0 s"), running(code, tmp_path, ready_s=0.3):
        pass

    assert tree(os.getpid())[1:] == []


def test_cpu_time_and_memory_of_this_process_are_seen() -> None:
    before = cpu_by_pid([os.getpid()])
    while cpu_seconds(os.getpid()) == before[os.getpid()]:
        pass

    assert cpu_between(before, cpu_by_pid([os.getpid()])) > 0
    assert pss_mib(os.getpid()) > 1


HOST = r"""
import pathlib, subprocess, sys, time
busy = "import time\nwhile time.process_time() < 0.2: pass\n"
subprocess.run([sys.executable, "-c", busy, "a-" + "guest"])
subprocess.Popen([sys.executable, "-c", busy + "time.sleep(60)", "a-" + "guest"])
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path("ready").touch()
time.sleep(60)
"""


def test_guests_are_accounted_apart_the_ended_ones_too(tmp_path: Path) -> None:
    with running(HOST, tmp_path) as pid:
        deadline = time.monotonic() + 10.0
        while True:
            own, guests_s = cpu_apart([pid], "a-guest")
            if guests_s >= 0.38 or time.monotonic() > deadline:  # 0.2 s each; the kernel tells the ended one's in ticks
                break

    assert len(own) == 2
    assert guests_s >= 0.38


def test_processes_that_came_count_in_full_and_those_that_went_count_no_more() -> None:
    assert cpu_between({1: 2.0, 2: 5.0}, {1: 3.0, 3: 0.5}) == 1.5
