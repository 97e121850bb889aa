"""OpenTelemetry names as Prometheus writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opero.signals import Metric

SUFFIX_OF_UNIT = {"s": "_seconds", "By": "_bytes", "{call}/s": "_per_second"}


def prometheus_name(metric: Metric) -> str:
    """Return `opero_call_duration_seconds` for `opero.call.duration` in s; counters end in `_total`."""
    name = label(metric.name) + SUFFIX_OF_UNIT.get(metric.unit, "")
    return f"{name}_total" if metric.type == "counter" else name


def label(attribute: str) -> str:
    """Return `opero_call_name` for `opero.call.name`."""
    return attribute.replace(".", "_")
