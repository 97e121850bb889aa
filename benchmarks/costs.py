"""What Opero costs beside time: importing it, decorating with it, keeping what it made, what a call leaves behind."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import resource
import subprocess
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Table, once
from benchmarks.peers import there
from benchmarks.subjects import EVERYTHING, USUAL, boom, work, work_async
from opero import CircuitBreaker, Retry, opero, waits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CALLS = 1000
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def importing(code: str) -> Callable[[], float]:
    """Return what measures milliseconds of CPU of a fresh interpreter that runs `code`, over one that runs nothing."""

    def run(code: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, env=ENVIRONMENT)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    return lambda: max(0.01, (run(code) - run("")) * 1e3)


def decorating(keywords: dict[str, object]) -> Callable[[], float]:
    """Return what measures microseconds of decorating one function."""

    def measure() -> float:
        functions = [lambda x: x for _ in range(50)]
        started = time.thread_time()
        kept = [opero(**keywords)(function) for function in functions]  # type: ignore[call-overload]
        return (time.thread_time() - started) / len(kept) * 1e6

    return measure


def keeping(keywords: dict[str, object], *, called: bool) -> Callable[[], float]:
    """Return what measures KiB of one decorated function."""

    def measure() -> float:
        functions = [lambda x: x for _ in range(50)]
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        kept = [opero(**keywords)(function) for function in functions]  # type: ignore[call-overload]
        if called:
            for function in kept:
                function(1)
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return (after - before) / len(kept) / 1024

    return measure


def littering(function: Callable[[int], Any]) -> Callable[[], float]:
    """Return what counts the objects a call leaves for the cycle collector."""

    def measure() -> float:
        _call(function, 10)
        gc.collect()
        gc.disable()
        try:
            _call(function, CALLS)
            return gc.collect() / CALLS
        finally:
            gc.enable()

    return measure


def taking(function: Callable[[int], Any]) -> Callable[[], float]:
    """Return what measures the bytes a call takes at its most, beyond those it began with."""

    def measure() -> float:
        _call(function, 10)
        tracemalloc.start()
        gc.disable()
        try:
            _call(function, 1)
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            _call(function, 1)
            return float(tracemalloc.get_traced_memory()[1] - before)
        finally:
            gc.enable()
            tracemalloc.stop()

    return measure


def growing(function: Callable[[int], Any]) -> Callable[[], float]:
    """Return what measures the bytes that remain of ten thousand calls."""

    def measure() -> float:
        _call(function, CALLS)
        tracemalloc.start()
        try:
            _call(function, 10)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            _call(function, 10_000)
            gc.collect()
            return float(tracemalloc.get_traced_memory()[0] - before)
        finally:
            tracemalloc.stop()

    return measure


def blocking(function: Callable[[int], Any]) -> Callable[[int], Any]:
    """Return a coroutine function as one that runs it to its end; it must not wait for anything."""

    def run(x: int) -> Any:
        try:
            function(x).send(None)
        except StopIteration as ended:
            return ended.value

    return run


def calls() -> dict[str, Callable[[int], Any]]:
    """Return calls of each kind; tenacity's where it is installed."""
    refused = opero(CircuitBreaker())(work)
    refused.opero.breaker.force_open()
    found: dict[str, Callable[[int], Any]] = {}
    if there("tenacity"):
        import tenacity

        found["tenacity, succeeds"] = tenacity.retry(stop=tenacity.stop_after_attempt(4))(work)
        found["tenacity, fails"] = tenacity.retry(stop=tenacity.stop_after_attempt(3), reraise=True)(boom)
    found["@opero, succeeds"] = opero(**USUAL)(work)
    found["@opero, awaited"] = blocking(opero(**USUAL)(work_async))
    found["@opero, fails three times"] = opero(Retry(2, wait=waits.constant(0)))(boom)
    found["@opero, is refused"] = refused
    found["@opero, is cached"] = opero(cache_ttl=60, retries=0)(work)
    return found


def _call(function: Callable[[int], Any], calls: int) -> None:
    for _ in range(calls):
        with contextlib.suppress(Exception):
            function(1)


def tables() -> Iterator[Table]:
    """Yield every table."""
    imports = {"import asyncio": importing("import asyncio"), "import opero": importing("import opero")}
    imports["from opero import opero, opmap"] = importing("from opero import opero, opmap")
    for peer in ("tenacity", "stamina", "pyresilience"):
        if importlib.util.find_spec(peer):
            imports[f"import {peer}"] = importing(f"import {peer}")
    yield Table("importing", imports, once, rounds=15, unit="ms")
    yield Table(
        "decorating one function",
        {"@opero": decorating({}), "everything": decorating({**EVERYTHING, "timeout": 5.0, "fallback": None})},
        once,
        rounds=11,
        unit="µs",
    )
    yield Table(
        "memory of one decorated function",
        {
            "@opero": keeping({}, called=False),
            "@opero, called": keeping({}, called=True),
            "breaker, limit, bulkhead, called": keeping(EVERYTHING, called=True),
        },
        once,
        rounds=3,
        unit="KiB",
    )
    for name, unit, how in (
        ("garbage of one call, for the cycle collector", "objects", littering),
        ("memory that one call takes", "B", taking),
        ("memory that remains of 10 000 calls", "B", growing),
    ):
        yield Table(name, {subject: how(f) for subject, f in calls().items()}, once, rounds=3, unit=unit)
