"""Sliding windows over calls, and a histogram of durations. Pure: `now` is an argument; not locked."""

from __future__ import annotations

from _bisect import bisect_left
from collections import deque
from math import inf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Totals:
    """How many calls a window holds, and how many of them failed or were slow."""

    __slots__ = ("calls", "failures", "slow")

    def __init__(self, calls: int = 0, failures: int = 0, slow: int = 0) -> None:
        self.calls = calls
        self.failures = failures
        self.slow = slow

    def failure_ratio(self) -> float:
        """Failures among the calls, 0 without calls."""
        return self.failures / self.calls if self.calls else 0.0

    def slow_ratio(self) -> float:
        """Slow ones among the calls, 0 without calls."""
        return self.slow / self.calls if self.calls else 0.0


class CountWindow:
    """The last `size` calls. Failures and slow calls are kept by their number, successes are only counted.

    Anyone may add to `good[0]`, without telling; until `turn` (seconds), from when on the window wants to `roll`.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.turn = inf
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.good = [0]
        self._failed = 0
        self._failures: deque[int] = deque()
        self._slow: deque[int] = deque()

    def renew(self) -> None:
        """Go on with another `good`: who still holds the old one adds to nothing."""
        self.good = self.good.copy()

    def roll(self, now: float) -> None:
        """Time changes nothing here."""

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        """Add a call."""
        if failed:
            self._failed += 1
        else:
            self.good[0] += 1
        for noted, numbers in ((failed, self._failures), (slow, self._slow)):
            if noted:
                numbers.append(self.good[0] + self._failed)

    def totals(self, now: float) -> Totals:
        """Sum over the window."""
        calls = self.good[0] + self._failed
        for numbers in (self._failures, self._slow):
            while numbers and numbers[0] <= calls - self.size:
                numbers.popleft()
        return Totals(min(calls, self.size), len(self._failures), len(self._slow))


class TimeWindow:
    """The calls of the last `seconds`, kept in `slices`: what is older leaves a slice at a time, never too late.

    With 10 s and 10 slices a total covers between 9 and 10 s. `good` and `turn` are as in `CountWindow`.
    """

    def __init__(self, seconds: float, slices: int = 10) -> None:
        self.width = seconds / slices
        self.slices = slices
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.good = [0]
        self.turn = -inf
        self._slices: list[_Slice] = []

    def renew(self) -> None:
        """Go on with another `good`: who still holds the old one adds to nothing."""
        self.good = self.good.copy()

    def roll(self, now: float) -> None:
        """Begin the slice of `now`, if it has not begun."""
        number = int(now // self.width)
        if not self._slices or self._slices[-1].number < number:
            self._drop(number)
            self._slices.append(_Slice(number, self.good[0]))
            self.turn = (number + 1) * self.width

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        """Add a call that ended at `now`."""
        self.roll(now)
        if failed:
            self._slices[-1].failures += 1
        else:
            self.good[0] += 1
        self._slices[-1].slow += slow

    def totals(self, now: float) -> Totals:
        """Sum over the window that ends at `now`."""
        self._drop(int(now // self.width))
        if not self._slices:
            return Totals()
        failures = sum(each.failures for each in self._slices)
        calls = self.good[0] - self._slices[0].good + failures
        return Totals(calls, failures, sum(each.slow for each in self._slices))

    def _drop(self, number: int) -> None:
        oldest = number - self.slices + 1
        while self._slices and self._slices[0].number < oldest:
            del self._slices[0]


class _Slice:
    __slots__ = ("failures", "good", "number", "slow")

    def __init__(self, number: int, good: int) -> None:
        self.number = number
        self.good = good  # how many successes there were before it
        self.failures = 0
        self.slow = 0


class LatencyHistogram:
    """Durations in buckets: eight to a factor of two from 1 µs to 17 minutes, and a bound at each of `marks`.

    So a percentile is off by 6 % at most, and what lies below a mark is known exactly. `counts[bisect_left(bounds, d)]`
    is the bucket of a duration of d seconds; adding one to it is all there is to do for a call.

    Source: the layout of HdrHistogram (Gil Tene, 2012), with three bits of mantissa.
    """

    __slots__ = ("bounds", "counts")

    def __init__(self, marks: Iterable[float] = ()) -> None:
        self.bounds = _bounds(tuple(marks))
        self.counts = [0] * (len(self.bounds) + 1)

    def index(self, seconds: float) -> int:
        """Return the bucket of a duration."""
        return bisect_left(self.bounds, seconds)

    def bound(self, index: int) -> float:
        """Return the longest duration of a bucket."""
        return self.bounds[index] if index < len(self.bounds) else float("inf")

    def add(self, seconds: float) -> None:
        """Count one duration."""
        index = self.index(seconds)
        self.counts[index] += 1

    def merge(self, counts: Iterable[int]) -> None:
        """Add another histogram's counts, of the same marks."""
        for index, count in enumerate(counts):
            if count:
                self.counts[index] += count

    def copy(self) -> LatencyHistogram:
        """Return what there is now."""
        other = LatencyHistogram.__new__(LatencyHistogram)
        other.bounds, other.counts = self.bounds, self.counts.copy()
        return other

    def below(self, marks: Iterable[float]) -> list[int]:
        """Count what lies between each two of the marks, and above the last."""
        ends = [bisect_left(self.bounds, mark) + 1 for mark in marks]
        counts = self.counts
        return [sum(counts[start:end]) for start, end in zip([0, *ends], [*ends, len(counts)], strict=True)]

    def quantiles(self, shares: Iterable[float]) -> list[float]:
        """Seconds below which these shares of the durations lie (0.5 is the median); 0 without any."""
        counts = self.counts.copy()
        total = sum(counts)
        return [self._quantile(counts, share, total) for share in shares]

    def _quantile(self, counts: list[int], share: float, total: int) -> float:
        seen = 0
        for index, count in enumerate(counts):
            seen += count
            if count and seen / total >= share:
                return self._middle(index)
        return 0.0

    def _middle(self, index: int) -> float:
        if index == len(self.bounds):
            return self.bounds[-1]
        return (self.bounds[index] + (self.bounds[index - 1] if index else 0.0)) / 2


_made: dict[tuple[float, ...], tuple[float, ...]] = {}


def _bounds(marks: tuple[float, ...]) -> tuple[float, ...]:
    if marks not in _made:
        fine = {(8 + step) / 8 * 2.0**octave for octave in range(-20, 10) for step in range(8)}
        _made[marks] = tuple(sorted(fine.union(marks)))
    return _made[marks]
