"""See what Opero did: `/metrics`, spans and logs.

import opero_telemetry
handle = opero_telemetry.start(metrics_port=9464)
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from opero.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from opero_telemetry.server import Server

__all__ = ["Telemetry", "start"]

_lock = Lock()
_running: Telemetry | None = None


class Telemetry:
    """What `start` started. `url` and `port` are None when nothing is served."""

    def __init__(self, server: Server | None, stops: list[Callable[[], Any]]) -> None:
        self._server = server
        self._stops = stops

    @property
    def url(self) -> str | None:
        """Where `/metrics` and `/healthz` are."""
        return self._server.url if self._server else None

    @property
    def port(self) -> int | None:
        """The port it listens on."""
        return self._server.port if self._server else None

    def stop(self) -> None:
        """End everything that was started; may be called twice."""
        global _running
        with _lock:
            while self._stops:
                self._stops.pop()()
            if _running is self:
                _running = None


def start(
    metrics_port: int | None = 9464,
    *,
    host: str = "127.0.0.1",
    logs: Literal["json"] | None = "json",
    spans: Literal["calls", "attempts", "off"] = "calls",
) -> Telemetry:
    """Serve `/metrics` and `/healthz`, write events as JSON lines to stderr, and make spans.

    `metrics_port=0` picks a free port, None serves nothing. Spans are made when an OpenTelemetry SDK is configured. A
    second call returns what already runs. Raises `ConfigurationError` when the port is in use.
    """
    global _running
    _check(metrics_port, logs, spans)
    with _lock:
        if _running is None:
            _running = _start(metrics_port, host, logs, spans)
        return _running


def _check(metrics_port: object, logs: object, spans: object) -> None:
    if metrics_port is not None and (type(metrics_port) is not int or not 0 <= metrics_port <= 65535):
        raise ConfigurationError("metrics_port", metrics_port, "a port from 1 to 65535, 0 for a free one, or None")
    if logs not in ("json", None):
        raise ConfigurationError("logs", logs, '"json" or None')
    if spans not in ("calls", "attempts", "off"):
        raise ConfigurationError("spans", spans, '"calls", "attempts" or "off"')


def _start(port: int | None, host: str, logs: str | None, spans: str) -> Telemetry:
    stops: list[Callable[[], Any]] = []
    server = None
    if port is not None:
        from opero_telemetry import metrics
        from opero_telemetry.server import Server

        server = Server(host, port)
        stops += [server.stop, metrics.install()]
    if logs is not None:
        from opero_telemetry.logs import Logs

        stops.append(Logs().subscribe().close)
    if spans != "off":
        stops += _trace(every_attempt=spans == "attempts")
    return Telemetry(server, stops)


def _trace(*, every_attempt: bool) -> list[Callable[[], Any]]:
    from opero import events
    from opero_telemetry import spans

    provider = spans.configured()
    if provider is None:
        return []
    before, events.trace_id = events.trace_id, spans.trace_id
    carried, events.carry = events.carry, spans.carry
    subscription = spans.Spans(provider, every_attempt=every_attempt).subscribe()
    return [subscription.close, lambda: setattr(events, "trace_id", before), lambda: setattr(events, "carry", carried)]
