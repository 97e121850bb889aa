"""Where we are: in a worker of a map, or not; and how many cores there are for us."""

from __future__ import annotations

import os

inside_worker = False


def cores() -> int:
    """Cores this process may use; one inside a worker, which is not alone."""
    if inside_worker:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
