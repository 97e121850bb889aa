"""Where we are: in a worker of a map, or not; and how many cores there are for us."""

from __future__ import annotations

import os
import sys
from math import ceil

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

inside_worker = False


def cores() -> int:
    """Cores this process may use; one inside a worker, which is not alone."""
    if inside_worker:
        return 1
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(there, ceil(quota())))


def quota(root: Path | None = None) -> float:
    """Cores that the container may use at once by its cgroup (version 2, or 1); infinite without one."""
    from pathlib import Path  # brings `re` along

    root = root or Path("/sys/fs/cgroup")
    try:
        if (root / "cpu.max").exists():
            most, period = (root / "cpu.max").read_text().split()
        else:
            most, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        cores = float(most) / float(period)  # "max", or -1, is no quota
    except (OSError, ValueError, ZeroDivisionError):
        return sys.maxsize
    return cores if cores > 0 else sys.maxsize
