"""Calls, attempts, maps and batches as OpenTelemetry spans.

Events are delivered inside the call that speaks, in its thread, task and context. So a span made current when the call
begins is the parent of whatever the function itself traces, and is put back when the call ends. Times are those of the
events: what a worker process did arrives later, and its spans lie where they belong.

1. A call is a span; ERROR only on its final failure.
2. Its attempts are spans when there is a second one, or a timeout; with `every_attempt` always.
3. A map is a span and its items' calls are its children, across threads, tasks and processes.
4. A batch is a span that links to the calls it carried.
5. Where the active span is not sampled and the sampler follows it, nobody wants the call's events: it stays fast.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from opentelemetry import context, propagate, trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, TraceFlags, propagation

from opero import __version__, events
from opero_telemetry import exemplars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.trace import Span, TracerProvider

    from opero.events import Event, Subscription

FAILED = {"error", "timeout", "rejected"}
MAX_OPEN = 10_000  # calls with a span at once; those beyond go without

_maps: ContextVar[tuple[_Map, ...]] = ContextVar("opero.maps", default=())  # the maps this context runs in


class Spans:
    """Makes spans of events, from `subscribe` on."""

    def __init__(self, provider: TracerProvider, *, every_attempt: bool = False) -> None:
        self._tracer = provider.get_tracer("opero", __version__)
        self._every_attempt = every_attempt
        self._calls: dict[int, _Call] = {}
        self._attempts: dict[tuple[int, int], tuple[Span, Any]] = {}  # by call and number: hedges run side by side
        self._follows, self._never = _rules(getattr(provider, "sampler", None))
        self._hears = {
            "opero.call.started": self._begin_call,
            "opero.call.finished": self._end_call,
            "opero.attempt.started": self._begin_attempt,
            "opero.attempt.finished": self._end_attempt,
            "opero.map.started": self._begin_map,
            "opero.map.finished": self._end_map,
            "opero.gpu_batch.flushed": self._batch,
        }

    def subscribe(self) -> Subscription:
        """Begin."""
        return events.subscribe(self.hear, *self._hears, when=self.wanted)

    def wanted(self) -> bool:
        """Whether a span begun here could be sampled."""
        if self._never:
            return False
        if not self._follows:
            return True
        active = _active()
        if active is None:
            return True
        about = active.get_span_context()
        return bool(about.trace_flags & TraceFlags.SAMPLED) or not about.is_valid

    def hear(self, event: Event) -> None:
        """Open or close a span."""
        self._hears[event.name](event)

    def _begin_call(self, event: Event) -> None:
        if len(self._calls) >= MAX_OPEN or not self.wanted():
            return
        attributes = {"opero.call.name": event.operation, "code.function.name": event.operation}
        attributes.update((f"opero.{name}", value) for name, value in event.fields.items())
        running = next((m for m in reversed(_maps.get()) if m.operation == event.operation and m.open), None)
        parent = trace.set_span_in_context(running.span) if running else None
        span = self._start(event.operation, event.at, attributes, parent)
        self._calls[event.call] = _Call(span)

    def _end_call(self, event: Event) -> None:
        call = self._calls.pop(event.call, None)
        if call is None:
            return
        outcome, error = event.fields["outcome"], event.fields["error"]
        found = {"opero.outcome": outcome, "opero.attempt.count": event.fields["attempts"]}
        _finish(call.span, event.at, found, error if outcome in FAILED else "", failed=outcome in FAILED)
        context.detach(call.token)
        about = call.span.get_span_context()
        if about.trace_flags.sampled:
            exemplars.keep(event, format(about.trace_id, "032x"), format(about.span_id, "016x"))

    def _begin_attempt(self, event: Event) -> None:
        call = self._calls.get(event.call)
        if call is None or not call.span.is_recording():
            return
        number = event.fields["number"]
        if number == 1 and not self._every_attempt:
            call.first.append(event)
            return
        self._tell_first(call)
        span = self._start(*self._attempt(event), trace.set_span_in_context(call.span))
        self._attempts[event.call, number] = (span, context.attach(trace.set_span_in_context(span)))

    def _end_attempt(self, event: Event) -> None:
        span, token = self._attempts.pop((event.call, event.fields["number"]), (None, None))
        if span is not None:
            _end_attempt(span, event)
            if token is not None:
                context.detach(token)
            return
        call = self._calls.get(event.call)
        if call is not None and call.first:
            call.first.append(event)
            if event.fields["outcome"] == "timeout":
                self._tell_first(call)

    def _tell_first(self, call: _Call) -> None:
        """Make the first attempt's span after all; it may not have ended."""
        if not call.first:
            return
        began, *ended = call.first
        span = self._start(*self._attempt(began), trace.set_span_in_context(call.span))
        if ended:
            _end_attempt(span, ended[0])
        else:
            self._attempts[began.call, 1] = (span, None)
        call.first.clear()

    def _attempt(self, event: Event) -> tuple[str, float, dict[str, Any]]:
        attributes = {
            "opero.call.name": event.operation,
            "opero.attempt.number": event.fields["number"],
            "opero.retry.delay": event.fields["delay"],
        }
        return f"{event.operation} attempt", event.at, attributes

    def _begin_map(self, event: Event) -> None:
        if self.wanted():
            attributes = {"opero.call.name": event.operation, "opero.policy.kind": "map"}
            span = self._start(f"{event.operation} map", event.at, attributes)
            _maps.set((*_maps.get(), _Map(event.operation, span)))
            context.attach(trace.set_span_in_context(span))  # a map speaks in a context of its own, and its items' too

    def _end_map(self, event: Event) -> None:
        running = next((m for m in reversed(_maps.get()) if m.operation == event.operation), None)
        if running is not None:
            _maps.set(tuple(m for m in _maps.get() if m is not running))
            running.open = False
            found = {f"opero.map.{name}": event.fields[name] for name in ("items", "failures") if name in event.fields}
            _finish(running.span, event.at, found, "", failed=False)

    def _batch(self, event: Event) -> None:
        carried = [self._calls[number].span for number in event.fields.get("calls", ()) if number in self._calls]
        links = [Link(span.get_span_context()) for span in carried]
        took = event.fields.get("duration", 0.0)
        attributes = {"opero.call.name": event.operation, "opero.policy.kind": "gpu_batch"}
        span = self._start(f"{event.operation} gpu_batch", event.at - took, attributes, links=links)
        size = {"opero.gpu_batch.size": event.fields["size"]} if "size" in event.fields else {}
        _finish(span, event.at, size, "", failed=False)

    def _start(
        self, name: str, at: float, attributes: dict[str, Any], parent: Any = None, links: list[Link] | None = None
    ) -> Span:
        return self._tracer.start_span(name, parent, SpanKind.INTERNAL, attributes, links, start_time=_nanoseconds(at))


class _Call:
    """An open call: its span, current from here on, and its first attempt."""

    __slots__ = ("first", "span", "token")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.token: Any = context.attach(trace.set_span_in_context(span))
        self.first: list[Event] = []  # how the first attempt began and ended, while nobody knows whether it matters


class _Map:
    __slots__ = ("open", "operation", "span")

    def __init__(self, operation: str, span: Span) -> None:
        self.operation = operation
        self.span = span
        self.open = True


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
    return ids()[0]


def ids() -> tuple[str, str]:
    """Return the active trace's and span's ids in hex, or empty strings."""
    active = trace.get_current_span().get_span_context()
    return (format(active.trace_id, "032x"), format(active.span_id, "016x")) if active.is_valid else ("", "")


def _asking() -> Callable[[], Span | None]:
    """Return how to ask for the active span: the context variable itself is four times quicker."""
    variable = getattr(getattr(context, "_RUNTIME_CONTEXT", None), "_current_context", None)
    key = getattr(propagation, "_SPAN_KEY", None)
    if variable is None or key is None:
        return trace.get_current_span
    return lambda: variable.get().get(key)


_active = _asking()


def _rules(sampler: Sampler | None) -> tuple[bool, bool]:
    """Whether a sampler follows an unsampled parent, and whether it never samples."""
    follows = isinstance(sampler, ParentBased) and sampler._local_parent_not_sampled is ALWAYS_OFF  # noqa: SLF001 - there is no public way to ask
    return follows or sampler is ALWAYS_OFF, sampler is ALWAYS_OFF


def _end_attempt(span: Span, event: Event) -> None:
    outcome, error = event.fields["outcome"], event.fields["error"]
    _finish(span, event.at, {"opero.attempt.outcome": outcome}, error, failed=False)


def _finish(span: Span, at: float, attributes: dict[str, Any], error: str, *, failed: bool) -> None:
    if error:
        attributes["error.type"] = error
    span.set_attributes(attributes)
    if failed:
        span.set_status(Status(StatusCode.ERROR, error or None))
    span.end(_nanoseconds(at))


def _nanoseconds(at: float) -> int:
    return int(at * 1e9)
