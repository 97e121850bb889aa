"""What observing adds to a call: nothing, metrics, spans, lines; beside the instruments and hooks of others.

"books off" is the same generated fast path without its two additions: what metrics add is the difference to it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from prometheus_client import CollectorRegistry, Counter, Histogram

from benchmarks.harness import Table, blocking
from benchmarks.peers import there
from benchmarks.subjects import work
from opero import fused, opero
from opero_telemetry.journal import Journal
from opero_telemetry.spans import Spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

LABELS = {"opero.call.name": "work", "opero.outcome": "ok"}


class Nowhere(SpanExporter):
    """Takes spans and forgets them: what is measured is making them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class Under:
    """Calls a function while something observes; measured by itself, so that the others are not observed."""

    def __init__(self, begin: Callable[[], Callable[[], Any]], function: Callable[[int], Any]) -> None:
        self._begin = begin
        self._function = function

    def measure(self, calls: int) -> float:
        """Return nanoseconds a call."""
        end = self._begin()
        try:
            return blocking(self._function, calls)
        finally:
            end()


def measure(subject: Any, calls: int) -> float:
    """Measure a function, or one under observation."""
    return subject.measure(calls) if isinstance(subject, Under) else blocking(subject, calls)


def without_books(function: Callable[[int], Any]) -> Any:
    """Return the fast path of `@opero(retries=3)` with its counting taken out."""
    decorated = opero(retries=3)(function)
    lines = decorated.opero.source().splitlines(keepends=True)
    text = "".join(line for line in lines if not _counts(line))
    made: dict[str, Any] = {}
    decorated(0)
    exec(compile(text, "<without books>", "exec"), {**decorated.__globals__}, made)
    return made["call"]


def _counts(line: str) -> bool:
    return line.strip().startswith(
        ("started[0] +=", "started[0] -=", "counts[", "total[0]", "took =", "index =", "end =", "now =")
    )


def spanned(**settings: Any) -> Callable[[], Callable[[], Any]]:
    """Return how to begin to trace."""
    provider = TracerProvider(**settings)
    provider.add_span_processor(SimpleSpanProcessor(Nowhere()))
    return lambda: Spans(provider).subscribe().close


def unsampled_parent() -> Callable[[], Any]:
    """Trace, inside a request that is not sampled."""
    subscription = Spans(TracerProvider()).subscribe()
    parent = use_span(NonRecordingSpan(SpanContext(1, 1, is_remote=True, trace_flags=TraceFlags(0))))
    parent.__enter__()

    def end() -> None:
        parent.__exit__(None, None, None)
        subscription.close()

    return end


def journal() -> Callable[[], Any]:
    """Write the end of every call as a JSON line."""
    folder = tempfile.TemporaryDirectory()
    writing = Journal(Path(folder.name) / "events.jsonl")

    def end() -> None:
        writing.close()
        folder.cleanup()

    return end


def instruments() -> dict[str, Any]:
    """Return what one call costs in others' instruments: a counter and a histogram with two attributes."""
    meter = MeterProvider([InMemoryMetricReader()]).get_meter("bench")
    counter, histogram = meter.create_counter("calls"), meter.create_histogram("duration")

    def opentelemetry(x: int) -> int:
        counter.add(1, LABELS)
        histogram.record(0.001, LABELS)
        return x

    registry = CollectorRegistry()
    bound = Counter("calls", "-", ["name", "outcome"], registry=registry).labels("work", "ok")
    observed = Histogram("duration", "-", ["name", "outcome"], registry=registry).labels("work", "ok")

    def prometheus(x: int) -> int:
        bound.inc()
        observed.observe(0.001)
        return x

    return {"OpenTelemetry SDK add + record": opentelemetry, "prometheus_client inc + observe, bound": prometheus}


def hooks() -> dict[str, Any]:
    """Return peers with their own way of being observed."""
    found: dict[str, Any] = {}
    if there("pyresilience"):
        import pyresilience as peer

        for name, listeners in (("", []), (", metrics listener", [peer.MetricsCollector()])):
            found[f"pyresilience, retry{name}"] = peer.resilient(
                retry=peer.RetryConfig(max_attempts=4), listeners=listeners
            )(work)
    if there("stamina"):
        import stamina

        found["stamina, retry, its hooks"] = stamina.retry(on=ValueError, attempts=4)(work)
    return found


def tables() -> Iterator[Table]:
    """Yield the table."""
    observed = opero(retries=3)(work)
    assert fused.enabled
    yield Table(
        "observing a call that succeeds",
        {
            "OpenTelemetry SDK add + record": instruments()["OpenTelemetry SDK add + record"],
            "bare function": work,
            "@opero, books off": without_books(work),
            "@opero, metrics": observed,
            "@opero, metrics, spans under an unsampled parent": Under(unsampled_parent, observed),
            "@opero, metrics, spans never sampled": Under(spanned(sampler=ALWAYS_OFF), observed),
            "@opero, metrics, root spans not sampled": Under(spanned(sampler=TraceIdRatioBased(0.0)), observed),
            "@opero, metrics, spans sampled": Under(spanned(), observed),
            "@opero, metrics, JSON events": Under(journal, observed),
            **instruments(),
            **hooks(),
        },
        measure,
        calls=1000,
    )
