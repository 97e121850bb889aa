"""Count the instructions of one call with callgrind: they repeat within 0.5 % whatever else the machine does.

    python -m benchmarks instructions               every subject, held to budget.toml
    python -m benchmarks.instructions --plant       the gates, with a regression planted: exits with 1

Each subject is called few and many times, in two forks of one interpreter: the difference is calls and nothing else.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import budget
from benchmarks.harness import Table, once
from benchmarks.subjects import PLANTED, WATCHED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NAME = "instructions of a call"
FEW, MANY = 1000, 3000
_counted: dict[str, float] = {}


def counts(names: Iterable[str]) -> dict[str, float]:
    """Return the instructions of one call of each; what was counted before is not counted again."""
    names = list(names)
    new = [name for name in names if name not in _counted]
    if new:
        _counted.update(_watched(new))
    return {name: _counted[name] for name in names}


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


def _watched(names: list[str]) -> dict[str, float]:
    _python(names)  # compiles what is not compiled yet
    done = _python(names, "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
    collected = dict(re.findall(r"==(\d+)== Collected : (\d+)", done.stderr))
    runs: dict[str, list[tuple[int, int]]] = {}
    for line in done.stdout.splitlines():
        process, calls, name = line.split("\t")
        runs.setdefault(name, []).append((int(calls), int(collected[process])))
    return {name: (many - few) / (calls - fewer) for name, ((fewer, few), (calls, many)) in runs.items()}


def _python(names: list[str], *under: str) -> subprocess.CompletedProcess[str]:
    command = [*under, sys.executable, "-S", "-m", "benchmarks.subjects", str(FEW), str(MANY), *names]
    environment = {"PYTHONHASHSEED": "0", "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True, env=environment
    )


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
