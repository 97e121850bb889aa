"""What Opero costs beside its calls: importing it, decorating with it, keeping what it made."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING

from benchmarks.calls import EVERYTHING
from benchmarks.harness import Table, once
from opero import opero

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def importing(code: str) -> Callable[[], float]:
    """Return what measures milliseconds of a fresh interpreter that runs `code`, over one that runs nothing."""

    def run(code: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, env=ENVIRONMENT)
        return time.perf_counter() - started

    return lambda: max(0.01, (run(code) - run("")) * 1e3)


def decorating(keywords: dict[str, object]) -> Callable[[], float]:
    """Return what measures microseconds of decorating one function."""

    def measure() -> float:
        functions = [lambda x: x for _ in range(50)]
        started = time.perf_counter()
        kept = [opero(**keywords)(function) for function in functions]  # type: ignore[call-overload]
        return (time.perf_counter() - started) / len(kept) * 1e6

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
