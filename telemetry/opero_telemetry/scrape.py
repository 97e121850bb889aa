"""What happened between two readings, operation by operation: the lines of `opero top`."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opero_telemetry.tables import Distribution, Row, Tables

K = TypeVar("K")

CALL, OUTCOME, STATE, POLICY = "opero_call_name", "opero_outcome", "opero_circuit_state", "opero_policy_name"
CALLS, ATTEMPTS = "opero_call_duration_seconds", "opero_attempt_duration_seconds"
BAD = frozenset({"error", "timeout", "rejected"})


class Scrape:
    """What was read at `at`, in seconds of any steady clock."""

    def __init__(self, read: Tables, at: float) -> None:
        self.at = at
        self.tables = read

    def total(self, name: str, by: str, keep: Callable[[Row], bool] = lambda _: True) -> dict[str, float]:
        """Return the sums of a metric's series, by the value of a label; of distributions, their counts."""
        found: dict[str, float] = defaultdict(float)
        for row in self.tables[name]:
            if by in row.labels and keep(row):
                found[row[by]] += row.value
        return found

    def distributions(self, name: str) -> dict[str, Distribution]:
        """Return the distribution of each operation, over all outcomes."""
        found: dict[str, Distribution] = {}
        for row in self.tables[name]:
            more, known = row.distribution, found.get(row[CALL])
            if more is not None:
                found[row[CALL]] = more if known is None else known.plus(more)
        return found

    def states(self) -> dict[str, str]:
        """Return the state of each operation's circuit, the worst where it has several."""
        rank = ("closed", "half_open", "open", "forced_open")
        found: dict[str, str] = {}
        for row in self.tables["opero_circuit_state"]:
            state, name = row[STATE], row[CALL]
            if row.value and state in rank and rank.index(state) >= rank.index(found.get(name, "closed")):
                found[name] = state
        return found


@dataclass(frozen=True)
class Line:
    """What one operation did between two readings. Rates a second, times in seconds, None or NaN where nothing was."""

    operation: str
    rate: float
    success: float
    p50: float | None
    p95: float | None
    p99: float | None
    attempts: float
    rejected: float
    active: float
    circuit: str


def lines(before: Scrape, after: Scrape) -> list[Line]:
    """Return a line for each operation, the busiest first."""
    seconds = max(after.at - before.at, 1e-9)
    calls = _gained(before.total(CALLS, CALL), after.total(CALLS, CALL))
    counted = _gained(*(r.total(CALLS, CALL, lambda row: row[OUTCOME] != "cancelled") for r in (before, after)))
    bad = _gained(*(r.total(CALLS, CALL, lambda row: row[OUTCOME] in BAD) for r in (before, after)))
    attempts = _gained(*(r.total(ATTEMPTS, CALL) for r in (before, after)))
    rejected = _gained(*(r.total("opero_rejections_total", CALL) for r in (before, after)))
    active, states = after.total("opero_call_active", CALL), after.states()
    earlier, later = before.distributions(CALLS), after.distributions(CALLS)
    found = []
    for name in calls:
        gained = later[name].since(earlier.get(name))
        p50, p95, p99 = (gained.quantile(q) for q in (0.5, 0.95, 0.99))
        found.append(
            Line(
                operation=name,
                rate=calls[name] / seconds,
                success=1 - _ratio(bad.get(name, 0.0), counted.get(name, 0.0)),
                p50=p50,
                p95=p95,
                p99=p99,
                attempts=_ratio(attempts.get(name, 0.0), calls[name]),
                rejected=rejected.get(name, 0.0) / seconds,
                active=active.get(name, 0.0),
                circuit=states.get(name, ""),
            )
        )
    return sorted(found, key=lambda line: (-line.rate, line.operation))


def _gained(before: Mapping[K, float], after: Mapping[K, float]) -> dict[K, float]:
    """Return how much each sum grew; one that fell began again at 0."""
    return {key: now - before.get(key, 0.0) if now >= before.get(key, 0.0) else now for key, now in after.items()}


def _ratio(part: float, whole: float, empty: float = math.nan) -> float:
    return part / whole if whole else empty
