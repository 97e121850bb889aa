"""Counts over time. A series is cumulative, so what happened between two moments is one subtraction, and exact.

The value at a moment is that of the last sample not after it: for a counter in Prometheus that is `x - x offset w`,
which counts; `increase` extrapolates.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from math import ceil
from operator import ge, gt, le, lt
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from opero_slo.model import Operator, Slices

COMPARE = {"lt": lt, "lte": le, "gt": gt, "gte": ge}


class Counts(NamedTuple):
    """Good events, and all of them."""

    good: float
    total: float

    @property
    def bad(self) -> float:
        """The others."""
        return self.total - self.good

    @property
    def ratio(self) -> float | None:
        """The share that was good; None where nothing happened."""
        return self.good / self.total if self.total else None

    def __add__(self, other: object) -> Counts:
        if not isinstance(other, Counts):
            return NotImplemented
        return Counts(self.good + other.good, self.total + other.total)


NOTHING = Counts(0, 0)


class Series:
    """Cumulative counts of good and of all events at moments in Unix seconds, which only grow."""

    def __init__(self, samples: Iterable[tuple[float, float, float]] = ()) -> None:
        self.times = array("d")
        self.good = array("d")
        self.total = array("d")
        for at, good, total in samples:
            self.add(at, good, total)

    def add(self, at: float, good: float, total: float) -> None:
        """Add a sample; one at the time of the last takes its place, an earlier one is refused."""
        if self.times and at <= self.times[-1]:
            if at < self.times[-1]:
                raise ValueError(f"a sample at {at} after one at {self.times[-1]}")
            self.good[-1], self.total[-1] = good, total
            return
        self.times.append(at)
        self.good.append(good)
        self.total.append(total)

    def hold(self, moment: float) -> None:
        """Say that nothing happened until a moment."""
        if len(self) > 1 and self.total[-1] == self.total[-2] and self.good[-1] == self.good[-2]:
            self.times[-1] = max(moment, self.times[-1])
        elif self.times and moment > self.times[-1]:
            self.add(moment, self.good[-1], self.total[-1])

    def cut(self, moment: float) -> None:
        """Forget what came after a moment."""
        index = bisect_right(self.times, moment)
        del self.times[index:], self.good[index:], self.total[index:]

    def at(self, moment: float) -> Counts:
        """Return the counts at a moment; before the first sample, those of the first."""
        if not self.times:
            return NOTHING
        index = max(bisect_right(self.times, moment) - 1, 0)
        return Counts(self.good[index], self.total[index])

    def between(self, start: float, end: float) -> Counts:
        """Count what happened after `start` and up to `end`."""
        after, before = self.at(end), self.at(start)
        return Counts(after.good - before.good, after.total - before.total)

    @property
    def start(self) -> float | None:
        """When the first sample was taken."""
        return self.times[0] if self.times else None

    @property
    def end(self) -> float | None:
        """When the last sample was taken."""
        return self.times[-1] if self.times else None

    def __len__(self) -> int:
        return len(self.times)

    def __iter__(self) -> Iterator[tuple[float, float, float]]:
        return zip(self.times, self.good, self.total, strict=True)


def sliced(series: Series, slices: Slices) -> Series:
    """Count time instead of events: slices that were good, among those in which something happened."""
    made = _begun(series, slices.width)
    good = total = 0.0
    for start, end in _edges(series, slices.width):
        ratio = series.between(start, end).ratio
        if ratio is not None:
            total += 1
            good += ratio if slices.target is None else ratio >= slices.target
        made.add(end, good, total)
    return made


def throughput(series: Series, op: Operator, value: float, width: float) -> Series:
    """Count slices of `width` seconds in which as many calls a second were made as asked for."""
    made = _begun(series, width)
    good = total = 0.0
    for start, end in _edges(series, width):
        total += 1
        good += COMPARE[op](series.between(start, end).total / width, value)
        made.add(end, good, total)
    return made


def freshness(series: Series, op: Operator, value: float, width: float) -> Series:
    """Count slices at whose end the last good event was as young as asked for, in seconds."""
    made = _begun(series, width)
    good = total = 0.0
    fresh, index = series.start or 0.0, 0
    for _, end in _edges(series, width):
        while index < len(series) and series.times[index] <= end:
            if index and series.good[index] > series.good[index - 1]:
                fresh = series.times[index]
            index += 1
        total += 1
        good += COMPARE[op](end - fresh, value)
        made.add(end, good, total)
    return made


def levels(samples: Sequence[tuple[float, float]], op: Operator, value: float, width: float) -> Series:
    """Count samples of a quantity, one for each `width` seconds, that compare as asked for."""
    made = Series([(samples[0][0] - width, 0, 0)] if samples else ())
    good = total = 0.0
    for at, quantity in samples:
        total += 1
        good += COMPARE[op](quantity, value)
        made.add(at, good, total)
    return made


def ratios(samples: Sequence[tuple[float, float]], width: float, *, inverted: bool = False) -> Series:
    """Add up ratios that were computed elsewhere, one for each `width` seconds: each counts as one."""
    made = Series([(samples[0][0] - width, 0, 0)] if samples else ())
    good = total = 0.0
    for at, ratio in samples:
        total += 1
        good += 1 - ratio if inverted else ratio
        made.add(at, good, total)
    return made


def _begun(series: Series, width: float) -> Series:
    return Series([(ceil(series.start / width) * width, 0, 0)] if series.start is not None else ())


def _edges(series: Series, width: float) -> Iterator[tuple[float, float]]:
    """Whole slices inside the series, cut at multiples of the width."""
    if series.start is None or series.end is None:
        return
    number = ceil(series.start / width)
    while (number + 1) * width <= series.end:
        yield number * width, (number + 1) * width
        number += 1
