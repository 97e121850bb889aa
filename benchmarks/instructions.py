"""Count the instructions of one call with callgrind: they repeat within 0.5 % whatever else the machine does.

    python -m benchmarks instructions               every subject, held to budget.toml
    python -m benchmarks.instructions --plant       the gates, with a regression planted: exits with 1

A subject runs 1 000 and 3 000 times, each in an interpreter of its own; the difference is 2 000 calls and nothing else.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import budget
from benchmarks.harness import Table, once
from benchmarks.subjects import PLANTED, WATCHED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NAME = "instructions of a call"
FEW, MANY = 1000, 3000


@lru_cache
def counted(name: str) -> float:
    """Return the instructions of one call."""
    _python(name, 1)  # compiles what is not compiled yet
    few, many = (_watched(name, calls) for calls in (FEW, MANY))
    return (many - few) / (MANY - FEW)


def counts(names: Iterable[str]) -> dict[str, float]:
    """Return the instructions of one call of each; two at a time, which does not disturb the counting."""
    names = list(names)
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(names, pool.map(counted, names), strict=True))


def gates() -> list[budget.Gate]:
    """Return the gates that are about instructions."""
    return [gate for gate in budget.gates() if gate.table == NAME]


def ratio(gate: budget.Gate, planted: str = "") -> float:
    """Return the instructions of one call over those of the gate's yardstick."""
    found = counts([gate.subject + planted, *gate.against])
    return found.pop(gate.subject + planted) / min(found.values())


def tables() -> Iterator[Table]:
    """Yield the table, where callgrind is."""
    if shutil.which("valgrind"):
        subjects = {name: lambda count=count: count for name, count in counts(WATCHED).items()}
        yield Table(NAME, subjects, once, rounds=1, unit="instr.")


def _watched(name: str, calls: int) -> int:
    told = _python(name, calls, "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
    found = re.search(r"Collected : (\d+)", told)
    if found is None:
        raise RuntimeError(f"callgrind counted nothing: {told[-500:]}")
    return int(found[1])


def _python(name: str, calls: int, *under: str) -> str:
    command = [*under, sys.executable, "-m", "benchmarks.subjects", name, str(calls)]
    environment = {"PYTHONHASHSEED": "0", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True, env=environment
    )
    return done.stderr


def main(planted: str) -> int:
    """Hold the gates of plain functions; 1 if one notices a regression."""
    exceeded = 0
    for gate in gates():
        if gate.subject in {"retry, breaker, limit", "cache hit"}:
            value = ratio(gate, planted)
            exceeded += value > gate.bound
            print(
                "LOST" if value > gate.bound else "held", f"{gate.subject}{planted}: {value:.2f} (bound {gate.bound})"
            )
    return int(exceeded > 0)


if __name__ == "__main__":
    sys.exit(main(PLANTED if "--plant" in sys.argv else ""))
