"""Calls, attempts and maps as OpenTelemetry spans.

Events are delivered inside the call that speaks, in its thread, task and context. So a span made current when the call
begins is the parent of whatever the function itself traces, and is put back when the call ends. A map speaks in the
context that its items run in, so their spans are its children; those of other processes come when their events do, with
the times they had there.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import context, propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from opero import __version__, events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.trace import Span, Tracer, TracerProvider

    from opero.events import Event, Subscription

FAILED = {"error", "timeout", "rejected"}
HEARD = ("opero.call.started", "opero.call.finished", "opero.attempt.*", "opero.map.started", "opero.map.finished")
MAX_OPEN = 10_000  # calls with a span at once; those beyond go without


class Spans:
    """Makes a span a call, and one an attempt from the second on (`spans="attempts"`: from the first)."""

    def __init__(self, provider: TracerProvider, *, every_attempt: bool = False) -> None:
        self._tracer: Tracer = provider.get_tracer("opero", __version__)
        self._every_attempt = every_attempt
        self._calls: dict[int, _Open] = {}
        self._attempts: dict[tuple[int, int], _Open] = {}  # by call and number: hedges run side by side
        self._maps: dict[int, _Open] = {}

    def subscribe(self) -> Subscription:
        """Begin."""
        return events.subscribe(self.hear, *HEARD)

    def hear(self, event: Event) -> None:
        """Open or close a span."""
        _, subject, what = event.name.split(".")
        if subject == "map":
            self._open_map(event) if what == "started" else self._close_map(event)
        elif what == "started" and len(self._calls) < MAX_OPEN:
            self._open_call(event) if subject == "call" else self._open_attempt(event)
        elif what == "finished":
            if subject == "call":
                self._close(event, self._calls.pop(event.call, None), of_call=True)
            else:
                self._close(event, self._attempts.pop((event.call, event.fields["number"]), None), of_call=False)

    def _open_call(self, event: Event) -> None:
        attributes = {"opero.call.name": event.operation, "code.function.name": event.operation}
        self._calls[event.call] = _Open(self._tracer, event.operation, attributes, event.at)

    def _open_attempt(self, event: Event) -> None:
        number = event.fields["number"]
        if event.call in self._calls and (self._every_attempt or number > 1):
            attributes = {
                "opero.call.name": event.operation,
                "opero.attempt.number": number,
                "opero.retry.delay": event.fields["delay"],
            }
            name = f"{event.operation} attempt"
            self._attempts[event.call, number] = _Open(self._tracer, name, attributes, event.at)

    def _close(self, event: Event, span: _Open | None, *, of_call: bool) -> None:
        if span is None:
            return
        outcome, error = event.fields["outcome"], event.fields["error"]
        found: dict[str, Any] = {"opero.outcome" if of_call else "opero.attempt.outcome": outcome}
        if of_call:
            found["opero.attempt.count"] = event.fields["attempts"]
        failed = outcome in FAILED if of_call else outcome not in {"ok", "cancelled"}
        if failed and error:
            found["error.type"] = error
        span.close(found, event.at, failed=failed and of_call)

    def _open_map(self, event: Event) -> None:
        attributes = {"opero.call.name": event.operation, "code.function.name": event.operation}
        self._maps[event.call] = _Open(self._tracer, f"{event.operation} map", attributes, event.at)

    def _close_map(self, event: Event) -> None:
        span = self._maps.pop(event.call, None)
        if span is not None:
            span.close({}, event.at, failed=False)


class _Open:
    """A span that is current."""

    __slots__ = ("_span", "_token")

    def __init__(self, tracer: Tracer, name: str, attributes: dict[str, Any], at: float) -> None:
        started = int(at * 1e9)
        self._span: Span = tracer.start_span(name, kind=SpanKind.INTERNAL, attributes=attributes, start_time=started)
        self._token = context.attach(trace.set_span_in_context(self._span))

    def close(self, attributes: dict[str, Any], at: float, *, failed: bool) -> None:
        self._span.set_attributes(attributes)
        if failed:
            self._span.set_status(Status(StatusCode.ERROR, attributes.get("error.type")))
        self._span.end(int(at * 1e9))
        context.detach(self._token)


def configured() -> TracerProvider | None:
    """Return the user's tracer provider if an SDK was configured, else None."""
    provider = trace.get_tracer_provider()
    return provider if type(provider).__module__.partition(".")[2].startswith("sdk") else None


def carry() -> events.Carried | None:
    """Return what lets another process go on with the active trace."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return (resume, carrier) if carrier else None


@contextmanager
def resume(carrier: dict[str, str]) -> Iterator[None]:
    """Go on with a trace of another process."""
    token = context.attach(propagate.extract(carrier))
    try:
        yield
    finally:
        context.detach(token)


def trace_id() -> str:
    """Return the active trace's id in hex, or an empty string."""
    active = trace.get_current_span().get_span_context()
    return format(active.trace_id, "032x") if active.is_valid else ""
