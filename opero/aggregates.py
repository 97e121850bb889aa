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
from opero.signals import EVENTS, REJECTIONS
from opero.windows import LatencyHistogram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from opero.signals import Attributes, Metric, Signals

    Key = tuple[str, Attributes]
    Delta = tuple[dict[Key, float], dict[Key, list[float]], dict[int, int]]

PER_CALL = tuple((EVENTS.name, (e.name, e.kind)) for e in (STARTED, ATTEMPT_STARTED, ATTEMPT_FINISHED, FINISHED))
ERROR_TYPES = 50  # distinct error.type values a book keeps; the rest is `_OTHER`


class Book:
    """The sums of one decorated function: counters, distributions, and latencies for percentiles.

    A distribution is its bucket counts, the overflow, and the sum. Thread-safe.
    """

    def __init__(self) -> None:
        self.metrics: dict[str, Metric] = {}
        self._zeros: list[tuple[Metric, Attributes]] = []
        self._errors: set[str] = set()
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Start at zero: the parent goes on with the sums."""
        self._lock = allocate_lock()
        self.sums: dict[Key, float] = {}
        self.distributions: dict[Key, list[float]] = {}
        self.latency = LatencyHistogram()
        for metric, attributes in self._zeros:
            self._zero_locked(metric, attributes)

    def declare(self, signals: Signals) -> None:
        """Let every series of these signals exist at 0."""
        for metric in signals.metrics:
            self.metrics[metric.name] = metric
            if metric.type != "gauge" or metric.zeros != ((),):
                self._zeros += [(metric, attributes) for attributes in metric.zeros]
        self._zeros += [(EVENTS, (event.name, signals.kind)) for event in signals.events]
        self._zeros += [(REJECTIONS, (signals.kind, reason)) for reason in signals.reasons]
        with self._lock:
            for metric, attributes in self._zeros:
                self._zero_locked(metric, attributes)

    def expect(self, metric: Metric, *attributes: str) -> None:
        """Let one more series exist at 0."""
        self._zeros.append((metric, attributes))
        with self._lock:
            self._zero_locked(metric, attributes)

    def add(self, metric: Metric, attributes: Attributes, amount: float = 1) -> None:
        """Count."""
        key = (metric.name, attributes)
        with self._lock:
            self.sums[key] = self.sums.get(key, 0) + amount

    def observe(self, metric: Metric, attributes: Attributes, value: float) -> None:
        """Add a value to a distribution."""
        with self._lock:
            self._observe_locked(metric, attributes, value)
            if metric is DURATION:
                self.latency.add(value)

    def begin(self) -> None:
        """Count a call on the fast path that began."""
        self.add(ACTIVE, ())

    def undo_begin(self) -> None:
        """Take that back: the general path counts the call as its own."""
        self.add(ACTIVE, (), -1)

    def succeed(self, duration: float) -> None:
        """Count a call on the fast path that returned in its only attempt."""
        with self._lock:
            self.sums[ACTIVE.name, ()] = self.sums.get((ACTIVE.name, ()), 0) - 1
            for key in PER_CALL:
                self.sums[key] = self.sums.get(key, 0) + 1
            self._observe_locked(DURATION, ("ok", ""), duration)
            self._observe_locked(ATTEMPT_DURATION, ("ok", ""), duration)
            self._observe_locked(CALL_ATTEMPTS, ("ok",), 1)
            self.latency.add(duration)

    def error_type(self, error: BaseException | None) -> str:
        """Return the class name for a label: one of a bounded set."""
        name = type(error).__name__ if error is not None else ""
        if name not in self._errors:
            if len(self._errors) >= ERROR_TYPES:
                return "_OTHER"
            self._errors.add(name)
        return name

    def drain(self) -> Delta:
        """Take everything out, to be merged elsewhere."""
        with self._lock:
            delta = (self.sums, self.distributions, self.latency.counts)
            self.sums, self.distributions, self.latency = {}, {}, LatencyHistogram()
        return delta

    def merge(self, delta: Delta) -> None:
        """Add what another book counted."""
        sums, distributions, latencies = delta
        with self._lock:
            for key, amount in sums.items():
                self.sums[key] = self.sums.get(key, 0) + amount
            for key, counts in distributions.items():
                mine = self.distributions.setdefault(key, [0.0] * len(counts))
                mine[:] = [a + b for a, b in zip(mine, counts, strict=True)]
            self.latency.merge(latencies)

    def read(self) -> Delta:
        """Return a copy of everything."""
        with self._lock:
            return dict(self.sums), {k: list(v) for k, v in self.distributions.items()}, dict(self.latency.counts)

    def stats(self) -> dict[str, float]:
        """Return the numbers of `f.opero.stats()`; percentiles in seconds."""
        sums, distributions, latencies = self.read()
        outcomes = {key[1][0]: sum(counts[:-1]) for key, counts in _of(DURATION, distributions, by=0)}
        made = sum(sum(counts[:-1]) for _, counts in _of(ATTEMPT_DURATION, distributions))
        rejected = sum(amount for (name, _), amount in sums.items() if name == REJECTIONS.name)
        p50, p95, p99 = LatencyHistogram(latencies).quantiles((0.5, 0.95, 0.99))
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

    def _observe_locked(self, metric: Metric, attributes: Attributes, value: float) -> None:
        counts = self.distributions.get((metric.name, attributes))
        if counts is None:
            counts = self._zero_locked(metric, attributes)
        counts[bisect_left(metric.buckets, value)] += 1
        counts[-1] += value

    def _zero_locked(self, metric: Metric, attributes: Attributes) -> list[float]:
        key = (metric.name, attributes)
        if metric.type == "histogram":
            return self.distributions.setdefault(key, [0.0] * (len(metric.buckets) + 2))
        self.sums.setdefault(key, 0)
        return []


def _of(
    metric: Metric, distributions: dict[Key, list[float]], by: int | None = None
) -> Iterable[tuple[Key, list[float]]]:
    merged: dict[Key, list[float]] = {}
    for (name, attributes), counts in distributions.items():
        if name == metric.name:
            key = (name, attributes if by is None else (attributes[by],))
            mine = merged.setdefault(key, [0.0] * len(counts))
            mine[:] = [a + b for a, b in zip(mine, counts, strict=True)]
    return merged.items()
