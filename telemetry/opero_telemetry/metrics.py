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

from opero_telemetry.collector import OperoCollector, silent
from opero_telemetry.exposition import text
from opero_telemetry.routes import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from opero_telemetry.reading import Reader
    from opero_telemetry.routes import Request, Route

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


def page(reader: Reader | None) -> Route:
    """Return what answers a scrape, in the format it asks for: whatever else is in the registry, and our own numbers.

    Ours are written directly: through the registry a thousand operations take five times as long.
    """

    def answer(request: Request) -> Answer:
        encode, kind = choose_encoder(request.headers.get("Accept", ""))
        openmetrics = "openmetrics" in kind
        mark = silent.set(True)
        try:
            others = encode(REGISTRY).decode()
        finally:
            silent.reset(mark)
        ours = "" if reader is None else text(reader.read(), openmetrics=openmetrics)
        end = "# EOF\n" if openmetrics else ""
        return Answer(f"{others.removesuffix(end)}{ours}{end}", kind)

    return answer
