"""Telemetry without code: `OPERO_METRICS_PORT=9464` in the environment."""

from __future__ import annotations

import os
from multiprocessing import parent_process

import opero_telemetry
from opero.errors import ConfigurationError


def start() -> None:
    """Start what the environment asks for; not in the workers of a map, whose numbers travel to their parent."""
    given = os.environ.get("OPERO_METRICS_PORT", "")
    if not given or parent_process() is not None:
        return
    if not given.isdecimal():
        raise ConfigurationError("OPERO_METRICS_PORT", given, "a port number")
    opero_telemetry.start(metrics_port=int(given), logs=None)
