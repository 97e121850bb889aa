"""Telemetry without code: `OPERO_METRICS_PORT=9464`, or OpenTelemetry's own `OTEL_EXPORTER_OTLP_ENDPOINT`."""

from __future__ import annotations

import os
from multiprocessing import parent_process
from typing import Any

import opero_telemetry
from opero import forks
from opero.errors import ConfigurationError
from opero_telemetry.running import OTLP

TEXTS = {
    "OPERO_METRICS_TOKEN": "token",
    "OPERO_LOGS": "logs",
    "OPERO_SPANS": "spans",
    "OPERO_METRICS": "metrics",
    "OPERO_STATSD": "statsd",
    "OPERO_DOGSTATSD": "dogstatsd",
    "OPERO_EVENTS_FILE": "events_file",
    "OPERO_AUDIT_FILE": "audit_file",
    "OPERO_PROCESSES": "processes",
}


LISTS = {"OPERO_CRITICAL": "critical", "OPERO_ALLOWED_HOSTS": "hosts"}


def start() -> None:
    """Start what the environment asks for; in a child of multiprocessing (uvicorn's) if it is to share."""
    if forks.worker or (parent_process() is not None and not os.environ.get("OPERO_PROCESSES")):
        return
    given = os.environ.get("OPERO_METRICS_PORT", "")
    if not given and not any(os.environ.get(name) for name in (*TEXTS, *OTLP)):
        return
    if given and not given.isdecimal():
        raise ConfigurationError("OPERO_METRICS_PORT", given, "a port number")
    settings: dict[str, Any] = {"logs": None}
    settings.update((name, os.environ[variable]) for variable, name in TEXTS.items() if os.environ.get(variable))
    settings.update((name, _listed(variable)) for variable, name in LISTS.items())
    opero_telemetry.start(int(given) if given else None, **settings)


def _listed(variable: str) -> list[str]:
    return [each for part in os.environ.get(variable, "").split(",") if (each := part.strip())]
