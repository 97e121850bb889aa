"""What a scrape of a thousand operations costs, beside the OpenTelemetry exporter with the same series."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest

from benchmarks.harness import Table, once
from benchmarks.subjects import USUAL, work
from opero import catalogue, opero
from opero_telemetry.collector import OperoCollector
from opero_telemetry.exposition import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.registry import Collector

OPERATIONS = 1000


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """Return what measures milliseconds of CPU of some work."""

    def measure() -> float:
        started = time.thread_time()
        work()
        return (time.thread_time() - started) * 1e3

    return measure


def tables() -> Iterator[Table]:
    """Yield the table."""
    kept = [opero(**USUAL, name=f"bench.scrape{n}")(work) for n in range(OPERATIONS)]
    for function in kept:
        function(1)
    yield Table(
        "a scrape of 1 000 operations",
        {
            "OpenTelemetry exporter": timed(partial(generate_latest, _registry(_exporter()))),
            "Opero through prometheus_client": timed(partial(generate_latest, _registry(OperoCollector()))),
            "Opero": timed(lambda: text(catalogue.snapshot(), openmetrics=True).encode()),
        },
        once,
        rounds=7,
        unit="ms",
    )


def _registry(collector: Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def _exporter() -> Any:
    """Record the same series with the OpenTelemetry SDK."""
    reader = PrometheusMetricReader(scope_info_enabled=False)
    meter = MeterProvider(metric_readers=[reader]).get_meter("opero")
    for family in catalogue.snapshot():
        metric = family.metric
        if metric.type == "histogram":
            histogram = meter.create_histogram(
                metric.name, metric.unit, explicit_bucket_boundaries_advisory=metric.buckets
            )
            for key in family.samples:
                histogram.record(0.001, dict(zip(family.attributes, key, strict=True)))
        else:
            counter = meter.create_up_down_counter(metric.name, metric.unit)
            for key in family.samples:
                counter.add(1, dict(zip(family.attributes, key, strict=True)))
    return reader._collector  # noqa: SLF001 - it registers itself in the global registry only
