"""How many cores this process may use: its affinity and the quota of its control groups."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def usable_cores(own_cgroup: Path = Path("/proc/self/cgroup"), root: Path = CGROUPS) -> int:
    """At least one. A quota of one and a half cores counts as two: a worker more costs less than an idle half core."""
    return max(1, math.ceil(min(len(os.sched_getaffinity(0)), _quota(own_cgroup, root))))


def _quota(own_cgroup: Path, root: Path) -> float:
    """The least ``cpu.max`` (cgroup v2) from this process's group up to the root, in cores."""
    try:
        lines = own_cgroup.read_text().splitlines()
    except OSError:
        return math.inf
    least = math.inf
    for line in lines:
        if line.startswith("0::/"):
            group = root / line.removeprefix("0::/")
            for one in (group, *group.parents):
                least = min(least, _cpu_max(one / "cpu.max"))
                if one == root:
                    break
    return least


def _cpu_max(path: Path) -> float:
    """``max 100000`` or ``150000 100000``: microseconds of CPU per period."""
    try:
        quota, period = path.read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return math.inf


def usual_shards(cores: int) -> int:
    """Twice the cores, a power of two, at least 8."""
    return int(max(8, 2 ** math.ceil(math.log2(2 * cores))))
