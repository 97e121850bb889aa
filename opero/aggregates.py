"""What a decorated function did, as numbers. A book is exact under threads, and starts at zero in a forked child."""

from __future__ import annotations

from _bisect import bisect_left
from _thread import allocate_lock

from opero import forks
from opero.call import (
    ACTIVE,
    ATTEMPT_DURATION,
    ATTEMPT_FINISHED,
    ATTEMPT_STARTED,
    CALL_ATTEMPTS,
    DURATION,
    FINISHED,
    STARTED,
)
from opero.exclusive import exclusive
from opero.signals import ATTEMPTS, EVENTS, REJECTIONS, SECONDS
from opero.windows import LatencyHistogram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TypeVar

    from opero.signals import Attributes, Metric, Signals

    Key = tuple[str, Attributes]
    Delta = tuple[dict[Key, float], dict[Key, list[float]], list[int]]
    N = TypeVar("N", int, float)

BEGUN: tuple[Key, ...] = (STARTED.key, ATTEMPT_STARTED.key)
ENDED: tuple[Key, ...] = (ATTEMPT_FINISHED.key, FINISHED.key)
ERROR_TYPES = 50  # distinct error.type values a book keeps; the rest is `_OTHER`


class Tally:
    """The calls of the fast path, which all went alike: begun, and returned in their only attempt.

    Two additions a call say everything: `started[0]` and one bucket of `latency`; `total[0]` is the seconds they took.
    `passed` are the distributions in which each of them counts as a 0: it did not wait at any gate.
    """

    __slots__ = ("latency", "marks", "passed", "started", "total")

    def __init__(self, marks: tuple[float, ...]) -> None:
        self.started = [0]
        self.total = [0.0]
        self.marks = marks
        self.latency = LatencyHistogram(marks)
        self.passed: list[Key] = []

    def clear(self) -> None:
        """Start at zero, in place: generated code holds the lists."""
        self.started[0], self.total[0] = 0, 0.0
        self.latency.counts[:] = [0] * len(self.latency.counts)

    def into(self, sums: dict[Key, float], distributions: dict[Key, list[float]]) -> None:
        """Add what these calls amount to."""
        begun, seconds = self.started[0], self.total[0]
        counts = self.latency.below(SECONDS)
        ended = sum(counts)
        if not begun:
            return
        amounts: list[tuple[Key, int]] = [(key, begun) for key in BEGUN] + [(key, ended) for key in ENDED]
        for key, amount in (*amounts, ((ACTIVE.name, ()), begun - ended)):
            sums[key] = sums.get(key, 0) + amount
        _add(distributions, (DURATION.name, ("ok", "")), [*self.latency.below(self.marks), seconds])
        _add(distributions, (ATTEMPT_DURATION.name, ("ok", "")), [*counts, seconds])
        _add(distributions, (CALL_ATTEMPTS.name, ("ok",)), [ended, *[0] * len(ATTEMPTS), ended])
        for key in self.passed:
            _add(distributions, key, [begun, *[0] * (len(distributions[key]) - 1)])


class Book:
    """The sums of one decorated function: counters, distributions, and latencies for percentiles.

    A distribution is its bucket counts, the overflow, and the sum. `marks` are the bounds of the durations of calls:
    the usual ones, and thresholds of its own. Thread-safe.
    """

    def __init__(self, marks: tuple[float, ...] = SECONDS) -> None:
        self.marks = marks
        self.tally = Tally(marks)
        self._declared: tuple[Signals, ...] = ()
        self._expected: tuple[tuple[Metric, Attributes], ...] = ()
        self._errors: set[str] = set()
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Start at zero: the parent goes on with the sums."""
        self._lock = allocate_lock()
        self.sums: dict[Key, float] = {}
        self.distributions: dict[Key, list[float]] = {}
        self.latencies: dict[int, int] = {}  # bucket of `tally.latency` → calls of the general path
        self._drained: Delta = ({}, {}, [])
        self.tally.clear()

    def declare(self, *signals: Signals) -> None:
        """Let every series of these signals exist at 0."""
        self._declared = (*self._declared, *signals)

    def expect(self, series: tuple[tuple[Metric, Attributes], ...]) -> None:
        """Let these series exist at 0, too."""
        self._expected = (*self._expected, *series) if self._expected else series

    def metrics(self) -> dict[str, Metric]:
        """Return every instrument it was told of."""
        return {metric.name: metric for signals in self._declared for metric in signals.metrics}

    def add(self, metric: Metric, attributes: Attributes, amount: float = 1) -> None:
        """Count."""
        self.count((metric.name, attributes), amount)

    def count(self, key: Key, amount: float = 1) -> None:
        """Count under a ready key."""
        if key not in self.sums:
            self.sums.setdefault(key, 0)
        self._count(key, amount)

    def observe(self, metric: Metric, attributes: Attributes, value: float) -> None:
        """Add a value to a distribution."""
        counts = self.distributions.get((metric.name, attributes))
        if counts is None:
            counts = self.distributions.setdefault((metric.name, attributes), self._empty(metric))
        self._put(counts, bisect_left(self.marks if metric is DURATION else metric.buckets, value), value)
        if metric is DURATION:
            index = self.tally.latency.index(value)
            self.latencies.setdefault(index, 0)
            self._count_latency(index)

    def observe_many(self, metric: Metric, attributes: Attributes, value: float, count: int) -> None:
        """Add the same value to a distribution, `count` times."""
        counts = self.distributions.get((metric.name, attributes))
        if counts is None:
            counts = self.distributions.setdefault((metric.name, attributes), self._empty(metric))
        self._put_at(counts, bisect_left(metric.buckets, value), count)
        self._put_at(counts, -1, value * count)

    def error_type(self, error: BaseException | None) -> str:
        """Return the class name for a label: one of a bounded set."""
        name = type(error).__name__ if error is not None else ""
        if name not in self._errors:
            if len(self._errors) >= ERROR_TYPES:
                return "_OTHER"
            self._errors.add(name)
        return name

    def drain(self) -> Delta:
        """Return what came since the last time, to be merged elsewhere."""
        before, now = self._drained, self.read()
        self._drained = now
        sums = {key: amount - before[0].get(key, 0) for key, amount in now[0].items()}
        distributions = {key: _minus(counts, before[1].get(key)) for key, counts in now[1].items()}
        latencies = [int(n) for n in _minus(now[2], before[2])]
        return (
            {key: amount for key, amount in sums.items() if amount},
            {key: counts for key, counts in distributions.items() if any(counts)},
            latencies if any(latencies) else [],
        )

    def merge(self, delta: Delta) -> None:
        """Add what another book counted."""
        sums, distributions, latencies = delta
        for key, amount in sums.items():
            self.count(key, amount)
        for key, counts in distributions.items():
            mine = self.distributions.setdefault(key, [0.0] * len(counts))
            for index, count in enumerate(counts):
                self._put_at(mine, index, count)
        for index, calls in enumerate(latencies):
            if calls:
                self.latencies.setdefault(index, 0)
                self._count_latency(index, calls)

    def take_over(self, book: Book) -> None:
        """Go on with the sums of a function that is gone."""
        self._declared = tuple(dict.fromkeys((*self._declared, *book._declared)))
        self.merge(book.read())

    def read(self) -> Delta:
        """Return a copy of everything."""
        sums, distributions = self._zeros()
        sums.update(self.sums.copy())
        distributions.update((key, counts.copy()) for key, counts in self.distributions.copy().items())
        self.tally.into(sums, distributions)
        latencies = self.tally.latency.counts.copy()
        for index, calls in self.latencies.copy().items():
            latencies[index] += calls
        return sums, distributions, latencies

    def stats(self) -> dict[str, float]:
        """Return the numbers of `f.opero.stats()`; percentiles in seconds."""
        sums, distributions, latencies = self.read()
        outcomes = {key[1][0]: sum(counts[:-1]) for key, counts in _of(DURATION, distributions, by=0)}
        made = sum(sum(counts[:-1]) for _, counts in _of(ATTEMPT_DURATION, distributions))
        rejected = sum(amount for (name, _), amount in sums.items() if name == REJECTIONS.name)
        histogram = LatencyHistogram(self.marks)
        histogram.merge(latencies)
        p50, p95, p99 = histogram.quantiles((0.5, 0.95, 0.99))
        events = {key[1][0]: amount for key, amount in sums.items() if key[0] == EVENTS.name}
        return {
            "calls": int(sum(outcomes.values())),
            "active": int(sums.get((ACTIVE.name, ()), 0)),
            "ok": int(outcomes.get("ok", 0)),
            "errors": int(sum(outcomes.get(o, 0) for o in ("error", "timeout", "rejected"))),
            "attempts": int(made),
            "retries": int(events.get("opero.retry.scheduled", 0)),
            "rejected": int(rejected),
            "timeouts": int(events.get("opero.timeout.expired", 0)),
            "fallbacks": int(outcomes.get("fallback", 0)),
            "cached": int(outcomes.get("cached", 0)),
            "cancelled": int(outcomes.get("cancelled", 0)),
            "p50": p50,
            "p95": p95,
            "p99": p99,
        }

    @exclusive
    def _count(self, key: Key, amount: float) -> None:
        self.sums[key] += amount

    @exclusive
    def _put(self, counts: list[float], index: int, value: float) -> None:
        counts[index] += 1
        counts[-1] += value

    @exclusive
    def _put_at(self, counts: list[float], index: int, amount: float) -> None:
        counts[index] += amount

    @exclusive
    def _count_latency(self, index: int, calls: int = 1) -> None:
        self.latencies[index] += calls

    def _zeros(self) -> tuple[dict[Key, float], dict[Key, list[float]]]:
        sums: dict[Key, float] = {}
        distributions: dict[Key, list[float]] = {}
        declared = [
            (metric, attributes)
            for signals in self._declared
            for metric in signals.metrics
            if metric.type != "gauge" or metric.zeros != ((),)
            for attributes in metric.zeros
        ]
        for metric, attributes in (*declared, *self._expected):
            if metric.type == "histogram":
                distributions[metric.name, attributes] = self._empty(metric)
            else:
                sums[metric.name, attributes] = 0
        for signals in self._declared:
            sums.update(dict.fromkeys([event.key for event in signals.events], 0))
            sums.update(dict.fromkeys([(REJECTIONS.name, (signals.kind, reason)) for reason in signals.reasons], 0))
        return sums, distributions

    def _empty(self, metric: Metric) -> list[float]:
        return [0.0] * (len(self.marks if metric is DURATION else metric.buckets) + 2)


def _of(
    metric: Metric, distributions: Mapping[Key, list[float]], by: int | None = None
) -> Iterable[tuple[Key, list[float]]]:
    merged: dict[Key, list[float]] = {}
    for (name, attributes), counts in distributions.items():
        if name == metric.name:
            _add(merged, (name, attributes if by is None else (attributes[by],)), counts)
    return merged.items()


def _add(distributions: dict[Key, list[float]], key: Key, counts: Sequence[float]) -> None:
    distributions[key] = _plus(counts, distributions.get(key))


def _plus(counts: Sequence[N], others: Sequence[N] | None) -> list[N]:
    return [a + b for a, b in zip(counts, others, strict=True)] if others else list(counts)


def _minus(counts: Sequence[float], others: Sequence[float] | None) -> list[float]:
    return [a - b for a, b in zip(counts, others, strict=True)] if others else list(counts)
