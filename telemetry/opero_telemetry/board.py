"""What a person wants to see of it: rates, errors and percentiles of the last minute, and the state of every policy.

Fed with cumulative numbers about once a second; keeps one minute of differences.
"""

from __future__ import annotations

from collections import deque
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from opero_telemetry.scrape import BAD, CALL, POLICY
from opero_telemetry.tables import Distribution

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from opero_telemetry.tables import Row, Tables

MINUTE = 60  # seconds that rates and percentiles look back
KEPT = 40  # changes of state remembered of each breaker


class Board:
    """Feed it, then ask for its state; one thread at a time."""

    def __init__(self) -> None:
        self._operations: dict[str, _Operation] = {}
        self._breakers: dict[tuple[str, str], list[tuple[float, str]]] = {}
        self._tables: Tables | None = None
        self._at = 0.0

    def feed(self, tables: Tables, at: float) -> None:
        """Take a reading; `at` is Unix time in seconds."""
        self._tables, self._at = tables, at
        durations: dict[str, list[Row]] = {}
        for row in tables["opero_call_duration_seconds"]:
            durations.setdefault(row[CALL], []).append(row)
        for name in [name for name in self._operations if name not in durations]:
            del self._operations[name]
        for name, rows in durations.items():
            self._operations.setdefault(name, _Operation()).feed(rows, at)
        for row in tables["opero_circuit_state"]:
            if row.value:
                history = self._breakers.setdefault((row[CALL], row[POLICY]), [])
                if not history or history[-1][1] != row["opero_circuit_state"]:
                    history.append((at, row["opero_circuit_state"]))
                    del history[:-KEPT]

    def state(self) -> dict[str, Any]:
        """Return everything as plain data, operations by name."""
        tables = self._tables
        if tables is None:
            return {"at": 0.0, "operations": [], "maps": [], "controllers": [], "slos": [], "dropped": 0}
        operations = [self._operation(tables, name) for name in sorted(self._operations)]
        return {
            "at": self._at,
            "operations": operations,
            "maps": [*_maps(tables)],
            "controllers": [*_controllers(tables)],
            "slos": [*_slos(tables)],
            "dropped": sum(row.value for row in tables["opero_telemetry_events_dropped_total"]),
        }

    def _operation(self, tables: Tables, name: str) -> dict[str, Any]:
        told = self._operations[name].state()
        mine = _Mine(tables, name)
        told.update(
            name=name,
            active=mine.sum("opero_call_active"),
            retries=mine.sum("opero_events_total", opero_event_name="opero.retry.scheduled"),
            rejections=mine.by("opero_rejections_total", "opero_rejection_reason"),
            breakers=[self._breaker(mine, policy) for call, policy in self._breakers if call == name],
            cache=_cache(mine),
            budget=mine.one("opero_retry_budget_utilization"),
            bulkhead=_bulkhead(mine),
            limiter=_limiter(mine),
        )
        return told

    def _breaker(self, mine: _Mine, policy: str) -> dict[str, Any]:
        history = self._breakers[mine.name, policy]
        return {
            "name": policy,
            "state": history[-1][1],
            "history": history,
            "failures": mine.one("opero_circuit_failure_ratio", opero_policy_name=policy) or 0.0,
            "opened": mine.sum("opero_circuit_transitions_total", opero_policy_name=policy, opero_circuit_state="open"),
        }


class _Operation:
    """A minute of one operation: cumulative (time, calls, failures, distribution) once a second."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float, float, Distribution]] = deque(maxlen=MINUTE + 1)
        self._outcomes: dict[str, float] = {}

    def feed(self, rows: Sequence[Row], at: float) -> None:
        told = [row.distribution for row in rows if row.distribution is not None]
        if not told:
            return
        outcomes: dict[str, float] = {}
        for row in rows:
            outcomes[row["opero_outcome"]] = outcomes.get(row["opero_outcome"], 0) + row.value
        failed = sum(count for outcome, count in outcomes.items() if outcome in BAD)
        self._outcomes = outcomes
        self._seen.append((at, sum(outcomes.values()), failed, reduce(Distribution.plus, told)))

    def state(self) -> dict[str, Any]:
        (began, calls, failed, earlier), (at, calls_now, failed_now, later) = self._seen[0], self._seen[-1]
        made, took = calls_now - calls, max(at - began, 1e-9)
        passed = later.since(earlier)
        p50, p95, p99 = (passed.quantile(q) for q in (0.5, 0.95, 0.99))
        return {
            "calls": calls_now,
            "rate": made / took if len(self._seen) > 1 else 0.0,
            "errors": (failed_now - failed) / made if made else 0.0,
            "outcomes": {outcome: count for outcome, count in sorted(self._outcomes.items()) if count},
            "p50": p50,
            "p95": p95,
            "p99": p99,
            "bounds": later.bounds,
            "buckets": passed.counts,
            "rates": [*self._rates(1)],
            "failures": [*self._rates(2)],
        }

    def _rates(self, field: int) -> Iterable[float]:
        seen = [*self._seen]
        for before, after in pairwise(seen):
            yield (after[field] - before[field]) / max(after[0] - before[0], 1e-9)  # type: ignore[operator]


class _Mine:
    """The rows of one operation."""

    def __init__(self, tables: Tables, name: str) -> None:
        self._tables = tables
        self.name = name

    def rows(self, metric: str, **labels: str) -> list[Row]:
        wanted = {CALL: self.name, **labels}
        return [row for row in self._tables[metric] if all(row[k] == v for k, v in wanted.items())]

    def sum(self, metric: str, **labels: str) -> float:
        return sum(row.value for row in self.rows(metric, **labels))

    def one(self, metric: str, **labels: str) -> float | None:
        found = self.rows(metric, **labels)
        return found[0].value if found else None

    def by(self, metric: str, label: str, **labels: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for row in self.rows(metric, **labels):
            if row.value:
                found[row[label]] = found.get(row[label], 0) + row.value
        return found


def _cache(mine: _Mine) -> dict[str, Any] | None:
    asked = mine.by("opero_cache_requests_total", "opero_cache_result")
    if not mine.rows("opero_cache_requests_total"):
        return None
    total = sum(asked.values())
    hits = sum(asked.get(result, 0) for result in ("hit", "stale", "coalesced"))
    entries = mine.one("opero_cache_entry_count")
    return {"ratio": hits / total if total else None, "requests": asked, "entries": entries}


def _bulkhead(mine: _Mine) -> dict[str, Any] | None:
    limit = mine.one("opero_bulkhead_limit")
    if limit is None:
        return None
    return {"used": mine.one("opero_bulkhead_usage"), "limit": limit, "queue": mine.one("opero_bulkhead_queue_length")}


def _limiter(mine: _Mine) -> dict[str, Any] | None:
    limit = mine.one("opero_rate_limiter_limit_per_second")
    return None if limit is None else {"limit": limit, "available": mine.one("opero_rate_limiter_available")}


def _maps(tables: Tables) -> Iterable[dict[str, Any]]:
    for name in sorted({row[CALL] for row in tables["opero_map_items_total"]}):
        mine = _Mine(tables, name)
        items = mine.by("opero_map_items_total", "opero_outcome")
        active, limit = mine.sum("opero_map_active"), mine.sum("opero_map_concurrency_limit")
        durations = [row.distribution for row in mine.rows("opero_map_item_duration_seconds") if row.distribution]
        took = reduce(Distribution.plus, durations) if durations else None
        yield {
            "name": name,
            "done": sum(items.values()),
            "failed": items.get("error", 0),
            "active": active,
            "limit": limit,
            "p50": took.quantile(0.5) if took else None,
            "p99": took.quantile(0.99) if took else None,
        }


def _controllers(tables: Tables) -> Iterable[dict[str, Any]]:
    for row in tables["opero_controller_setpoint"]:
        mine = _Mine(tables, row[CALL])
        about = {name: value for name, value in row.labels.items() if name != CALL}
        moves = mine.by("opero_controller_adjustments_total", "direction", **about)
        yield {"operation": row[CALL], "about": about, "value": row.value, "moves": moves}


def _slos(tables: Tables) -> Iterable[dict[str, Any]]:
    for row in tables["opero_slo_objective"]:
        name = row["slo_name"]

        def of(metric: str, name: str = name, call: str = row[CALL]) -> list[Row]:
            return [r for r in tables[metric] if r["slo_name"] == name and r[CALL] == call]

        burns = {r["slo_window"]: r.value for r in of("opero_slo_burn_rate")}
        sli, left = of("opero_slo_sli"), of("opero_slo_error_budget_remaining")
        yield {
            "name": name,
            "operation": row[CALL],
            "objective": row.value,
            "sli": sli[0].value if sli else None,
            "left": left[0].value if left else None,
            "burn": burns,
        }
