"""What a call costs, as ratios to a bare closure of the same run.

Subjects are measured in turn, round after round, so that a busy machine disturbs them alike; the minimum and the median
of the rounds are printed. Only the ratios are stable.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from opero import opero

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = 2_000
USUAL: dict[str, Any] = {"retries": 3, "circuit_breaker": True, "rate_limit": 1_000_000_000}
EVERYTHING: dict[str, Any] = {**USUAL, "bulkhead": 100}


def work(x: int) -> int:
    """Do nothing worth measuring."""
    return x


async def work_async(x: int) -> int:
    """Do nothing worth measuring, in a coroutine."""
    return x


def closure(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function as thinly as a decorator that handles an error can."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except ValueError:
            return None

    return wrapper


def closure_async(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a coroutine function as thinly."""

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return await function(*args, **kwargs)
        except ValueError:
            return None

    return wrapper


def blocking(function: Callable[..., Any]) -> float:
    """Return nanoseconds a call."""
    started = time.perf_counter_ns()
    for x in range(CALLS):
        function(x)
    return (time.perf_counter_ns() - started) / CALLS


def awaited(function: Callable[..., Any]) -> float:
    """Return nanoseconds a call, awaited in one loop."""

    async def run() -> float:
        started = time.perf_counter_ns()
        for x in range(CALLS):
            await function(x)
        return (time.perf_counter_ns() - started) / CALLS

    return asyncio.run(run())


def table(title: str, subjects: dict[str, Callable[..., Any]], measure: Callable[..., float], rounds: int) -> None:
    """Measure and print; the first subject is the yardstick."""
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, subject in subjects.items():
            taken[name].append(measure(subject))
    yardstick = statistics.median(next(iter(taken.values())))
    print(f"\n{title:<44}{'min ns':>10}{'median ns':>12}{'ratio':>9}")
    for name, values in taken.items():
        median = statistics.median(values)
        print(f"{name:<44}{min(values):>10.0f}{median:>12.0f}{median / yardstick:>8.1f}x")


def imports(rounds: int) -> None:
    """Compare import times, each in a fresh interpreter, over one that imports nothing."""
    subjects = {"bare Python": "", "import asyncio": "import asyncio", "import opero": "import opero"}
    subjects["from opero import opero, opmap"] = "from opero import opero, opmap"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, code in subjects.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env=environment)
            taken[name].append(time.perf_counter() - started)
    bare = min(taken.pop("bare Python"))
    yardstick = min(taken["import asyncio"]) - bare
    print(f"\n{'imports, over bare Python':<44}{'min ms':>10}{'':>12}{'ratio':>9}")
    for name, values in taken.items():
        cost = min(values) - bare
        print(f"{name:<44}{cost * 1e3:>10.1f}{'':>12}{cost / yardstick:>8.2f}x")


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=25, help="how often each subject is measured (default 25)")
    rounds = parser.parse_args().rounds
    print(f"{platform.python_implementation()} {platform.python_version()}, {CALLS} calls a round, {rounds} rounds")
    timed = {**EVERYTHING, "timeout": 10.0}
    sync = {
        "bare closure": closure(work),
        "@opero": opero(work),
        "+ breaker, limit": opero(**USUAL)(work),
        "+ breaker, limit, bulkhead": opero(**EVERYTHING)(work),
        "+ timeout (general path, a thread)": opero(**timed)(work),
    }
    table("a call of a plain function", sync, blocking, rounds)
    coroutine = {
        "bare async closure": closure_async(work_async),
        "@opero": opero(work_async),
        "+ breaker, limit": opero(**USUAL)(work_async),
        "+ breaker, limit, bulkhead": opero(**EVERYTHING)(work_async),
        "+ timeout (general path)": opero(**timed)(work_async),
    }
    table("a call of a coroutine function", coroutine, awaited, rounds)
    imports(rounds)


if __name__ == "__main__":
    main()
