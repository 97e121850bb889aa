"""What runs before anything needs it: threads, sockets and timers of a process that imported, decorated and called.

Each line is a process of its own, which counts what it has beyond a bare interpreter.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.harness import Table, once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DECORATED = """
from opero import Bulkhead, Cache, CircuitBreaker, Hedge, RateLimit, Retry, RetryBudget, Timeout, opero, opmap
url = "redis://127.0.0.1:1/0"
own = [Retry(3, budget=RetryBudget()), Timeout(5.0), CircuitBreaker(), RateLimit(9), Bulkhead(10), Hedge(1.0)]
shared = [CircuitBreaker(store=url, name="a"), RateLimit(9, store=url, name="b"), Cache(60, backend="redis", url=url)]
kept = [opero(p)(lambda x: x) for p in (*own, *shared)]
kept += [opmap(mode=mode, name=mode)(lambda x: x) for mode in ("thread", "process")]
"""
CALLED = """
from opero import opero
@opero(retries=3, circuit_breaker=True, rate_limit=1e9, bulkhead=10, cache_ttl=60, fallback=None)
def function(x): return x
for x in range(1000): function(x)
"""
AWAITED = """
import asyncio
from opero import opero
@opero(retries=3, circuit_breaker=True, rate_limit=1e9, bulkhead=10)
async def function(x): return x
async def main():
    for x in range(1000): await function(x)
    assert len(asyncio.all_tasks()) == 1
    global timers
    timers = sum(not handle.cancelled() for handle in asyncio.get_running_loop()._scheduled)
asyncio.run(main())
"""
FOUND = """
import os, signal
threads = len(os.listdir("/proc/self/task")) - 1
links = [f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd")]
sockets = sum(os.readlink(link).startswith("socket:") for link in links if os.path.lexists(link))
alarms = sum(signal.getitimer(which)[0] > 0 for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL))
print(threads + sockets + alarms + globals().get("timers", 0))
"""
SITUATIONS = {
    "import opero": "import opero",
    "@opero and @opmap with every policy and store": DECORATED,
    "@opero, 1 000 calls": CALLED,
    "@opero, 1 000 awaited calls": AWAITED,
    "@opero(timeout=10), 1 000 awaited calls": AWAITED.replace("retries=3", "retries=3, timeout=10.0"),
}


def counted(code: str) -> Callable[[], float]:
    """Return what counts the threads, sockets and timers of a process that runs `code`."""

    def measure() -> float:
        return float(subprocess.check_output([sys.executable, "-c", code + FOUND], text=True))

    return measure


def tables() -> Iterator[Table]:
    """Yield the table, where the system can be asked."""
    if os.path.isdir("/proc/self/task"):  # noqa: PTH112
        subjects = {name: counted(code) for name, code in SITUATIONS.items()}
        yield Table("threads, sockets and timers", subjects, once, rounds=1, unit="")
