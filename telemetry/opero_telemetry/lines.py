"""An event as one flat line: what logs, files, OTLP and the console show of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opero_telemetry.spans import ids

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opero.events import Event

SEVERITIES = ("debug", "info", "warning", "error")
HEARD = SEVERITIES[1:]
PER_CALL = ("opero.call.started", "opero.attempt.started", "opero.attempt.finished", "opero.call.finished")
OURS = {"event", "level", "timestamp", "operation", "call", "correlation_id", "trace_id", "span_id"}


def line(event: Event, severities: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the line, with the ids of what is active right now; `severities` overrides by event name."""
    told: dict[str, Any] = {
        "event": event.name,
        "level": (severities or {}).get(event.name, event.severity),
        "timestamp": event.at,
        "operation": event.operation,
        "call": event.call,
    }
    if event.correlation_id:
        told["correlation_id"] = event.correlation_id
    trace, span = ids()
    if trace:
        told["trace_id"], told["span_id"] = trace, span
    told.update((name, value) for name, value in event.fields.items() if name not in OURS)
    return told
