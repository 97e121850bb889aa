"""A file of events, one JSON object a line.

`{"at": 1767225600.5, "operation": "shop.pay", "outcome": "ok", "duration": 0.2}`

`at` is Unix seconds or ISO 8601; `count` says how many alike. The lines of `opero_telemetry`'s log with the event
`opero.call.finished` are read as they are. A line may tell of the cache (`"cache": "hit"`) or of something said
(`"event": "opero.fallback.used"`) instead of a call.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from opero.errors import ConfigurationError
from opero.signals import SECONDS
from opero_slo.evaluator import derive
from opero_slo.model import Level, Ratio, Selection
from opero_slo.series import NOTHING, Counts, Series

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opero_slo.model import SLO, Metric

BYTES = 2_000_000_000
FINISHED = "opero.call.finished"


class Event(NamedTuple):
    """Something that happened, so many times. `kind` and `value` are calls and an outcome, cache and a result …"""

    at: float
    operation: str
    kind: str
    value: str
    duration: float
    amount: float


class Events:
    """Events from a file, or from anywhere."""

    def __init__(self, events: Iterable[Event], name: str = "events") -> None:
        self.events = sorted(events, key=lambda event: event.at)
        self.name = name

    def series(self, slo: SLO, start: float, end: float) -> Series:
        return derive(slo, self._counted(slo, end))

    def operations(self, slo: SLO, start: float, end: float) -> dict[str, Counts]:
        part, total, inverted = _metrics(slo)
        found: defaultdict[str, Counts] = defaultdict(lambda: NOTHING)
        for event in self.events:
            if start < event.at <= end and _selects(total, event):
                good = event.amount if _selects(part, event) != inverted else 0
                found[event.operation] += Counts(good, event.amount)
        return dict(found)

    def latencies(self, slo: SLO, start: float, end: float) -> list[tuple[float, float]]:
        bounds = sorted({*SECONDS, *([slo.latency] if slo.latency else [])})
        counts = [0.0] * (len(bounds) + 1)
        total = _metrics(slo)[1]
        for event in self.events:
            if start < event.at <= end and event.kind == "calls" and _selects(total, event):
                counts[bisect_left(bounds, event.duration)] += event.amount
        return list(zip([*bounds, float("inf")], counts, strict=True)) if any(counts) else []

    def _counted(self, slo: SLO, end: float) -> Series:
        part, total, _ = _metrics(slo)
        series = Series()
        counted, of = 0.0, 0.0
        for event in self.events:
            if event.at > end:
                break
            if not series.times:
                series.add(event.at - 1e-6, 0, 0)  # the first event counts too
            counted += event.amount if _selects(part, event) else 0
            of += event.amount if _selects(total, event) else 0
            series.add(event.at, counted, of)
        if series.times and series.times[-1] < end:
            series.add(end, counted, of)
        return series


def read(path: str | Path) -> Events:
    """Read a file; raise `ConfigurationError` that names the line where it is none."""
    file = Path(path)
    try:
        if file.stat().st_size > BYTES:
            raise ConfigurationError("events", str(path), f"a file of {BYTES:,} bytes at most")
        with file.open(encoding="utf-8") as lines:
            return Events(list(_events(str(path), lines)), name=file.name)
    except OSError as error:
        raise ConfigurationError("events", str(path), f"a file that can be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigurationError("events", str(path), "a file in UTF-8") from None


def _events(path: str, lines: Iterable[str]) -> Iterator[Event]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = _event(json.loads(line))
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            raise ConfigurationError("events", path, f"one JSON object a line; line {number}: {error}") from None
        if event is not None:
            yield event


def _event(line: Any) -> Event | None:
    if not isinstance(line, dict):
        raise ValueError("no object")  # noqa: TRY004 - a wrong file is told like any other
    said = line.get("event", FINISHED)
    at = _moment(line["at"] if "at" in line else line.get("timestamp"))
    operation, count = line.get("operation", ""), line.get("count", 1)
    if not isinstance(operation, str) or not isinstance(said, str) or isinstance(count, bool) or not count >= 0:
        raise ValueError("operation takes a text, count a number")
    if "cache" in line:
        return Event(at, operation, "cache", str(line["cache"]), 0.0, count)
    if said != FINISHED:
        return Event(at, operation, "events", said, 0.0, count)
    if "outcome" not in line:
        raise ValueError("a call has an outcome")
    return Event(at, operation, "calls", str(line["outcome"]), float(line.get("duration", 0.0)), count)


def _moment(value: object) -> float:
    if isinstance(value, str):
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise ValueError("at takes Unix seconds or an ISO 8601 text")
    return float(value)


def _metrics(slo: SLO) -> tuple[Metric, Metric, bool]:
    indicator = slo.indicator
    if isinstance(indicator, Ratio):
        part, total, inverted = indicator.part, indicator.total, indicator.inverted
    else:
        part = total = indicator.metric
        inverted = False
    if not (isinstance(part, Selection) and isinstance(total, Selection)):
        raise ConfigurationError(f"the indicator of {slo.name}", None, "a source of type Opero, to be read from events")
    if isinstance(indicator, Level) and indicator.measure == "value":
        raise ConfigurationError(f"the indicator of {slo.name}", None, "measure: throughput or freshness")
    return part, total, inverted


def _selects(metric: Metric, event: Event) -> bool:
    return (
        isinstance(metric, Selection)
        and metric.counted == event.kind
        and event.value in metric.values
        and metric.covers(event.operation)
        and (metric.within is None or event.duration <= metric.within)
    )
