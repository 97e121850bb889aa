"""What an objective comes to at a moment: its indicator, its error budget, its burn rates and its alerts. Pure."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Literal

from opero_slo import alerts, periods
from opero_slo.model import Level, Ratio
from opero_slo.series import Series, freshness, sliced, throughput

if TYPE_CHECKING:
    from opero_slo.alerts import Law, Reading, Refused
    from opero_slo.model import SLO
    from opero_slo.periods import Period
    from opero_slo.series import Counts

State = Literal["met", "at risk", "missed", "too few events", "no data"]
LEVEL_SLICE = 60.0
SHOWN = (300.0, 1800.0, 3600.0, 21600.0, 86400.0, 259200.0)  # windows whose burn rates a report shows


@dataclass(frozen=True)
class Status:
    """An objective at a moment."""

    slo: SLO
    period: Period
    counts: Counts
    needed: int
    burn_rates: dict[float, float | None]
    readings: tuple[Reading, ...]
    laws: tuple[Law, ...]
    refused: tuple[Refused, ...]

    @property
    def sli(self) -> float | None:
        """The share of good events in the period; None where there were too few to tell."""
        return self.counts.ratio if self.enough else None

    @property
    def enough(self) -> bool:
        """Whether one bad event would not decide it."""
        return 0 < self.counts.total >= self.needed

    @property
    def remaining(self) -> float | None:
        """The share of the error budget that is left; below 0 when overspent, None with too few events."""
        return 1 - self.counts.bad / (self.slo.budget * self.counts.total) if self.enough else None

    @property
    def burn(self) -> float | None:
        """How many times faster than allowed the budget was spent over the period."""
        return alerts.burn_rate(self.counts, self.slo.budget) if self.enough else None

    @property
    def allowed(self) -> float:
        """How many events may be bad, by what happened so far."""
        return self.counts.total * self.slo.budget

    @property
    def state(self) -> State:
        """One word: missed when more was bad than allowed, at risk when an alert fires or a tenth is left."""
        if not self.counts.total:
            return "no data"
        if self.remaining is not None and self.remaining < 0:
            return "missed"
        if any(reading.breached for reading in self.readings):
            return "at risk"  # also with too few events for a share: whoever is paged must find it here
        if self.remaining is None:
            return "too few events"
        return "at risk" if self.remaining < 0.1 else "met"

    @property
    def exhausted_in(self) -> float | None:
        """Seconds until nothing is left at the pace of the last hour; None when it will not happen in this period."""
        pace, left = self.burn_rates.get(3600.0), self.remaining
        if pace is None or left is None or left <= 0 or pace <= 0:
            return None
        seconds = left * self.period.length / pace
        return seconds if seconds < self.period.length else None


def evaluate(slo: SLO, series: Series, now: float) -> Status:
    """Judge an objective on the counts of its own events."""
    period = periods.period(slo.window, now)
    laws, refused = alerts.laws(slo)
    rates = {seconds: alerts.burn_rate(series.between(now - seconds, now), slo.budget) for seconds in SHOWN}
    readings = tuple(alerts.read(law, series, slo.budget, now) for law in laws)
    counts = series.between(period.start, now)
    return Status(slo, period, counts, needed(slo), rates, readings, tuple(laws), tuple(refused))


def needed(slo: SLO) -> int:
    """Return how many events it takes that one bad event does not spend the whole budget."""
    return slo.guard.min_events or ceil(round(1 / slo.budget, 9))


def derive(slo: SLO, counted: Series) -> Series:
    """Turn counts of what an indicator selects into counts of what its objective judges: events, or slices of time."""
    indicator = slo.indicator
    if isinstance(indicator, Level) and slo.good_if is not None:
        width = slo.slices.width if slo.slices else LEVEL_SLICE
        law = freshness if indicator.measure == "freshness" else throughput
        return law(counted, *slo.good_if, width)
    if isinstance(indicator, Ratio) and indicator.inverted:
        flipped = Series()
        flipped.times, flipped.total = counted.times, counted.total
        flipped.good = array("d", [total - bad for bad, total in zip(counted.good, counted.total, strict=True)])
        counted = flipped
    return sliced(counted, slo.slices) if slo.slices else counted
