"""What can be said: events and metrics, declared once as data. Names, tables and series are derived from here."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Literal

    Severity = Literal["debug", "info", "warning", "error"]
    MetricType = Literal["counter", "updown", "gauge", "histogram"]
    Attributes = tuple[str, ...]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ATTEMPTS = (1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 13.0)

OUTCOME = "opero.outcome"
ERROR = "error.type"
ATTEMPT_OUTCOME = "opero.attempt.outcome"
KIND = "opero.policy.kind"
POLICY = "opero.policy.name"
REASON = "opero.rejection.reason"
EVENT = "opero.event.name"
STATE = "opero.circuit.state"
CALL = "opero.call.name"


class Event:
    """One thing that can be said; `fields` are what it carries besides operation, time and correlation id.

    One that `follows` a distribution is said with each of its values, so that nobody has to count it.
    """

    __slots__ = ("fields", "follows", "help", "key", "kind", "name", "severity")

    def __init__(
        self,
        name: str,
        severity: Severity,
        help: str,  # noqa: A002
        fields: Sequence[str] = (),
        *,
        follows: Metric | None = None,
    ) -> None:
        self.name = name
        self.severity: Severity = severity
        self.help = help
        self.fields = tuple(fields)
        self.follows = follows
        self.kind = ""
        self.key = (EVENTS.name, (name, ""))  # its series in a book


class Metric:
    """One instrument. `zeros` are the attribute values whose series exist at 0 from decoration on.

    `attributes` are its names besides `opero.call.name`; `unit` is UCUM; `buckets` are upper bounds.
    """

    __slots__ = ("attributes", "buckets", "help", "name", "type", "unit", "zeros")

    def __init__(
        self,
        name: str,
        type: MetricType,  # noqa: A002
        unit: str,
        help: str,  # noqa: A002
        *,
        attributes: Sequence[str] = (),
        buckets: Sequence[float] = (),
        zeros: Iterable[Attributes] | None = None,
    ) -> None:
        self.name = name
        self.type: MetricType = type
        self.unit = unit
        self.help = help
        self.attributes = tuple(attributes)
        self.buckets = tuple(buckets)
        self.zeros = tuple(zeros) if zeros is not None else (() if attributes else ((),))


class Signals:
    """All that one kind of policy can say: its events, its metrics, and its reasons to reject."""

    __slots__ = ("events", "kind", "metrics", "reasons")

    def __init__(
        self, kind: str, events: Sequence[Event] = (), metrics: Sequence[Metric] = (), reasons: Sequence[str] = ()
    ) -> None:
        self.kind = kind
        self.events = tuple(events)
        self.metrics = tuple(metrics)
        self.reasons = tuple(reasons)
        for event in events:
            event.kind = kind
            event.key = (EVENTS.name, (event.name, kind))


EVENTS = Metric("opero.events", "counter", "{event}", "What was said, by event.", attributes=(EVENT, KIND))
REJECTIONS = Metric(
    "opero.rejections",
    "counter",
    "{rejection}",
    "Calls and retries that were refused, and why.",
    attributes=(KIND, REASON),
)
