"""Events as structlog lines. Configures nothing: neither structlog nor logging."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from opero import events

if TYPE_CHECKING:
    from opero.events import Event, Subscription

HEARD = {"info", "warning", "error"}


class Logs:
    """Writes one JSON line for every event of severity info or more."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._log: Any = structlog.wrap_logger(
            structlog.PrintLogger(stream or sys.stderr),
            processors=[structlog.processors.EventRenamer("event"), structlog.processors.JSONRenderer()],
            wrapper_class=structlog.BoundLogger,
            context_class=dict,
        )

    def subscribe(self) -> Subscription:
        """Begin."""
        return events.subscribe(self.write, "opero.*")

    def write(self, event: Event) -> None:
        """Write one line."""
        if event.severity not in HEARD:
            return
        line = {"level": event.severity, "timestamp": event.at, "operation": event.operation, "call": event.call}
        if event.correlation_id:
            line["correlation_id"] = event.correlation_id
        if trace := events.trace_id():
            line["trace_id"] = trace
        fields = {name: value for name, value in event.fields.items() if name not in line and name != "event"}
        self._log.msg(event.name, **line, **fields)
