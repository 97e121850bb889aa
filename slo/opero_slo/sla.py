"""What a contract promises: over whole calendar months, with credits by tier. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opero_slo import periods

if TYPE_CHECKING:
    from opero_slo.model import SLA, Tier
    from opero_slo.series import Counts, Series


@dataclass(frozen=True)
class Month:
    """A calendar month of a contract. `tier` is what it fell below, None while the promise is kept."""

    name: str
    start: float
    end: float
    counts: Counts
    tier: Tier | None
    complete: bool
    covered: bool

    @property
    def sli(self) -> float | None:
        """The share of good events; None where nothing happened."""
        return self.counts.ratio

    @property
    def credit(self) -> float:
        """The share of the fee that is given back."""
        return self.tier.credit if self.tier else 0.0

    def to_spare(self, sla: SLA) -> float:
        """How many more bad events the first tier allows, at the traffic so far; below 0 when it is broken."""
        return self.counts.total * (1 - sla.tiers[0].below) - self.counts.bad


def running(sla: SLA, series: Series, now: float) -> Month | None:
    """Judge the running month; None while it holds so few events that a single bad one would break it."""
    found = months(sla, series, now, 1)
    enough = found and found[-1].counts.total * (1 - sla.tiers[0].below) >= 1
    return found[-1] if enough else None


def months(sla: SLA, series: Series, now: float, count: int = 12) -> list[Month]:
    """Judge the last months, the running one too; one whose beginning was not measured is not `covered`."""
    if series.start is None:
        return []
    found = [_month(sla, series, month, now) for month in periods.whole_months(series.start, now, sla.zone)]
    return found[-count:]


def tier_of(sla: SLA, sli: float | None) -> Tier | None:
    """Return the lowest tier a share falls below."""
    below = [tier for tier in sla.tiers if sli is not None and sli < tier.below]
    return below[-1] if below else None


def _month(sla: SLA, series: Series, month: tuple[str, float, float], now: float) -> Month:
    name, start, end = month
    counts = series.between(start, min(end, now))
    covered = series.start is not None and series.start <= start
    return Month(name, start, end, counts, tier_of(sla, counts.ratio), end <= now, covered)
