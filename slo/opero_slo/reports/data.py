"""What a report says, before it is written: every number is computed here, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opero_slo import alerts, periods, sla
from opero_slo.evaluator import evaluate
from opero_slo.model import Ratio

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opero_slo.alerts import Firing
    from opero_slo.evaluator import Status
    from opero_slo.model import SLA
    from opero_slo.series import Counts, Series
    from opero_slo.sla import Month
    from opero_slo.sources import Source

POINTS = 240  # of a burn-down
LOOKS = 8640  # at which past alerts are replayed: every five minutes of 30 days
WORST = 8
YEAR = 366 * 86400.0


@dataclass(frozen=True)
class Stretch:
    """A day or a month, and what it came to."""

    name: str
    counts: Counts
    met: bool | None  # None where nothing happened


@dataclass(frozen=True)
class Objective:
    """Everything about one objective."""

    status: Status
    days: tuple[Stretch, ...]
    months: tuple[Stretch, ...]
    burn_down: tuple[tuple[float, float], ...]  # (moment, share of the budget left)
    firings: tuple[Firing, ...]
    operations: tuple[tuple[str, Counts], ...]  # worst first
    latencies: tuple[tuple[float, float], ...]  # (upper bound, calls)
    measured: tuple[float, float] | None  # from when to when there are counts


@dataclass(frozen=True)
class Contract:
    """A contract and its months."""

    sla: SLA
    months: tuple[Month, ...]


@dataclass(frozen=True)
class Report:
    """All objectives at one moment."""

    at: float
    source: str
    objectives: tuple[Objective, ...]
    contracts: tuple[Contract, ...]
    problems: tuple[str, ...] = ()

    @property
    def missed(self) -> bool:
        """Whether any budget is overspent."""
        return any(objective.status.state == "missed" for objective in self.objectives)


def build(
    statuses: Iterable[tuple[Status, Series]],
    source: Source,
    at: float,
    contracts: Iterable[tuple[SLA, Series]] = (),
    problems: Iterable[str] = (),
) -> Report:
    """Put a report together from statuses and the series they were judged on."""
    objectives = tuple(_objective(status, series, source) for status, series in statuses)
    months = tuple(Contract(each, tuple(sla.months(each, series, at))) for each, series in contracts)
    return Report(at, source.name, objectives, months, tuple(problems))


def gather(slos: Iterable, slas: Iterable[SLA], source: Source, now: float) -> Report:  # type: ignore[type-arg]
    """Ask a source for everything a report needs, and build it."""
    series: dict[str, Series] = {}
    contracts = list(slas)
    promised = {contract.slo.name for contract in contracts}
    for slo in slos:
        reach = max(periods.period(slo.window, now).start, now - YEAR)
        start = min(reach, now - YEAR) if slo.name in promised else reach
        series[slo.name] = source.series(slo, start, now)
    judged = [(evaluate(slo, series[slo.name], now), series[slo.name]) for slo in slos]
    problems = tuple(getattr(source, "problems", ()))
    return build(judged, source, now, [(c, series[c.slo.name]) for c in contracts], problems)


def _objective(status: Status, series: Series, source: Source) -> Objective:
    slo, period = status.slo, status.period
    zone = slo.window.zone
    start, now = period.start, period.now
    measured = (series.start, series.end) if series.start is not None and series.end is not None else None
    looks = _moments(max(start, series.start or start), now, LOOKS)
    worst = sorted(source.operations(slo, start, now).items(), key=lambda item: (-item[1].bad, item[0]))
    return Objective(
        status,
        tuple(_stretch(status, series, *each) for each in periods.days(start, now, zone)),
        tuple(_stretch(status, series, *each) for each in periods.months(series.start or start, now, zone)),
        tuple((at, _left(status, series, at)) for at in _moments(start, now, POINTS)) if status.enough else (),
        tuple(alerts.replay(status.laws, series, slo.budget, looks)) if measured else (),
        tuple(worst[:WORST]),
        tuple(source.latencies(slo, start, now)) if isinstance(slo.indicator, Ratio) else (),
        measured,
    )


def _stretch(status: Status, series: Series, name: str, start: float, end: float) -> Stretch:
    counts = series.between(start, end)
    return Stretch(name, counts, None if counts.ratio is None else counts.ratio >= status.slo.target)


def _left(status: Status, series: Series, at: float) -> float:
    return 1 - series.between(status.period.start, at).bad / status.allowed


def _moments(start: float, end: float, count: int) -> list[float]:
    """Return moments from start to end, the last one exact."""
    step = max((end - start) / count, 60.0)
    number = int((end - start) / step)
    return [end - step * each for each in range(number, -1, -1)]
