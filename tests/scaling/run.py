"""Run the scaling benchmarks: ``python tests/scaling/run.py --help``."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the directory that the test suite imports from, too
    runpy.run_module("scaling.cli", run_name="__main__")
