"""What was said in a worker, on its way to whoever listens in the parent."""

from __future__ import annotations

from opero import events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def flat(event: events.Event) -> tuple[Any, ...]:
    """Return an event as it travels."""
    fields = dict(event.fields)
    return event.name, event.operation, fields, event.severity, event.call, event.at, event.correlation_id


def tell(said: list[Any], worker: int) -> None:
    """Say it here; the calls of each worker are numbered apart from ours and from one another."""
    for name, operation, fields, severity, call, at, correlation in said:
        number = call + (worker << 32) if call else 0
        event = events.Event(name, operation, fields, severity=severity, call=number, at=at, correlation_id=correlation)
        events.publish(event, events.wanted(name))
