"""What a decorated function did, as numbers. A book is exact under threads, and starts at zero in a forked child."""

from __future__ import annotations

from _bisect import bisect_left
from collections import defaultdict

from opero import forks
from opero.call import ACTIVE, ATTEMPT_DURATION, ATTEMPT_FINISHED, CALL_ATTEMPTS, DURATION, FINISHED, STARTED
from opero.exclusive import exclusive, new_lock
from opero.signals import EVENTS, REJECTIONS, SECONDS
from opero.tallies import Failing, Tally, add, count_in, minus, take
from opero.windows import LatencyHistogram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, TypeVar

    from opero.signals import Attributes, Event, Metric, Signals

    Key = tuple[str, Attributes]
    Delta = tuple[dict[Key, float], dict[Key, list[float]], list[int]]
    Cut = tuple[Any, ...]
    N = TypeVar("N", int, float)

IN_FLIGHT: Key = (ACTIVE.name, ())
ERROR_TYPES = 50  # distinct error.type values a book keeps; the rest is `_OTHER`


class Book:
    """The sums of one decorated function: counters, distributions, and latencies for percentiles.

    A distribution is its bucket counts, the overflow, and the sum. `marks` are the bounds of the durations of calls:
    the usual ones, and thresholds of its own. How many ended follows from the distributions; how many began is counted
    where they begin, so that no sum ever falls. Thread-safe.
    """

    def __init__(self, marks: tuple[float, ...] = SECONDS) -> None:
        self.marks = marks
        self.tally = Tally(marks)
        self._declared: tuple[Signals, ...] = ()
        self._expected: tuple[tuple[Metric, Attributes], ...] = ()
        self._errors: dict[str, None] = {}  # a set takes three times as much
        self.failures: dict[type, Failing] = {}
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Start at zero: the parent goes on with the sums."""
        self._lock = new_lock()
        self.sums: dict[Key, float] = {}
        self.failures.clear()
        self.distributions: dict[Key, list[float]] = {}
        self.latencies: defaultdict[int, int] = defaultdict(int)  # calls of the general path by bucket of `tally`
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

    @exclusive
    def count(self, key: Key, amount: float = 1) -> None:
        """Count under a ready key."""
        if key not in self.sums:
            self.sums.setdefault(key, 0)
        self.sums[key] += amount

    @exclusive
    def observe(self, metric: Metric, attributes: Attributes, value: float) -> None:
        """Add a value to a distribution."""
        key = (metric.name, attributes)
        counts = self.distributions.get(key)
        if counts is None:
            counts = self.distributions.setdefault(key, self._empty(metric))
        index = bisect_left(self.marks if metric is DURATION else metric.buckets, value)
        counts[index] += 1
        counts[-1] += value

    @exclusive
    def finish(self, outcome: str, error: str, duration: float, attempts: int) -> None:
        """Count a call of the general path that ended."""
        self.observe(DURATION, (outcome, error), duration)
        self.observe(CALL_ATTEMPTS, (outcome,), attempts)
        index = self.tally.latency.index(duration)
        self.latencies[index] += 1

    @exclusive
    def observe_many(self, metric: Metric, attributes: Attributes, value: float, count: int) -> None:
        """Add the same value to a distribution, `count` times."""
        counts = self.distributions.get((metric.name, attributes))
        if counts is None:
            counts = self.distributions.setdefault((metric.name, attributes), self._empty(metric))
        index, total = bisect_left(metric.buckets, value), value * count
        counts[index] += count
        counts[-1] += total

    def error_type(self, error: BaseException | None) -> str:
        """Return the class name for a label: one of a bounded set."""
        name = type(error).__name__ if error is not None else ""
        if name not in self._errors:
            if len(self._errors) >= ERROR_TYPES:
                return "_OTHER"
            self._errors[name] = None
        return name

    def failing(self, error: Exception, gave_up: Event, made: int, waits: Metric) -> Failing | None:
        """Return where the failing path counts errors of this type, when it gives up after so many attempts."""
        if len(self.failures) >= ERROR_TYPES:
            return None
        made_here = Failing(self.error_type(error), gave_up.key, made, (waits.name, ()))
        return self.failures.setdefault(type(error), made_here)

    def drain(self) -> Delta:
        """Return what came since the last time, to be merged elsewhere."""
        before, now = self._drained, self._raw()
        self._drained = now
        sums = {key: amount - before[0].get(key, 0) for key, amount in now[0].items()}
        distributions = {key: minus(counts, before[1].get(key)) for key, counts in now[1].items()}
        latencies = [int(n) for n in minus(now[2], before[2])]
        return (
            {key: amount for key, amount in sums.items() if amount},
            {key: counts for key, counts in distributions.items() if any(counts)},
            latencies if any(latencies) else [],
        )

    def cut(self) -> Cut:
        """Take out what there is, to be pasted into the book of the same function elsewhere; cheaper than `drain`."""
        tally = self.tally
        fixed = [take(held, 0) for held in (tally.started, tally.total, tally.refused, tally.answers)]
        buckets = [(index, take(tally.latency.counts, index)) for index, n in enumerate(tally.latency.counts) if n]
        sums = {key: take(self.sums, key) for key, amount in list(self.sums.items()) if amount}
        distributions = {
            key: [take(counts, index) for index in range(len(counts))]
            for key, counts in list(self.distributions.items())
            if any(counts)
        }
        latencies = defaultdict(int, {index: take(self.latencies, index) for index in list(self.latencies)})
        for failing in list(self.failures.values()):
            failing.cut().into(tally, sums, distributions, latencies)
        return fixed, buckets, tally.passed, tally.refusal, tally.answered, sums, distributions, dict(latencies)

    def paste(self, cut: Cut) -> None:
        """Add what was cut out of the book of the same function."""
        fixed, buckets, passed, refusal, answered, sums, distributions, latencies = cut
        tally = self.tally
        begun, seconds, refused, answers = fixed
        tally.started[0] += begun
        tally.total[0] += seconds
        tally.refused[0] += refused
        tally.answers[0] += answers
        for index, number in buckets:
            tally.latency.counts[index] += number
        if not tally.passed:
            tally.passed = passed
        tally.refusal = tally.refusal or refusal
        tally.answered = tally.answered or answered
        for key, amount in sums.items():
            self.count(key, amount)
        for key, counts in distributions.items():
            mine = self.distributions.setdefault(key, [0.0] * len(counts))
            for index, count in enumerate(counts):
                mine[index] += count
        for index, number in latencies.items():
            self.latencies[index] += number

    @exclusive
    def merge(self, delta: Delta) -> None:
        """Add what another book counted."""
        sums, distributions, latencies = delta
        for key, amount in sums.items():
            self.count(key, amount)
        for key, counts in distributions.items():
            mine = self.distributions.setdefault(key, [0.0] * len(counts))
            for index, count in enumerate(counts):
                mine[index] += count
        for index, calls in enumerate(latencies):
            if calls:
                self.latencies[index] += calls

    def take_over(self, book: Book) -> None:
        """Go on with the sums of a function that is gone."""
        self._declared = tuple(dict.fromkeys((*self._declared, *book._declared)))
        self.merge(book._raw())

    def read(self) -> Delta:
        """Return a copy of everything: what was counted, what follows from it, and the series that are still at 0."""
        sums, distributions = self._zeros()
        counted, observed, latencies = self._raw()
        sums.update(counted)
        distributions.update(observed)
        ended, tried = (sum(sum(counts[:-1]) for _, counts in _of(m, observed)) for m in (DURATION, ATTEMPT_DURATION))
        sums[FINISHED.key] = int(ended)
        sums[ATTEMPT_FINISHED.key] = int(tried + counted.get(ATTEMPT_FINISHED.key, 0))
        sums[IN_FLIGHT] = max(0, int(sums[STARTED.key] - ended))
        for event in (event for signals in self._declared for event in signals.events if event.follows):
            sums[event.key] = _said(event, sums, distributions)
        return sums, distributions, latencies

    def said(self, *events: Event) -> list[int]:
        """Return how often each of these was said."""
        sums, distributions, _ = self._raw()
        return [_said(event, sums, distributions) for event in events]

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

    def _raw(self) -> Delta:
        distributions = {key: counts.copy() for key, counts in self.distributions.copy().items() if any(counts)}
        sums: dict[Key, float] = {}
        ended = self.latencies.copy()
        for failing in list(self.failures.values()):
            failing.into(self.tally, sums, distributions, ended)
        latencies = self.tally.into(sums, distributions)
        for index, calls in ended.items():
            latencies[index] += calls
        for key, amount in self.sums.copy().items():  # last: they say what began
            count_in(sums, key, amount)
        return sums, distributions, latencies

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


def _said(event: Event, sums: Mapping[Key, float], distributions: Mapping[Key, list[float]]) -> int:
    if event.follows is None:
        return int(sums.get(event.key, 0))
    return int(sum(sum(counts[:-1]) for _, counts in _of(event.follows, distributions)))


def _of(
    metric: Metric, distributions: Mapping[Key, list[float]], by: int | None = None
) -> Iterable[tuple[Key, list[float]]]:
    merged: dict[Key, list[float]] = {}
    for (name, attributes), counts in distributions.items():
        if name == metric.name:
            add(merged, (name, attributes if by is None else (attributes[by],)), counts)
    return merged.items()
