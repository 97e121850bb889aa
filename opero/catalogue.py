"""Which operations there are, and the sums over all of them. A decorated function that is gone leaves its sums.

They are told apart by name, as far as `NAMES` go: once so many names are gone, functions with others are one, `_OTHER`,
from their beginning, so that no sum is in two places. Whoever makes a function for each tenant or job meets this.
"""

from __future__ import annotations

import os
import warnings
from _bisect import bisect_left
from _weakref import ref
from collections import deque

from opero import clock, events, forks
from opero.aggregates import Book
from opero.call import DURATION
from opero.signals import CALL, EVENTS, POLICY, SECONDS, Event, Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from opero.aggregates import Key
    from opero.pipeline import Operation
    from opero.policy import Observation
    from opero.signals import Attributes, Metric

    Samples = dict[tuple[str, ...], "float | list[float]"]

NAMES, OTHER = 1000, "_OTHER"
_live: dict[ref[Operation], tuple[str, Book]] = {}
_retired: dict[tuple[str, tuple[float, ...]], Book] = {}
_names: set[str] = set()  # of those
_others: list[Callable[[], Iterable[Family]]] = []
_gone: deque[ref[Operation]] = deque()  # filled by the garbage collector, anywhere; emptied under the lock
_is_gone = _gone.append
_lock = forks.lock()
_announced = False
HANDLER_FAILED = Event(
    events.HANDLER_FAILED, "error", "A subscriber raised; the call went on.", ("event", "handler", "error")
)
SIGNALS = Signals("telemetry", (HANDLER_FAILED,))
ANNOUNCING = (  # what asks for observers without code
    "OPERO_DEBUG",
    "OPERO_EVENTS_FILE",
    "OPERO_LOGS",
    "OPERO_METRICS_PORT",
    "OPERO_SLO",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
)


class Family:
    """All series of one instrument: (operation, *attributes) → a number, or the bucket counts and the sum."""

    __slots__ = ("attributes", "marks", "metric", "names", "samples")

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.attributes = (CALL, *metric.attributes)
        self.samples: Samples = {}
        self.names: set[str] = set()  # operations of what was added
        self.marks: dict[str, tuple[float, ...]] = {}  # operations whose objectives brought bounds of their own

    def bounds(self, operation: str) -> tuple[float, ...]:
        """Return the upper bounds of an operation's buckets."""
        return self.marks.get(operation, self.metric.buckets)

    def add(self, key: tuple[str, ...], value: float | list[float]) -> None:
        """Add to a series, bucket by bucket."""
        before = self.samples.get(key)
        if before is None:
            self.samples[key] = value
            self.names.add(key[0])
        elif isinstance(value, list) and isinstance(before, list):
            self.samples[key] = [a + b for a, b in zip(before, value, strict=True)]
        else:
            self.samples[key] = before + value  # type: ignore[operator]


def register(operation: Operation) -> None:
    """Keep the sums of this operation for as long as the process lives."""
    global _announced
    if not _announced and any(name in os.environ for name in ANNOUNCING):
        _announced = True
        _announce()
    with _lock:
        _sweep_locked()
        name = operation.name if len(_names) < NAMES or operation.name in _names else OTHER
        _live[ref(operation, _is_gone)] = (name, operation.book)


def operations() -> list[Operation]:
    """Return every decorated function that lives."""
    with _lock:
        _sweep_locked()
        return [operation for reference in _live if (operation := reference()) is not None]


def snapshot() -> list[Family]:
    """Return everything there is to measure, by instrument."""
    with _lock:
        _sweep_locked()
        live = list(_live.items())
        books = [book for _, book in live] + [(name, book) for (name, _), book in _retired.items()]
    families: dict[str, Family] = {}
    for name, book in books:
        sums, distributions, _ = book.read()
        metrics = book.metrics()
        values: dict[Key, Any] = {**sums, **distributions}
        for (metric, attributes), value in values.items():
            _add(_family(families, metrics.get(metric, EVENTS)), name, attributes, value, book.marks)
    for reference, (name, _) in live:
        operation = reference()
        if operation is not None and name != OTHER:  # states cannot be summed
            _observe(families, operation)
    for name, count in list(events.failures.items()):
        _add(_family(families, EVENTS), name, HANDLER_FAILED.key[1], count)
    for other in _others.copy():
        for family in other():
            _family(families, family.metric).samples.update(family.samples)
    return list(families.values())


def contribute(source: Callable[[], Iterable[Family]]) -> Callable[[], None]:
    """Let an observer's own families be part of every snapshot, and return how to take them out."""
    _others.append(source)
    return lambda: _others.remove(source) if source in _others else None


def _announce() -> None:
    """Start the observers that the environment asks for; one that fails is a warning, not the end of the program."""
    from importlib.metadata import entry_points

    for point in entry_points(group="opero.subscribers"):
        try:
            point.load()()
        except Exception as error:  # noqa: BLE001 - never worse than undecorated
            warnings.warn(f"opero: {point.name} did not start: {error}", RuntimeWarning, stacklevel=2)


def _observe(families: dict[str, Family], operation: Operation) -> None:
    for policy in operation.policies:
        for metric, values, value in _told(policy, operation):
            named = (policy.name or operation.name, *values) if POLICY in metric.attributes else values
            _family(families, metric).samples[(operation.name, *named)] = value
    for controller in operation.controllers or ():
        for metric, values, value in _told(controller, operation):
            _family(families, metric).samples[(operation.name, *values)] = value


def _told(of: Any, operation: Operation) -> list[Observation]:
    """Return what a policy or a controller has to tell; of one that fails nothing, and warn, which Python says once."""
    try:
        return list(of.observe(clock.now()))
    except Exception as error:  # noqa: BLE001 - the numbers of all others are as good as ever
        text = f"opero: {operation.name} has no gauges of its {type(of).__name__}: {type(error).__name__}: {error}"
        warnings.warn(text, RuntimeWarning, stacklevel=1)
        return []


def _family(families: dict[str, Family], metric: Metric) -> Family:
    if metric.name not in families:
        families[metric.name] = Family(metric)
    return families[metric.name]


def _add(
    family: Family, name: str, attributes: Attributes, value: float | list[float], marks: tuple[float, ...] = SECONDS
) -> None:
    if marks is not SECONDS and family.metric.name == DURATION.name:
        value = align(family, name, value, marks)
    elif name in family.marks:
        value = align(family, name, value, SECONDS)
    if POLICY in family.metric.attributes and not attributes[0]:
        attributes = (name, *attributes[1:])
    family.add((name, *attributes), value)


def align(family: Family, name: str, value: float | list[float], marks: tuple[float, ...]) -> float | list[float]:
    """Bring two operations of one name to the bounds they share, which lose nothing but detail."""
    had = family.bounds(name) if name in family.names else marks
    shared = had if had == marks else tuple(mark for mark in had if mark in marks)
    if had != shared:
        for key, counts in family.samples.items():
            if key[0] == name and isinstance(counts, list):
                family.samples[key] = coarsen(counts, had, shared)
    family.marks[name] = shared
    return coarsen(value, marks, shared) if isinstance(value, list) else value


def coarsen(counts: list[float], marks: tuple[float, ...], shared: tuple[float, ...]) -> list[float]:
    """Return the counts in fewer buckets."""
    if marks == shared:
        return counts
    made = [0.0] * (len(shared) + 1)
    for mark, count in zip((*marks, float("inf")), counts[:-1], strict=True):
        made[bisect_left(shared, mark)] += count
    return [*made, counts[-1]]


def _sweep_locked() -> None:
    while _gone:
        name, book = _live.pop(_gone.popleft(), ("", None))
        if book is None:
            continue
        _names.add(name)
        retired = _retired.setdefault((name, book.marks), Book(book.marks))
        retired.take_over(book)
