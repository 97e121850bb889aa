"""How work is measured: subjects in turn, round after round, so that a busy machine disturbs them alike.

A row is the minimum and the median of its rounds, and its ratio to the table's yardstick, both taken in the same run.
Only the ratios are stable. Work of one thread is measured in its CPU time, which does not count what others took.
"""

from __future__ import annotations

import asyncio
import gc
import math
import statistics
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Measure = Callable[[Any, int], float]


runner = asyncio.Runner()  # one loop for all rounds: peers do not change loops


class Table:
    """Subjects that do the same work. The first is the yardstick; the numbers are in `unit`."""

    def __init__(
        self,
        name: str,
        subjects: dict[str, Any],
        measure: Measure,
        *,
        calls: int = 2000,
        rounds: int = 25,
        unit: str = "ns",
    ) -> None:
        self.name = name
        self.subjects = subjects
        self.measure = measure
        self.calls = calls
        self.rounds = rounds
        self.unit = unit
        self.taken: dict[str, list[float]] = {subject: [] for subject in subjects}

    def run(self, share: float = 1.0) -> Table:
        """Take all rounds, or a share of them. What is there before is not collected again and again."""
        gc.collect()
        gc.freeze()
        for _ in range(max(3, round(self.rounds * share))):
            for name, subject in self.subjects.items():
                gc.collect()
                self.taken[name].append(self.measure(subject, self.calls))
        gc.unfreeze()
        return self

    def ratio(self, subject: str) -> float:
        """Return the median of a subject over that of the first; not a number over nothing."""
        yardstick = statistics.median(next(iter(self.taken.values())))
        return statistics.median(self.taken[subject]) / yardstick if yardstick else math.nan

    def rows(self) -> Iterable[tuple[str, float, float, float]]:
        """Yield name, minimum, median and ratio."""
        for name, values in self.taken.items():
            yield name, min(values), statistics.median(values), self.ratio(name)

    def kept(self) -> dict[str, Any]:
        """Return what is kept of it: name, minimum and median, to five digits."""
        rows = [[name, *(float(f"{value:.5g}") for value in row[:2])] for name, *row in self.rows()]
        return {"unit": self.unit, "rows": rows}

    def text(self) -> str:
        """Return the table as it is printed."""
        head = f"{self.name:<52}{'min ' + self.unit:>12}{'median ' + self.unit:>14}{'ratio':>9}"
        rows = [f"{n:<52}{low:>12,.4g}{middle:>14,.4g}{ratio:>8.2f}x" for n, low, middle, ratio in self.rows()]
        return "\n".join([head, *rows, ""])


def blocking(function: Callable[[int], Any], calls: int) -> float:
    """Return nanoseconds of CPU a call."""
    numbers = range(calls)
    started = time.thread_time_ns()
    for x in numbers:
        function(x)
    return (time.thread_time_ns() - started) / calls


def failing(function: Callable[[int], Any], calls: int) -> float:
    """Return nanoseconds of CPU a call that raises."""
    numbers = range(calls)
    started = time.thread_time_ns()
    for x in numbers:
        try:  # noqa: SIM105 - a context manager would cost as much as what is measured
            function(x)
        except Exception:  # noqa: BLE001 - whatever it is
            pass
    return (time.thread_time_ns() - started) / calls


def awaited(function: Callable[[int], Any], calls: int) -> float:
    """Return nanoseconds of CPU a call, awaited one after the other in one task."""

    async def run() -> float:
        numbers = range(calls)
        started = time.thread_time_ns()
        for x in numbers:
            await function(x)
        return (time.thread_time_ns() - started) / calls

    return runner.run(run())


def handed_over(function: Callable[[int], Any], calls: int) -> float:
    """Return nanoseconds a call that waits for another thread."""
    numbers = range(calls)
    started = time.perf_counter_ns()
    for x in numbers:
        function(x)
    return (time.perf_counter_ns() - started) / calls


def once(work: Callable[[], float], _: int) -> float:
    """Let the subject measure itself."""
    return work()
