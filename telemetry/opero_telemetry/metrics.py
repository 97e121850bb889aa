"""One registry for everything a process measures: Opero's own numbers, and whatever speaks OpenTelemetry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY

from opero_telemetry.collector import OperoCollector

if TYPE_CHECKING:
    from collections.abc import Callable

_provider: MeterProvider | None = None  # OpenTelemetry takes one for the life of the process


def install() -> Callable[[], None]:
    """Put our collector into the registry, and return how to take it out.

    Where no MeterProvider was set, one is, so that instruments of the OpenTelemetry API are scraped as well.
    """
    global _provider
    if _provider is None and not isinstance(metrics.get_meter_provider(), MeterProvider):
        _provider = MeterProvider(metric_readers=[PrometheusMetricReader(scope_info_enabled=False)])
        metrics.set_meter_provider(_provider)
    collector = OperoCollector()
    REGISTRY.register(collector)
    return lambda: REGISTRY.unregister(collector)
