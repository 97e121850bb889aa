"""What `start` starts, and how it ends: everything that was begun is ended in reverse, within a bound."""

from __future__ import annotations

import atexit
import os
from threading import Thread
from typing import TYPE_CHECKING, Any

from opero import events, objectives
from opero.errors import ConfigurationError
from opero.policy import number
from opero_telemetry.health import Readiness, alive
from opero_telemetry.reading import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from opero_telemetry.otlp import Otlp
    from opero_telemetry.processes import Processes
    from opero_telemetry.routes import Route
    from opero_telemetry.server import Server

GRACE = 5.0  # seconds to flush at the end
OTLP = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
CHOICES = {
    "metrics": ("own", "provider", "off"),
    "logs": ("json", "structlog", "logging", None),
    "spans": ("calls", "attempts", "off"),
    "otlp_protocol": ("http", "grpc"),
}


class Telemetry:
    """What runs. `url` and `port` are None when nothing is served; `stop()` ends everything."""

    def __init__(
        self,
        *,
        metrics_port: int | None,
        host: str,
        token: str | None,
        tls: tuple[str, str] | None,
        insecure: bool,
        metrics: str,
        otlp_endpoint: str | None,
        otlp_protocol: str,
        otlp_interval: float | None,
        statsd: str | None,
        dogstatsd: str | None,
        logs: str | None,
        severities: Mapping[str, str] | None,
        spans: str,
        events_file: str | None,
        audit_file: str | None,
        processes: str | None,
        buckets: Mapping[str, Iterable[float]] | None,
        critical: Iterable[str],
        hosts: Iterable[str],
    ) -> None:
        self.given = {name: value for name, value in locals().items() if name != "self"}
        _check(metrics_port, metrics=metrics, logs=logs, spans=spans, otlp_protocol=otlp_protocol)
        for pattern, bounds in (buckets or {}).items():
            for bound in bounds:
                objectives.expect(pattern, number("buckets", bound, above=0))
        self.stopped = False
        self.readiness = Readiness(critical)
        self._stops: list[Callable[[], Any]] = []
        self._server: Server | None = None
        try:
            siblings = self._share(processes)
            self._reader = Reader(siblings.read if siblings else None)
            if metrics_port is not None:
                protection = {"token": token, "tls": tls, "insecure": insecure, "hosts": hosts}
                self._serve(siblings, metrics, host=host, port=metrics_port, **protection)
            reader = self._reader if metrics == "own" else None
            otlp = self._send(otlp_endpoint, otlp_protocol, otlp_interval, reader, spans=spans != "off")
            self._measure(metrics, statsd, dogstatsd)
            self._trace(spans, otlp)
            self._tell(otlp, logs, severities, events_file, audit_file)
        except BaseException:
            self.stop()
            raise
        atexit.register(self.stop)

    @property
    def url(self) -> str | None:
        """Where the server answers."""
        return self._server.url if self._server else None

    @property
    def port(self) -> int | None:
        """The port it listens on."""
        return self._server.port if self._server else None

    @property
    def routes(self) -> dict[str, Route]:
        """What is served, by path; a page of your own goes in here."""
        return self._server.routes if self._server else {}

    def stop(self, seconds: float = GRACE) -> bool:
        """Send and write what is left, and end; whether that took no longer than `seconds`. May be called twice."""
        self.stopped = True
        atexit.unregister(self.stop)
        stops, self._stops = self._stops[::-1], []

        def end() -> None:
            for stop in stops:
                stop()

        ending = Thread(target=end, name="opero-stop", daemon=True)
        ending.start()
        ending.join(seconds)
        return not ending.is_alive()

    def _share(self, folder: str | None) -> Processes | None:
        if folder is None:
            return None
        try:
            from opero_telemetry.processes import Processes
        except ImportError as error:
            raise ConfigurationError("processes", folder, "None: this system has no file locks") from error
        siblings = Processes(folder)
        self._stops.append(siblings.close)
        return siblings

    def _serve(self, siblings: Processes | None, metrics: str, *, host: str, port: int, **protection: Any) -> None:
        from opero_telemetry.console import Console
        from opero_telemetry.metrics import page
        from opero_telemetry.server import Server

        console = Console(self._reader, token=protection["token"])
        scraped = page(self._reader if metrics == "own" else None)
        routes = {**console.routes, "/metrics": scraped, "/healthz": alive, "/readyz": self.readiness.page}

        def serve() -> None:
            if self._server is None or self._server.lost:
                server = Server(host, port, **protection)
                server.routes.update(routes)
                self._server = server
                self._stops.append(server.stop)

        def take_over() -> None:
            try:
                serve()
            except ConfigurationError:  # another process of ours serves
                return

        self._stops.append(console.close)
        if siblings is None:
            serve()
        else:
            take_over()
            siblings.tick = take_over

    def _send(
        self, endpoint: str | None, protocol: str, interval: float | None, reader: Reader | None, *, spans: bool
    ) -> Otlp | None:
        asked = endpoint is not None or any(os.environ.get(name) for name in OTLP)
        if not asked or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
            return None
        from opero_telemetry.otlp import set_up

        if endpoint is None and os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc":
            protocol = "grpc"
        otlp, stop = set_up(endpoint, protocol, reader, interval, spans=spans)
        self.readiness.told["otlp"] = otlp.failing
        self._stops.append(stop)
        return otlp

    def _measure(self, metrics: str, statsd: str | None, dogstatsd: str | None) -> None:
        if metrics == "off":
            return
        from opero_telemetry import metrics as registry

        if self._server is not None:
            registry.adopt()
        if metrics == "own":
            self._stops.append(registry.install(self._reader))
        if metrics == "provider":
            from opentelemetry.metrics import get_meter_provider

            from opero_telemetry.observable import Observables

            self._stops.append(Observables(get_meter_provider(), self._reader).close)
        for address, tags in ((statsd, False), (dogstatsd, True)):
            if address is not None:
                from opero_telemetry.statsd import StatsD

                self._stops.append(StatsD(address, Reader(self._reader.read), tags=tags).close)

    def _trace(self, spans: str, otlp: Otlp | None) -> None:
        if spans == "off":
            return
        from opero_telemetry import spans as tracing

        provider = tracing.configured() or (otlp.tracer_provider if otlp else None)
        if provider is None:
            return
        before, events.trace_id = events.trace_id, tracing.trace_id
        carried, events.carry = events.carry, tracing.carry
        subscription = tracing.Spans(provider, every_attempt=spans == "attempts").subscribe()
        self._stops += [lambda: setattr(events, "trace_id", before), lambda: setattr(events, "carry", carried)]
        self._stops.append(subscription.close)

    def _tell(
        self,
        otlp: Otlp | None,
        logs: str | None,
        severities: Mapping[str, str] | None,
        events_file: str | None,
        audit_file: str | None,
    ) -> None:
        if otlp is not None:
            from opero_telemetry.otlp_events import OtlpEvents

            self._stops.append(OtlpEvents(otlp.logger_provider).close)
        if logs is not None:
            from opero_telemetry.logs import Logs

            self._stops.append(Logs(logs, severities=severities).close)
        if events_file is not None:
            from opero_telemetry.journal import Journal

            self._stops.append(Journal(events_file).close)
        if audit_file is not None:
            from opero_telemetry.audit import Audit

            self._stops.append(Audit(audit_file).close)


def _check(metrics_port: object, **chosen: object) -> None:
    if metrics_port is not None and (type(metrics_port) is not int or not 0 <= metrics_port <= 65535):
        raise ConfigurationError("metrics_port", metrics_port, "a port from 1 to 65535, 0 for a free one, or None")
    for name, value in chosen.items():
        if value not in CHOICES[name]:
            raise ConfigurationError(name, value, " or ".join(repr(choice) for choice in CHOICES[name]))
