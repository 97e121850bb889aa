"""What was said and counted while a block ran, as plain dictionaries that are the same each time."""

from __future__ import annotations

from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any

from opero import catalogue, clock, events
from opero.testing import virtual
from opero.testing.blocks import block

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opero.events import Event

PLACES = 6  # decimals of a time: microseconds

_numbers = count(1)
_current: ContextVar[dict[int, int]] = ContextVar("opero.testing.span")  # the span that is, in each capture by number


class Captured:
    """What `capture` saw so far. Times are seconds since it began, or since `clock()` did, whichever is later.

    `events` and `spans` are lists of dictionaries in the order in which they began; calls and spans are numbered from
    1. A span's `parent` is the number of the span around it, None for the outermost; its `end` is None while it runs.
    """

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.spans: list[dict[str, Any]] = []
        self._started = clock.wall()
        self._calls: dict[int, int] = {}
        self._open: dict[tuple[int, int], tuple[dict[str, Any], int | None]] = {}
        self._before = _read()
        self._number = next(_numbers)

    def metrics(self) -> dict[str, dict[tuple[str, ...], float | list[float]]]:
        """Return what was counted since it began, without zeros: instrument → attribute values → amount.

        The first attribute is the operation. A gauge is its value now; a histogram its bucket counts and the sum.
        """
        changed: dict[str, dict[tuple[str, ...], float | list[float]]] = {}
        for (name, key), (kind, value) in _read().items():
            _, before = self._before.get((name, key), (kind, None))
            new = value if kind in {"gauge", "updown"} else _less(value, before)
            if any(new) if isinstance(new, list) else new:
                changed.setdefault(name, {})[key] = new
        return changed

    def names(self) -> list[str]:
        """Return the names of the events, without those of single calls and attempts."""
        return [e["name"] for e in self.events if not e["name"].startswith(("opero.call.", "opero.attempt."))]

    def hear(self, event: Event) -> None:
        """Take an event."""
        call = self._calls.setdefault(event.call, len(self._calls) + 1) if event.call else 0
        at = round(event.at - max(self._started, virtual.began()), PLACES)
        self.events.append(
            {
                "name": event.name,
                "operation": event.operation,
                "at": at,
                "severity": event.severity,
                "call": call,
                "correlation_id": event.correlation_id,
                "fields": {key: _rounded(value) for key, value in event.fields.items()},
            }
        )
        _, subject, what = (*event.name.split("."), "")[:3]
        number = event.fields["number"] if subject == "attempt" else 0
        if subject in {"call", "attempt"} and what == "started":
            self._begin(event, call, number, at)
        elif subject in {"call", "attempt"} and what == "finished":
            self._end(event, call, number, at)

    def _begin(self, event: Event, call: int, number: int, at: float) -> None:
        name = f"{event.operation} attempt" if number else event.operation
        around = _current.get({}).get(self._number)
        span: dict[str, Any] = {"id": len(self.spans) + 1, "parent": around, "name": name, "start": at, "end": None}
        self.spans.append(span)
        self._open[call, number] = span, around
        self._go_on_in(span["id"])

    def _end(self, event: Event, call: int, number: int, at: float) -> None:
        span, around = self._open.pop((call, number), (None, None))
        if span is None:
            return
        self._go_on_in(around)
        fields = {key: event.fields[key] for key in ("outcome", "attempts", "number", "error") if key in event.fields}
        span.update(end=at, **fields)

    def _go_on_in(self, span: int | None) -> None:
        spans = {**_current.get({}), self._number: span}
        _current.set({number: span for number, span in spans.items() if span is not None})


@block
def capture(*patterns: str) -> Iterator[Captured]:
    """Take down the events that match (all, unless given), the spans and the metrics while the block runs.

    Example:
        >>> from opero import opero
        >>> with capture() as captured:
        ...     opero(retries=0, name="double")(lambda x: 2 * x)(21)
        42
        >>> [event["name"] for event in captured.events][0]
        'opero.call.started'
        >>> captured.metrics()["opero.events"]["double", "opero.call.finished", "call"]
        1
    """
    captured = Captured()
    with events.subscribe(captured.hear, *patterns):
        yield captured


def _read() -> dict[tuple[str, tuple[str, ...]], tuple[str, Any]]:
    families = catalogue.snapshot()
    return {(f.metric.name, key): (f.metric.type, value) for f in families for key, value in f.samples.items()}


def _less(value: Any, before: Any) -> Any:
    if isinstance(value, list):
        return [a - b for a, b in zip(value, before or [0] * len(value), strict=True)]
    return value - (before or 0)


def _rounded(value: Any) -> Any:
    return round(value, PLACES) if isinstance(value, float) else value
