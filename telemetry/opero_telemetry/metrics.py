"""One registry for everything a process measures: Opero's own numbers, and whatever speaks OpenTelemetry.

The switch: "own" reads the books when somebody collects, for `/metrics` and OTLP; "provider" registers observable
instruments on the application's MeterProvider instead, whose readers then carry the numbers. Never both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from opero_telemetry.collector import OperoCollector
from opero_telemetry.routes import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from opero_telemetry.reading import Reader
    from opero_telemetry.routes import Request

_provider: MeterProvider | None = None  # OpenTelemetry takes one for the life of the process


def install(reader: Reader) -> Callable[[], None]:
    """Put our collector into the registry, and return how to take it out."""
    collector = OperoCollector(reader)
    REGISTRY.register(collector)
    return lambda: REGISTRY.unregister(collector)


def adopt() -> None:
    """Where no MeterProvider was set, set one, so that instruments of the OpenTelemetry API are scraped as well."""
    global _provider
    if _provider is None and not isinstance(metrics.get_meter_provider(), MeterProvider):
        _provider = MeterProvider(metric_readers=[PrometheusMetricReader(scope_info_enabled=False)])
        metrics.set_meter_provider(_provider)


def page(request: Request) -> Answer:
    """Answer a scrape, in the format it asks for."""
    encode, kind = choose_encoder(request.headers.get("Accept", ""))
    return Answer(encode(REGISTRY), kind)
