"""An objective, as the rest of the package sees it: what is counted, over which window, how much must be good."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from opero_slo.durations import Duration

Counted: TypeAlias = Literal["calls", "cache", "events"]
Operator: TypeAlias = Literal["lt", "lte", "gt", "gte"]
Method: TypeAlias = Literal["Occurrences", "Timeslices", "RatioTimeslices"]
ANSWERED = ("ok", "cached", "fallback")  # the caller got an answer
COUNTED_CALLS = ("ok", "error", "timeout", "rejected", "fallback", "cached")  # a cancelled call is nobody's failure


@dataclass(frozen=True)
class Selection:
    """Events of Opero's own: calls of an operation by outcome, cache requests by result, or what was said by name.

    `operation` may hold `*`. `within` counts only calls that took so many seconds at most.
    """

    operation: str
    counted: Counted = "calls"
    values: tuple[str, ...] = COUNTED_CALLS
    within: float | None = None

    def covers(self, operation: str) -> bool:
        """Whether it counts events of this operation."""
        return fnmatchcase(operation, self.operation)


@dataclass(frozen=True)
class Query:
    """An expression of PromQL."""

    text: str


@dataclass(frozen=True)
class Foreign:
    """A source that others read, and we do not."""

    type: str


Metric: TypeAlias = Selection | Query | Foreign


@dataclass(frozen=True)
class Ratio:
    """Good events among all; with `inverted`, `part` counts the bad ones."""

    part: Metric
    total: Metric
    inverted: bool = False
    counter: bool = True


@dataclass(frozen=True)
class Level:
    """A quantity that is compared with a value: calls a second, the age of the last one, or what a query returns."""

    metric: Metric
    measure: Literal["throughput", "freshness", "value"] = "value"


@dataclass(frozen=True)
class Raw:
    """A ratio that somebody else computed."""

    metric: Metric
    inverted: bool = False


Indicator: TypeAlias = Ratio | Level | Raw


@dataclass(frozen=True)
class Window:
    """The period an objective is held over: the last so long, or calendar periods counted from `start`."""

    duration: Duration
    start: str | None = None
    zone: str = "UTC"

    @property
    def rolling(self) -> bool:
        """Whether it ends now, always."""
        return self.start is None


@dataclass(frozen=True)
class Slices:
    """Time cut into pieces of `width` seconds; one is good when at least `target` of its events are.

    Without a target a slice counts by its share of good events.
    """

    width: float
    target: float | None = None


@dataclass(frozen=True)
class Condition:
    """An alert as the specification gives it: burn rate above `threshold` over `lookback`, for `after`; in seconds."""

    name: str
    severity: str
    threshold: float
    lookback: float
    after: float = 0.0
    targets: tuple[str, ...] = ()
    when_resolved: bool = True
    when_no_data: bool = False
    when_breaching: bool = True
    op: Operator = "gt"


@dataclass(frozen=True)
class Guard:
    """What keeps few events from waking somebody.

    An alert needs `min_events` in its long window: by default so many that one bad event alone cannot reach its burn
    rate, or ten bad ones. With `confidence`, the lower bound of the share of bad events must reach it (Wilson,
    one-sided). With `bad_events`, so many bad events within `bad_window` seconds make a ticket, however few there are
    in all.
    """

    min_events: int | None = None
    confidence: float | None = None
    bad_events: int | None = None
    bad_window: float = 86400.0


@dataclass(frozen=True)
class SLO:
    """One objective. `target` is the share that must be good, 0.999; `good_if` compares a level with a value."""

    name: str
    indicator: Indicator
    target: float
    window: Window = Window(Duration(30, "d"))
    service: str = ""
    title: str = ""
    description: str = ""
    slices: Slices | None = None
    good_if: tuple[Operator, float] | None = None
    conditions: tuple[Condition, ...] = ()
    guard: Guard = Guard()
    runbook: str = ""
    labels: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def budget(self) -> float:
        """The share of events that may be bad."""
        return round(1 - self.target, 12)

    @property
    def operation(self) -> str:
        """The operation it is about, or an empty text."""
        metrics = [self.indicator.part] if isinstance(self.indicator, Ratio) else [self.indicator.metric]
        found = [metric.operation for metric in metrics if isinstance(metric, Selection)]
        return found[0] if found else ""

    @property
    def latency(self) -> float | None:
        """The duration, in seconds, above which a call is bad."""
        part = self.indicator.part if isinstance(self.indicator, Ratio) else None
        return part.within if isinstance(part, Selection) else None


@dataclass(frozen=True)
class Tier:
    """Below this share of good events in a month, so much of the fee is given back."""

    below: float
    credit: float


@dataclass(frozen=True)
class SLA:
    """What a contract promises over calendar months, on the indicator of an SLO."""

    name: str
    slo: SLO
    tiers: tuple[Tier, ...]
    customer: str = ""
    zone: str = "UTC"
    fee: float | None = None
    currency: str = ""
    title: str = ""


@dataclass(frozen=True)
class Specification:
    """All that a set of files says."""

    slos: tuple[SLO, ...] = ()
    slas: tuple[SLA, ...] = ()
