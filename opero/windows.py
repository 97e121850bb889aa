"""Sliding windows over calls, and a histogram of durations. Pure: `now` is an argument; not locked."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


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
    """The last `size` calls."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._ring: list[tuple[bool, bool]] = []
        self._next = 0
        self._totals = Totals()

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        """Add a call, and drop the oldest when the window is full."""
        totals = self._totals
        if len(self._ring) < self.size:
            self._ring.append((failed, slow))
            totals.calls += 1
        else:
            old_failed, old_slow = self._ring[self._next]
            totals.failures -= old_failed
            totals.slow -= old_slow
            self._ring[self._next] = (failed, slow)
            self._next = (self._next + 1) % self.size
        totals.failures += failed
        totals.slow += slow

    def totals(self, now: float) -> Totals:
        """Sum over the window; the object changes with the next `add`."""
        return self._totals


class TimeWindow:
    """The calls of the last `seconds`, kept in `slices`: what is older leaves a slice at a time, never too late.

    With 10 s and 10 slices a total covers between 9 and 10 s.
    """

    def __init__(self, seconds: float, slices: int = 10) -> None:
        self.width = seconds / slices
        self.slices = slices
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._slices: list[tuple[int, Totals]] = []

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        """Add a call that ended at `now`."""
        number = int(now // self.width)
        if not self._slices or self._slices[-1][0] < number:
            self._drop(number)
            self._slices.append((number, Totals()))
        totals = self._slices[-1][1]
        totals.calls += 1
        totals.failures += failed
        totals.slow += slow

    def totals(self, now: float) -> Totals:
        """Sum over the window that ends at `now`."""
        self._drop(int(now // self.width))
        held = [totals for _, totals in self._slices]
        return Totals(sum(t.calls for t in held), sum(t.failures for t in held), sum(t.slow for t in held))

    def _drop(self, number: int) -> None:
        oldest = number - self.slices + 1
        while self._slices and self._slices[0][0] < oldest:
            del self._slices[0]


class LatencyHistogram:
    """Durations in logarithmic buckets, eight to a factor of two: a percentile is off by 6 % at most. No upper limit.

    Source: the layout of HdrHistogram (Gil Tene, 2012), with three bits of mantissa.
    """

    __slots__ = ("counts",)

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts: dict[int, int] = dict(counts or {})

    def add(self, seconds: float) -> None:
        """Count one duration; nanoseconds are the resolution."""
        index = self._index(int(seconds * 1e9))
        self.counts[index] = self.counts.get(index, 0) + 1

    def merge(self, counts: Mapping[int, int]) -> None:
        """Add another histogram's counts."""
        for index, count in counts.items():
            self.counts[index] = self.counts.get(index, 0) + count

    def quantiles(self, shares: Iterable[float]) -> list[float]:
        """Seconds below which these shares of the durations lie (0.5 is the median); 0 without any."""
        ordered = sorted(self.counts.items())
        total = sum(count for _, count in ordered)
        return [self._quantile(ordered, share * total) for share in shares]

    def _quantile(self, ordered: list[tuple[int, int]], rank: float) -> float:
        seen = 0
        for index, count in ordered:
            seen += count
            if seen >= rank:
                return self._middle(index) / 1e9
        return 0.0

    @staticmethod
    def _index(nanoseconds: int) -> int:
        shift = max(nanoseconds.bit_length() - 4, 0)
        return (shift << 3) + (nanoseconds >> shift)

    @staticmethod
    def _middle(index: int) -> float:
        if index < 16:
            return float(index)
        shift = (index >> 3) - 1
        low = ((index & 7) + 8) << shift
        return low + (1 << shift) / 2
