"""This process: what its operations counted, and, from the history, what they and others did before."""

from __future__ import annotations

from collections import defaultdict
from math import inf
from typing import TYPE_CHECKING

from opero import catalogue
from opero.call import DURATION
from opero.errors import ConfigurationError
from opero.signals import EVENTS
from opero_slo.model import COUNTED_CALLS, Ratio, Selection
from opero_slo.series import NOTHING, Counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from opero.catalogue import Family
    from opero_slo.model import SLO

FAMILIES = {"calls": (DURATION.name, 1), "cache": ("opero.cache.requests", 1), "events": (EVENTS.name, 1)}


class Snapshot:
    """What all operations counted until now."""

    def __init__(self, families: Iterable[Family] | None = None) -> None:
        found = catalogue.snapshot() if families is None else families
        self.families = {family.metric.name: family for family in found}

    def count(self, metric: Selection) -> float:
        """Return how many events a selection holds."""
        return sum(self.by_operation(metric).values())

    def by_operation(self, metric: Selection) -> dict[str, float]:
        """Return how many each operation has."""
        found: defaultdict[str, float] = defaultdict(float)
        name, place = FAMILIES[metric.counted]
        family = self.families.get(name)
        for labels, value in family.samples.items() if family else ():
            if labels[place] in metric.values and metric.covers(labels[0]):
                found[labels[0]] += _amount(family, labels[0], value, metric.within)
        return dict(found)

    def latencies(self, slo: SLO) -> list[tuple[float, float]]:
        """Return (upper bound, calls) of the durations of an objective's operations."""
        total = Selection(slo.operation, "calls", COUNTED_CALLS)
        family = self.families.get(DURATION.name)
        below: defaultdict[float, float] = defaultdict(float)
        for labels, value in family.samples.items() if family else ():
            if isinstance(value, list) and labels[1] in total.values and total.covers(labels[0]):
                for bound, calls in zip((*family.bounds(labels[0]), inf), value[:-1], strict=True):  # type: ignore[union-attr]
                    below[bound] += calls
        return sorted(below.items()) if any(below.values()) else []

    def rounded(self, slo: SLO) -> list[str]:
        """Return the operations whose histogram lacks the threshold: theirs is judged at the next lower bound."""
        family = self.families.get(DURATION.name)
        if family is None or slo.latency is None:
            return []
        metric = Selection(slo.operation)
        names = {labels[0] for labels in family.samples if metric.covers(labels[0])}
        return sorted(name for name in names if slo.latency not in family.bounds(name))


def counts(slo: SLO, snapshot: Snapshot) -> tuple[float, float]:
    """Return what an objective's indicator counted: its part, and the total."""
    part, total = metrics(slo)
    return snapshot.count(part), snapshot.count(total)


def operations(slo: SLO, snapshot: Snapshot) -> dict[str, Counts]:
    """Return the counts by operation."""
    part, total = metrics(slo)
    parts: Mapping[str, float] = snapshot.by_operation(part)
    inverted = isinstance(slo.indicator, Ratio) and slo.indicator.inverted
    found: dict[str, Counts] = defaultdict(lambda: NOTHING)
    for name, of in snapshot.by_operation(total).items():
        some = parts.get(name, 0.0)
        found[name] = Counts(of - some if inverted else some, of)
    return dict(found)


def metrics(slo: SLO) -> tuple[Selection, Selection]:
    """Return both selections of an objective on Opero's own data."""
    indicator = slo.indicator
    part = indicator.part if isinstance(indicator, Ratio) else indicator.metric
    total = indicator.total if isinstance(indicator, Ratio) else part
    if not (isinstance(part, Selection) and isinstance(total, Selection)):
        raise ConfigurationError(
            f"the indicator of {slo.name}", None, "a source of type Opero, to be judged in a process"
        )
    return part, total


def _amount(family: Family | None, operation: str, value: float | list[float], within: float | None) -> float:
    if not isinstance(value, list):
        return value
    if within is None or family is None:
        return sum(value[:-1])
    return sum(_below(zip(family.bounds(operation), value[:-1], strict=False), within))


def _below(buckets: Iterable[tuple[float, float]], within: float) -> Iterator[float]:
    return (calls for bound, calls in buckets if bound <= within)
