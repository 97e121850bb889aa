"""Opero's numbers in any OpenTelemetry metric exporter: one more scope in what it sends.

It is made from the SDK's own public data classes, when it is sent.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from opero import __version__, forks

if TYPE_CHECKING:
    from opero.catalogue import Family
    from opero_telemetry.reading import Reader

SCOPE = InstrumentationScope("opero", __version__)


class WithOpero(MetricExporter):
    """Wraps an exporter: `PeriodicExportingMetricReader(WithOpero(OTLPMetricExporter(), Reader()))`.

    The sums are cumulative since the process began, or was forked. `failing` tells why the last export failed.
    """

    def __init__(self, exporter: MetricExporter, reader: Reader) -> None:
        super().__init__(exporter._preferred_temporality, exporter._preferred_aggregation)  # noqa: SLF001 - as the SDK does
        self._exporter = exporter
        self._reader = reader
        self.failing = ""
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Begin anew, as the sums do."""
        self._began = time.time_ns()

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Send what the SDK collected, and what Opero counted."""
        now = time.time_ns()
        ours = ScopeMetrics(SCOPE, [_metric(family, self._began, now) for family in self._reader.read()], "")
        first, *others = metrics_data.resource_metrics
        joined = ResourceMetrics(first.resource, [*first.scope_metrics, ours], first.schema_url)
        result = self._exporter.export(MetricsData([joined, *others]), timeout_millis, **kwargs)
        self.failing = "" if result is MetricExportResult.SUCCESS else "the receiver did not take the metrics"
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self._exporter.shutdown(timeout_millis, **kwargs)


def _metric(family: Family, began: int, now: int) -> Metric:
    metric = family.metric
    data: Sum | Gauge | Histogram
    if metric.type == "histogram":
        points = [
            _distribution(family, key, counts, began, now)
            for key, counts in family.samples.items()
            if isinstance(counts, list)
        ]
        data = Histogram(points, AggregationTemporality.CUMULATIVE)
    else:
        numbers = [
            NumberDataPoint(_attributes(family, key), began, now, value)
            for key, value in family.samples.items()
            if not isinstance(value, list)
        ]
        if metric.type == "gauge":
            data = Gauge(numbers)
        else:
            data = Sum(numbers, AggregationTemporality.CUMULATIVE, is_monotonic=metric.type == "counter")
    return Metric(metric.name, metric.help, metric.unit, data)


def _distribution(
    family: Family, key: tuple[str, ...], counts: list[float], began: int, now: int
) -> HistogramDataPoint:
    buckets = [int(count) for count in counts[:-1]]
    unknown: Any = None  # the books keep no extremes; the protocol leaves them out
    return HistogramDataPoint(
        _attributes(family, key),
        began,
        now,
        sum(buckets),
        counts[-1],
        buckets,
        family.bounds(key[0]),
        min=unknown,
        max=unknown,
    )


def _attributes(family: Family, key: tuple[str, ...]) -> dict[str, str]:
    """An empty value is no value: a call without an error has no `error.type`."""
    return {name: value for name, value in zip(family.attributes, key, strict=True) if value}
