"""OTLP, over HTTP or gRPC: spans, metrics and events to one receiver."""

from __future__ import annotations

import time
import uuid
from importlib import import_module
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from opero.errors import ConfigurationError
from opero_telemetry.exporting import WithOpero

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opero_telemetry.reading import Reader

HOME = "opentelemetry.exporter.otlp.proto"
SIGNALS = {"traces": ("trace_exporter", "OTLPSpanExporter"), "metrics": ("metric_exporter", "OTLPMetricExporter")}
SIGNALS["logs"] = ("_log_exporter", "OTLPLogExporter")


class Otlp:
    """Providers of ours with OTLP exporters: `tracer_provider` and `logger_provider` to speak through.

    Metrics are sent every `interval` seconds, and the rest in batches; `close` sends what is left.
    """

    def __init__(self, endpoint: str | None, protocol: str, reader: Reader | None, interval: float | None) -> None:
        resource = Resource.create({"service.instance.id": str(uuid.uuid4())})
        self.tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(BatchSpanProcessor(_exporter("traces", endpoint, protocol)))
        self.logger_provider = LoggerProvider(resource, shutdown_on_exit=False)
        self.logger_provider.add_log_record_processor(BatchLogRecordProcessor(_exporter("logs", endpoint, protocol)))
        self.metrics: WithOpero | None = None
        self._meter_provider: MeterProvider | None = None
        if reader is not None:
            self.metrics = WithOpero(_exporter("metrics", endpoint, protocol), reader)
            millis = None if interval is None else interval * 1000
            periodic = PeriodicExportingMetricReader(self.metrics, export_interval_millis=millis)
            self._meter_provider = MeterProvider([periodic], resource, shutdown_on_exit=False)
            _uptime(self._meter_provider)

    def failing(self) -> str | None:
        """Say why metrics do not arrive, or None."""
        return (self.metrics.failing or None) if self.metrics else None

    def close(self, seconds: float) -> None:
        """Send what is left, for about so long at most, and end."""
        millis = int(seconds * 1000)
        providers: list[Any] = [self._meter_provider, self.tracer_provider, self.logger_provider]
        for provider in filter(None, providers):
            provider.force_flush(millis)
            provider.shutdown()


def set_up(
    endpoint: str | None, protocol: str, reader: Reader | None, interval: float | None, *, spans: bool
) -> tuple[Otlp, Callable[[], None]]:
    """Make the providers; `spans` of the application go the same way where it has set no provider of its own."""
    if protocol not in ("http", "grpc"):
        raise ConfigurationError("otlp_protocol", protocol, '"http" or "grpc"')
    made = Otlp(endpoint, protocol, reader, interval)
    if spans and type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider":
        trace.set_tracer_provider(made.tracer_provider)
    return made, lambda: made.close(5.0)


def _exporter(signal: str, endpoint: str | None, protocol: str) -> Any:
    module, name = SIGNALS[signal]
    try:
        make: Any = getattr(import_module(f"{HOME}.{protocol}.{module}"), name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "otlp_protocol", protocol, f"\"http\"; {protocol} wants pip install 'opero[{protocol}]'"
        ) from error
    if endpoint is None:  # the exporters read OTEL_EXPORTER_OTLP_* themselves
        return make()
    if protocol == "http":
        return make(endpoint=f"{endpoint.rstrip('/')}/v1/{signal}")
    return make(endpoint=endpoint, insecure=endpoint.startswith("http://") or "://" not in endpoint)


def _uptime(provider: MeterProvider) -> None:
    """The SDK exports nothing when it has nothing of its own; this is of its own, and useful."""
    began = time.monotonic()

    def read(_: CallbackOptions) -> Iterable[Observation]:
        yield Observation(time.monotonic() - began)

    meter = provider.get_meter("opero")
    meter.create_observable_gauge("process.uptime", [read], "s", "How long this process has been observed.")
