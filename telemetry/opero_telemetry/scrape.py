"""What a `/metrics` page says, and what happened between two scrapes of it."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Labels = Mapping[str, str]

K = TypeVar("K")

CALL, OUTCOME, STATE, POLICY = "opero_call_name", "opero_outcome", "opero_circuit_state", "opero_policy_name"
CALLS, ATTEMPTS = "opero_call_duration_seconds", "opero_attempt_duration_seconds"
BAD = frozenset({"error", "timeout", "rejected"})


class Scrape:
    """The samples of one scrape; `at` is in seconds of any steady clock."""

    def __init__(self, text: str, at: float) -> None:
        self.at = at
        self.samples: dict[str, list[tuple[Labels, float]]] = defaultdict(list)
        for family in text_string_to_metric_families(text):
            if family.name.startswith("opero_"):
                for sample in family.samples:
                    self.samples[sample.name].append((sample.labels, sample.value))

    def total(self, name: str, by: str, keep: Callable[[Labels], bool] = lambda _: True) -> dict[str, float]:
        """Return the sums of a metric's samples, by the value of a label."""
        found: dict[str, float] = defaultdict(float)
        for labels, value in self.samples.get(name, ()):
            if by in labels and keep(labels):
                found[labels[by]] += value
        return found

    def buckets(self, name: str) -> dict[str, dict[float, float]]:
        """Return the cumulative buckets of each operation: upper bound → observations."""
        found: dict[str, dict[float, float]] = defaultdict(lambda: defaultdict(float))
        for labels, value in self.samples.get(f"{name}_bucket", ()):
            found[labels.get(CALL, "")][float(labels["le"])] += value
        return found

    def states(self) -> dict[str, str]:
        """Return the state of each operation's circuit, the worst where it has several."""
        rank = ("closed", "half_open", "open", "forced_open")
        found: dict[str, str] = {}
        for labels, value in self.samples.get("opero_circuit_state", ()):
            state, name = labels.get(STATE, ""), labels.get(CALL, "")
            if value and state in rank and rank.index(state) >= rank.index(found.get(name, "closed")):
                found[name] = state
        return found


@dataclass(frozen=True)
class Row:
    """What one operation did between two scrapes. Rates a second, times in seconds, NaN where nothing was called."""

    operation: str
    rate: float
    success: float
    p50: float
    p95: float
    p99: float
    attempts: float
    rejected: float
    active: float
    circuit: str


def rows(before: Scrape, after: Scrape) -> list[Row]:
    """Return a row for each operation, the busiest first."""
    seconds = max(after.at - before.at, 1e-9)
    count = f"{CALLS}_count"
    calls = _gained(before.total(count, CALL), after.total(count, CALL))
    counted = _gained(*(r.total(count, CALL, lambda labels: labels[OUTCOME] != "cancelled") for r in (before, after)))
    bad = _gained(*(r.total(count, CALL, lambda labels: labels[OUTCOME] in BAD) for r in (before, after)))
    attempts = _gained(*(r.total(f"{ATTEMPTS}_count", CALL) for r in (before, after)))
    rejected = _gained(*(r.total("opero_rejections_total", CALL) for r in (before, after)))
    active, states = after.total("opero_call_active", CALL), after.states()
    earlier, later = before.buckets(CALLS), after.buckets(CALLS)
    found = []
    for name in calls:
        gained = sorted(_gained(earlier.get(name, {}), later[name]).items())
        found.append(
            Row(
                operation=name,
                rate=calls[name] / seconds,
                success=1 - _ratio(bad.get(name, 0.0), counted.get(name, 0.0)),
                p50=quantile(0.5, gained),
                p95=quantile(0.95, gained),
                p99=quantile(0.99, gained),
                attempts=_ratio(attempts.get(name, 0.0), calls[name]),
                rejected=rejected.get(name, 0.0) / seconds,
                active=active.get(name, 0.0),
                circuit=states.get(name, ""),
            )
        )
    return sorted(found, key=lambda row: (-row.rate, row.operation))


def quantile(q: float, buckets: Iterable[tuple[float, float]]) -> float:
    """Return a quantile of cumulative buckets, interpolated within its bucket as Prometheus does; NaN for none."""
    bounds = list(buckets)
    if not bounds or bounds[-1][1] <= 0:
        return math.nan
    rank = q * bounds[-1][1]
    low, below = 0.0, 0.0
    for high, upto in bounds:
        if upto >= rank:
            if math.isinf(high):
                return low
            return low + (high - low) * _ratio(rank - below, upto - below, empty=1.0)
        low, below = high, upto
    return low


def _gained(before: Mapping[K, float], after: Mapping[K, float]) -> dict[K, float]:
    """Return how much each sum grew; one that fell began again at 0."""
    return {key: now - before.get(key, 0.0) if now >= before.get(key, 0.0) else now for key, now in after.items()}


def _ratio(part: float, whole: float, empty: float = math.nan) -> float:
    return part / whole if whole else empty
