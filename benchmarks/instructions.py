"""Count the instructions of one call with callgrind: they repeat within 0.5 % whatever else the machine does.

    python -m benchmarks.instructions       every subject of budget.toml, held to it

A subject runs 1 000 and 3 000 times, each in an interpreter of its own; the difference is 2 000 calls and nothing else.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tomllib
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from benchmarks.calls import EVERYTHING, USUAL, closure, closure_async, work, work_async
from opero import opero

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
FEW, MANY = 1000, 3000
YARDSTICKS = {"closure": lambda: closure(work), "closure, async": lambda: closure_async(work_async)}
SUBJECTS: dict[str, Callable[[], Any]] = {
    "retry": lambda: opero(work),
    "retry, breaker, limit": lambda: opero(**USUAL)(work),
    "retry, breaker, limit, bulkhead": lambda: opero(**EVERYTHING)(work),
    "retry, breaker, limit, async": lambda: opero(**USUAL)(work_async),
    "cache hit": lambda: opero(cache_ttl=60)(work),
    "cache hit, async": lambda: opero(cache_ttl=60)(work_async),
    "planted: a lock": lambda: _locked(opero(**USUAL)(work)),
}


def call(name: str, calls: int) -> None:
    """Make the calls; in the interpreter that is watched."""
    function = {**YARDSTICKS, **SUBJECTS}[name]()
    if not name.endswith("async"):
        for x in range(calls):
            function(x % 50)
        return

    async def run() -> None:
        for x in range(calls):
            await function(x % 50)

    asyncio.run(run())


@lru_cache
def counted(name: str) -> float:
    """Return the instructions of one call."""
    _python(name, 1)  # compiles what is not compiled yet
    few, many = (_watched(name, calls) for calls in (FEW, MANY))
    return (many - few) / (MANY - FEW)


def ratio(name: str) -> float:
    """Return the instructions of one call over those of a bare closure of its kind."""
    return counted(name) / counted("closure, async" if name.endswith("async") else "closure")


def budget() -> dict[str, float]:
    """Return what each subject may cost at most."""
    gates = tomllib.loads((HERE / "budget.toml").read_text())["instructions"]
    return {gate["subject"]: gate["at_most"] for gate in gates}


def _locked(function: Callable[[int], int]) -> Callable[[int], int]:
    """Add what a careless change would: a lock around each call."""
    lock = Lock()

    def wrapper(x: int) -> int:
        with lock:
            return function(x)

    return wrapper


def _watched(name: str, calls: int) -> int:
    told = _python(name, calls, "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
    found = re.search(r"Collected : (\d+)", told)
    if found is None:
        raise RuntimeError(f"callgrind counted nothing: {told[-500:]}")
    return int(found[1])


def _python(name: str, calls: int, *under: str) -> str:
    command = [*under, sys.executable, "-m", __spec__.name, name, str(calls)]
    environment = {"PYTHONHASHSEED": "0", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=True, env=environment)
    return done.stderr


def main() -> int:
    """Print each subject's ratio, and whether it is within its budget."""
    exceeded = False
    for name, at_most in budget().items():
        value = ratio(name)
        exceeded |= value > at_most
        print(
            "EXCEEDED" if value > at_most else "held    ", f"{name}: {value:.2f} of a bare closure, at most {at_most}"
        )
    return int(exceeded)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        call(sys.argv[1], int(sys.argv[2]))
    else:
        sys.exit(main())
