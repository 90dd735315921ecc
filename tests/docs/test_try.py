"""``bin/try``: what a visitor does first leaves nothing behind, even when its terminal is closed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
BOUND_S = 60.0


def test_a_tour_whose_terminal_is_closed_leaves_nothing_behind() -> None:
    with tempfile.TemporaryDirectory(prefix="ha-") as scratch:
        tour = subprocess.Popen(
            [sys.executable, "-u", str(ROOT / "bin" / "tour.py")],
            env={**os.environ, "TMPDIR": scratch},
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        with tour:
            assert tour.stdout is not None
            shown = ""
            while "Ctrl-C ends the gateway" not in shown:
                line = tour.stdout.readline()
                assert line, f"it ended after: {shown}"
                shown += line
            processes = psutil.Process(tour.pid).children(recursive=True)
            tour.send_signal(signal.SIGHUP)
            tour.stdout.read()
            tour.wait(BOUND_S)

        assert "You said: hello, I am ada" in shown
        assert "bin/hermes-ctl chat ada --home" in shown
        assert len(processes) > 2  # a supervisor, two workers and more
        assert psutil.wait_procs(processes, BOUND_S)[1] == []
        assert list(Path(scratch).iterdir()) == []
