"""What went through a bulkhead since the last look: the fast path's calls from the books, the others as it saw them."""

from __future__ import annotations

from opero.control.users import Users
from opero.windows import LatencyHistogram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


COUNTS = ("other", "late", "refused", "throttled", "pressed")


class Passed:
    """Calls by how they went, and how long those took that the service answered."""

    def __init__(self) -> None:
        self.ok = self.other = self.late = self.refused = self.throttled = self.pressed = 0.0
        self.times = LatencyHistogram()


class Flow:
    """Reads differences."""

    def __init__(self, seen: Any) -> None:
        self.users = Users()
        self._seen = seen
        self._before: dict[object, list[int]] = {}
        self._counts = dict.fromkeys(COUNTS, 0)

    def since(self) -> Passed:
        """Return what came since the last time."""
        passed, seen = Passed(), self._seen
        tallies = [operation.book.tally for operation in self.users]
        for tally in tallies:
            self._add(tally, tally.latency, passed.times)
        self._before = {source: counts for source, counts in self._before.items() if source in {*tallies, seen}}
        self._add(seen, seen.latencies, passed.times)
        passed.ok = sum(passed.times.counts)
        for name in COUNTS:
            now = getattr(seen, name)
            setattr(passed, name, max(0, now - self._counts[name]))
            self._counts[name] = now
        return passed

    def _add(self, source: object, histogram: LatencyHistogram, times: LatencyHistogram) -> None:
        """Add what is new in a histogram to one that may have other bounds."""
        now = histogram.counts.copy()
        before = self._before.get(source, [0] * len(now))
        self._before[source] = now
        new = [max(0, count - had) for count, had in zip(now, before, strict=True)]
        if histogram.bounds is times.bounds:
            times.merge(new)
            return
        for index, count in enumerate(new):
            if count:
                times.counts[times.index(histogram.bounds[min(index, len(histogram.bounds) - 1)])] += count
