"""What was said in a worker, on its way to whoever listens in the parent."""

from __future__ import annotations

from opero import events
from opero.call import FINISHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextvars import Context
    from typing import Any


def flat(event: events.Event) -> tuple[Any, ...]:
    """Return an event as it travels."""
    fields = dict(event.fields)
    return event.name, event.operation, fields, event.severity, event.call, event.at, event.correlation_id


class Teller:
    """Says here what a worker said: its calls numbered apart from ours, and each in a context of its own."""

    def __init__(self, worker: int) -> None:
        self._worker = worker
        self._open: dict[int, Context] = {}  # of calls that did not finish yet

    def tell(self, said: list[Any], context: Context) -> None:
        """Say it; in copies of the context of the map."""
        for name, operation, fields, severity, call, at, correlation in said:
            number = call + (self._worker << 32) if call else 0
            event = events.Event(
                name, operation, fields, severity=severity, call=number, at=at, correlation_id=correlation
            )
            if call not in self._open:
                self._open[call] = context.copy()
            self._open[call].run(events.publish, event, events.wanted(name))
            if name == FINISHED.name or not call:
                del self._open[call]
