"""A Prometheus server. Counters are read at a grid of moments and subtracted: `increase` would extrapolate.

Between two moments of the grid in which a counter began again at zero, its own samples are read. A counter that
appears later counts from its first sample on, as Prometheus itself does.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from math import floor, inf, isfinite
from typing import TYPE_CHECKING, Any

from opero.errors import ConfigurationError
from opero_slo import alerts, promql
from opero_slo.evaluator import LEVEL_SLICE, derive
from opero_slo.model import COUNTED_CALLS, Level, Query, Ratio, Raw, Selection
from opero_slo.series import Counts, Series, levels, ratios

if TYPE_CHECKING:
    from opero_slo.model import SLO, Metric

STEPS = (300.0, 60.0, 30.0, 15.0)
POINTS = 10_000  # of one answer; Prometheus gives 11,000
LOOKBACK = 300.0
REACH = 3 * 86400.0
COARSE = 3600.0
ANSWER = 500_000_000

Labels = frozenset[tuple[str, str]]


class Prometheus:
    """Asks a server at `url` (http or https, with or without a path)."""

    def __init__(self, url: str, timeout: float = 60.0) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigurationError("prometheus", url, "an address like http://127.0.0.1:9090")
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.name = f"Prometheus at {parts.hostname}"

    def series(self, slo: SLO, start: float, end: float) -> Series:
        indicator = slo.indicator
        if isinstance(indicator, Ratio):
            step = grid_step(slo)
            part = self._growth(indicator.part, start, end, step)
            total = self._growth(indicator.total, start, end, step)
            return derive(slo, _joined(part, total))
        width = slo.slices.width if slo.slices else LEVEL_SLICE
        if isinstance(indicator, Raw):
            text = promql.at_window(promql.query_of(indicator.metric), f"{width:g}s")
            return ratios(self._sum(text, start, end, width), width, inverted=indicator.inverted)
        return self._level(slo, indicator, start, end, width)

    def operations(self, slo: SLO, start: float, end: float) -> dict[str, Counts]:
        indicator = slo.indicator
        part = indicator.part if isinstance(indicator, Ratio) else indicator.metric
        total = indicator.total if isinstance(indicator, Ratio) else part
        if not (isinstance(part, Selection) and isinstance(total, Selection)):
            return {}
        parts, totals = (self._by(m, promql.OPERATION, start, end) for m in (part, total))
        inverted = isinstance(indicator, Ratio) and indicator.inverted
        counts = {name: (parts.get(name, 0.0), of) for name, of in totals.items()}
        return {name: Counts(of - some if inverted else some, of) for name, (some, of) in counts.items()}

    def latencies(self, slo: SLO, start: float, end: float) -> list[tuple[float, float]]:
        if not slo.operation:
            return []
        calls = promql.selector(Selection(slo.operation, "calls", COUNTED_CALLS))
        grown = self._grouped(calls.replace("_count{", "_bucket{", 1), "le", start, end)
        below = sorted((inf if bound == "+Inf" else float(bound), calls) for bound, calls in grown.items())
        return [
            (bound, calls - before) for (bound, calls), (_, before) in zip(below, [(0.0, 0.0), *below], strict=False)
        ]

    def query(self, expression: str, at: float) -> list[dict[str, Any]]:
        """Ask for an expression at a moment."""
        return self._ask("query", query=expression, time=f"{at:.3f}")

    def _level(self, slo: SLO, indicator: Level, start: float, end: float, width: float) -> Series:
        if slo.good_if is None:
            raise ConfigurationError("objectives", slo.name, "op and value for a thresholdMetric")
        if isinstance(indicator.metric, Selection):
            step = min(width, LOOKBACK)
            counted = self._growth(indicator.metric, start, end, step)
            return derive(slo, _joined(counted, counted))
        text = promql.at_window(promql.query_of(indicator.metric), f"{width:g}s")
        return levels(self._sum(text, start, end, width), *slo.good_if, width)

    def _growth(self, metric: Metric, start: float, end: float, step: float) -> list[tuple[float, float]]:
        """Return how much a counter grew by each moment of the grid."""
        text = promql.counters(metric)
        if text is not None:
            return self._total(self._cumulated(text, start, end, step))
        moments = _grid(start, end, step)
        grown = dict(self._sum(promql.increase(metric, f"{step:g}s"), start, end, step))
        total = 0.0
        made: list[tuple[float, float]] = []
        for at in moments:
            total += grown.get(at, 0.0) if made else 0.0
            made.append((at, total))
        return made

    def _by(self, metric: Selection, label: str, start: float, end: float) -> dict[str, float]:
        return self._grouped(promql.selector(metric), label, start, end)

    def _grouped(self, text: str, label: str, start: float, end: float) -> dict[str, float]:
        """Return how much the series with each value of a label grew."""
        step = COARSE if end - start > COARSE * 12 else LOOKBACK
        found: defaultdict[str, float] = defaultdict(float)
        for labels, grown in self._cumulated(text, start, end, step).items():
            found[dict(labels).get(label, "")] += grown[-1][1] if grown else 0.0
        return dict(found)

    def _total(self, series: dict[Labels, list[tuple[float, float]]]) -> list[tuple[float, float]]:
        sums: defaultdict[float, float] = defaultdict(float)
        for grown in series.values():
            for at, amount in grown:
                sums[at] += amount
        return sorted(sums.items())

    def _cumulated(self, text: str, start: float, end: float, step: float) -> dict[Labels, list[tuple[float, float]]]:
        """Return for each series how much it grew by each moment, restarts corrected.

        The moments are those of the grid, on which days and months begin; the same steps back from the end, where the
        windows of alerts begin; and the start.
        """
        grids = [[start], _grid(start, end, step), _back(start, end, step)]
        values = self._on(grids, text, step)
        restarted = self._on(grids, f"resets({text}[{step + LOOKBACK:g}s]) > 0", step)
        moments = sorted({at for grid in grids for at in grid if at >= start})
        return {
            labels: self._grown(labels, moments, found, restarted.get(_nameless(labels), {}))
            for labels, found in values.items()
        }

    def _grown(
        self, labels: Labels, moments: list[float], found: dict[float, float], restarted: dict[float, float]
    ) -> list[tuple[float, float]]:
        total, before = 0.0, None
        made: list[tuple[float, float]] = []
        for at in moments:
            value = found.get(at)
            if value is not None:
                if before is not None:
                    again = at in restarted or value < before[1] or before[0] < made[-1][0]
                    total += self._sampled(labels, before[0], at) if again else value - before[1]
                elif made:
                    total += self._sampled(labels, made[-1][0], at)
                before = (at, value)
            made.append((at, total))
        return made

    def _sampled(self, labels: Labels, start: float, end: float) -> float:
        """Add up a counter's own samples between two moments; one that falls begins at zero."""
        matchers = ", ".join(f"{name}={promql.quote(value)}" for name, value in sorted(labels))
        reach = f"{end - start + LOOKBACK:g}s"
        answer = self._ask("query", query=f"{{{matchers}}}[{reach}]", time=f"{end:.3f}")
        samples = [(float(at), float(value)) for at, value in answer[0]["values"]] if answer else []
        before = max((index for index, (at, _) in enumerate(samples) if at <= start), default=0)
        total, last = 0.0, samples[before][1] if samples else 0.0
        for _, value in samples[before + 1 :]:
            total += value - last if value >= last else value
            last = value
        return total

    def _sum(self, text: str, start: float, end: float, step: float) -> list[tuple[float, float]]:
        """Return the sum of an expression at each moment where it has a value."""
        sums: defaultdict[float, float] = defaultdict(float)
        for found in self._range(text, _grid(start, end, step), step).values():
            for at, value in found.items():
                if isfinite(value):
                    sums[at] += value
        return sorted(sums.items())

    def _on(self, grids: list[list[float]], text: str, step: float) -> dict[Labels, dict[float, float]]:
        found: defaultdict[Labels, dict[float, float]] = defaultdict(dict)
        for grid in grids:
            for labels, values in self._range(text, grid, step).items():
                found[labels] |= values
        return found

    def _range(self, text: str, moments: list[float], step: float) -> dict[Labels, dict[float, float]]:
        found: defaultdict[Labels, dict[float, float]] = defaultdict(dict)
        for first in range(0, len(moments), POINTS):
            part = moments[first : first + POINTS]
            answer = self._ask(
                "query_range", query=text, start=f"{part[0]:.3f}", end=f"{part[-1]:.3f}", step=f"{step:g}"
            )
            for each in answer:
                found[frozenset(each["metric"].items())].update((float(at), float(v)) for at, v in each["values"])
        return found

    def _ask(self, what: str, **parameters: str) -> list[dict[str, Any]]:
        body = urllib.parse.urlencode(parameters).encode()
        request = urllib.request.Request(f"{self.url}/api/v1/{what}", body)  # noqa: S310 - http or https, checked
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:  # noqa: S310
                result = json.loads(answer.read(ANSWER))["data"]["result"]
        except urllib.error.HTTPError as error:
            wanted = "a server that is ready" if error.code >= 500 else f"another query than {parameters['query']!r}"
            raise ConfigurationError("prometheus", self.url, f"{wanted} ({_reason(error)})") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = getattr(error, "reason", None) or error
            raise ConfigurationError("prometheus", self.url, f"a server that answers ({reason})") from None
        return list(result)


def grid_step(slo: SLO) -> float:
    """Return the widest grid on which the windows of all its alerts, and its slices, begin and end."""
    if slo.slices is not None:
        return slo.slices.width if slo.slices.width <= LOOKBACK or slo.slices.width % LOOKBACK else LOOKBACK
    windows = [seconds for law in alerts.laws(slo)[0] for seconds in (law.long, law.short)]
    fitting = [step for step in STEPS if not any(seconds % step for seconds in windows)]
    return fitting[0] if fitting else STEPS[-1]


def _grid(start: float, end: float, step: float) -> list[float]:
    first, last = floor(start / step), floor(end / step)
    return [number * step for number in range(first, last + 1)]


def _back(start: float, end: float, step: float) -> list[float]:
    """Return the moments a number of steps before the end, as far back as windows of alerts reach."""
    count = int((end - max(start, end - REACH)) / step)
    return [end - step * number for number in range(count, -1, -1)]


def _joined(part: list[tuple[float, float]], total: list[tuple[float, float]]) -> Series:
    parts, last, series = dict(part), 0.0, Series()
    for at, amount in total:
        last = parts.get(at, last)
        series.add(at, last, amount)
    return series


def _nameless(labels: Labels) -> Labels:
    return frozenset(pair for pair in labels if pair[0] != "__name__")


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(100_000))["error"])[:300]
    except (OSError, ValueError, KeyError, TypeError):
        return f"HTTP {error.code}"


__all__ = ["Prometheus", "Query", "grid_step"]
