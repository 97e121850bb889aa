"""See what Opero did: `/metrics`, a live page, spans, logs, and files of events.

import opero_telemetry
handle = opero_telemetry.start(metrics_port=9464)
"""

from __future__ import annotations

import warnings
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opero_telemetry.running import Telemetry

__all__ = ["Telemetry", "configure_logging", "start"]

_lock = Lock()
_running: Telemetry | None = None


def start(
    metrics_port: int | None = 9464,
    *,
    host: str = "127.0.0.1",
    token: str | None = None,
    tls: tuple[str, str] | None = None,
    insecure: bool = False,
    metrics: Literal["own", "provider", "off"] = "own",
    otlp_endpoint: str | None = None,
    otlp_protocol: Literal["http", "grpc"] = "http",
    otlp_interval: float | None = None,
    statsd: str | None = None,
    dogstatsd: str | None = None,
    logs: Literal["json", "structlog", "logging"] | None = "json",
    severities: Mapping[str, str] | None = None,
    spans: Literal["calls", "attempts", "off"] = "calls",
    events_file: str | None = None,
    audit_file: str | None = None,
    processes: str | None = None,
    buckets: Mapping[str, Iterable[float]] | None = None,
    critical: Iterable[str] = (),
    hosts: Iterable[str] = (),
) -> Telemetry:
    """Begin to observe. A second call returns what already runs, and warns of what it asked for otherwise. In seconds.

    `metrics_port` serves `/metrics`, the live page at `/`, `/healthz` and `/readyz` on `host`; 0 picks a port, None
    serves nothing. With `token` (16 characters or more) the page may act: force breakers, empty caches. Off loopback it
    wants `token` and `tls` (certificate file, key file), or `insecure=True`. It answers for addresses, localhost and
    `host`; `hosts` are the other names it is reached by, `*` any run of characters.

    `metrics` is the switch: "own" (the books are read when somebody collects), "provider" (instruments on the
    application's MeterProvider), or "off". `otlp_endpoint` sends spans, metrics (each `otlp_interval`, by default 60 s)
    and events; without it `OTEL_EXPORTER_OTLP_ENDPOINT` does. `statsd` and `dogstatsd` are "host:port".

    `logs` writes events of severity info or more, `severities` overrides by event name. `spans` are made when an
    OpenTelemetry SDK is configured or OTLP is on. `events_file` is appended the end of every call, `audit_file` what is
    done by hand. `processes` is a folder through which several processes of one host are scraped as one. `buckets`
    adds bounds to the durations of operations decorated from now on, by name (`*` is any run of characters). `critical`
    names the operations that `/readyz` asks about.

    Raises `ConfigurationError` when a setting is wrong or the port is in use, `ModuleNotFoundError` without the extra.
    """
    global _running
    given: dict[str, Any] = {name: value for name, value in locals().items() if name != "given"}
    with _lock:
        if _running is None or _running.stopped:
            _running = _made(given)
        elif other := [name for name in given if given[name] not in (_running.given[name], _default(name))]:
            asked = ", ".join(f"{name}=" for name in other)
            text = f"opero_telemetry.start: it runs already, with another {asked} which stays; handle.stop() ends it"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return _running


def _made(given: dict[str, Any]) -> Telemetry:
    try:
        from opero_telemetry.running import Telemetry

        return Telemetry(**given)
    except ModuleNotFoundError as error:
        text = f"opero_telemetry.start needs {error.name}: pip install 'opero[telemetry]'"
        raise ModuleNotFoundError(text, name=error.name) from None


def _default(name: str) -> Any:
    defaults: dict[str, Any] = {"metrics_port": 9464, **(start.__kwdefaults__ or {})}
    return defaults[name]


def configure_logging(*given: Any, **keywords: Any) -> None:
    """Set structlog and standard logging up for an application; see `opero_telemetry.logs.configure_logging`."""
    from opero_telemetry import logs

    logs.configure_logging(*given, **keywords)


def __getattr__(name: str) -> Any:
    if name != "Telemetry":
        raise AttributeError(f"module 'opero_telemetry' has no attribute {name!r}")
    from opero_telemetry.running import Telemetry

    return Telemetry
