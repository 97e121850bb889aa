"""Opero's numbers as instruments of a MeterProvider that the application owns: its readers and views decide the rest.

Sums and gauges are observable, read when somebody collects. Distributions are recorded as their event is said, which
takes the fast path from every call: 5 µs and more where the books cost a tenth of one. Prefer `metrics="own"`.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from opero import __version__, catalogue, events
from opero.call import ATTEMPT_DURATION, CALL_ATTEMPTS, DURATION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opero.events import Event
    from opero.signals import Metric
    from opero_telemetry.reading import Reader

RECORDED = (DURATION, CALL_ATTEMPTS, ATTEMPT_DURATION)
MAKERS = {"counter": "create_observable_counter", "updown": "create_observable_up_down_counter"}


class Observables:
    """Instruments on `provider`, from now on and for as long as it lives."""

    def __init__(self, provider: MeterProvider, reader: Reader) -> None:
        self._meter: Any = provider.get_meter("opero", __version__)
        self._reader = reader
        self._made: set[str] = set()
        self._lock = Lock()
        self._open = True
        self._record: dict[str, Any] = {
            metric.name: self._meter.create_histogram(
                metric.name, metric.unit, metric.help, explicit_bucket_boundaries_advisory=metric.buckets
            )
            for metric in RECORDED
        }
        self._subscription = events.subscribe(self.hear, "opero.call.finished", "opero.attempt.finished")
        self.refresh()

    def close(self) -> None:
        """End; OpenTelemetry keeps the instruments, they yield nothing more."""
        self._open = False
        self._subscription.close()

    def refresh(self) -> None:
        """Make the instruments of what was declared since the last time."""
        with self._lock:
            for family in catalogue.snapshot():
                metric = family.metric
                if metric.name not in self._made and metric.type != "histogram":
                    self._made.add(metric.name)
                    make = getattr(self._meter, MAKERS.get(metric.type, "create_observable_gauge"))
                    make(metric.name, [self._reading(metric)], metric.unit, metric.help)

    def hear(self, event: Event) -> None:
        """Record a duration; a new operation may have brought new instruments."""
        fields, about = event.fields, {"opero.call.name": event.operation}
        if fields["error"]:
            about["error.type"] = fields["error"]
        if event.name == "opero.attempt.finished":
            about["opero.attempt.outcome"] = fields["outcome"]
            self._record[ATTEMPT_DURATION.name].record(fields["duration"], about)
            return
        outcome = {"opero.outcome": fields["outcome"]}
        self._record[DURATION.name].record(fields["duration"], {**about, **outcome})
        self._record[CALL_ATTEMPTS.name].record(fields["attempts"], {"opero.call.name": event.operation, **outcome})

    def _reading(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def read(_: CallbackOptions) -> Iterable[Observation]:
            for family in self._reader.read() if self._open else ():
                if family.metric.name == metric.name:
                    for key, value in family.samples.items():
                        if not isinstance(value, list):
                            yield Observation(value, dict(zip(family.attributes, key, strict=True)))

        return read
