"""Multi-window multi-burn-rate alerts. Pure: `now` is an argument.

Rules:
- The burn rate over a window is its share of bad events ÷ the budget, 1 − target. At 1 the budget lasts the period.
- An alert fires when the burn rate is above its threshold in the long window (it matters) and in the short one (it is
  not over), and the long window holds enough events for that to mean something (`Guard`). It resolves when not.
- The pairs spend 2, 5, 10 and 10 % of the budget of 30 days: 14.4 over 1 h, 6 over 6 h, 3 over 1 d, 1 over 3 d; the
  short window is a twelfth. For another period the shares stay, the windows are kept, and the burn rates follow:
  share × period ÷ window, never below 1, which spends the whole budget. For periods under 28 days the windows shrink
  with the period instead.
- Fewer events than those of which one bad one would reach the burn rate do not fire it, unless ten of them are bad.
- A burn rate cannot pass 1 ÷ budget, where every event is bad. An alert that asks for more would never fire: refused.

Source: The Site Reliability Workbook, "Alerting on SLOs" (2018), table 5-6 to 5-8.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING

from opero_slo.durations import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from opero_slo.model import SLO, Condition, Guard
    from opero_slo.series import Counts, Series

HOUR, DAY = 3600.0, 86400.0
WORKBOOK = (
    ("page-fast", "page", 0.02, HOUR),
    ("page-slow", "page", 0.05, 6 * HOUR),
    ("ticket-fast", "ticket", 0.10, DAY),
    ("ticket-slow", "ticket", 0.10, 3 * DAY),
)
SHORTEST = 28 * DAY
BACKWARDS = "op: {} asks for a budget that is spent slowly, and an alert is about one spent fast: use gt"
ENOUGH_BAD = 10  # bad events that mean something, however few there are in all: an outage with little traffic


@dataclass(frozen=True)
class Law:
    """Fires at a burn rate above `burn` over both windows that lasts `after` seconds; `events` the least in `long`."""

    name: str
    severity: str
    burn: float
    long: float
    short: float
    after: float = 0.0
    events: int = 0
    enough_bad: int | None = None
    confidence: float | None = None
    bad_events: int | None = None
    targets: tuple[str, ...] = ()
    when_resolved: bool = True
    when_no_data: bool = False
    when_breaching: bool = True

    @property
    def windows(self) -> str:
        """Both windows, as a person reads them."""
        return shown(self.long) if self.short == self.long else f"{shown(self.long)}/{shown(self.short)}"


@dataclass(frozen=True)
class Refused:
    """An alert that could never fire, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Reading:
    """What an alert sees now. A burn rate of None: too few events."""

    law: Law
    long: float | None
    short: float | None
    events: float
    bad: float
    breached: bool
    reason: str = ""


@dataclass(frozen=True)
class Firing:
    """An alert that fired, from `start` to `end` (None while it does), and the burn rate it fired at."""

    law: Law
    start: float
    end: float | None
    burn: float


def laws(slo: SLO) -> tuple[list[Law], list[Refused]]:
    """Return the alerts of an objective, its own or else the workbook's, and those it cannot have."""
    made = [_given(condition, slo) for condition in slo.conditions] or list(_workbook(slo))
    limit = 1 / slo.budget
    kept: list[Law] = []
    refused = [Refused(c.name, BACKWARDS.format(c.op)) for c in slo.conditions if c.op in {"lt", "lte"}]
    backwards = {each.name for each in refused}
    for law in made:
        if law.name in backwards:
            continue
        if law.burn < limit:
            kept.append(law)
            continue
        reason = (
            f"a burn rate above {law.burn:g} cannot be: with a target of {slo.target:.6g} it is {limit:.6g} when every "
            f"event is bad; ask for less than {limit:.6g}, or for a higher target"
        )
        refused.append(Refused(law.name, reason))
    if slo.guard.bad_events is not None:
        window = slo.guard.bad_window
        kept.append(Law("ticket-bad-events", "ticket", 0.0, window, window, bad_events=slo.guard.bad_events))
    return kept, refused


def read(law: Law, series: Series, budget: float, now: float) -> Reading:
    """Judge one alert at a moment."""
    long, short = series.between(now - law.long, now), series.between(now - law.short, now)
    if law.bad_events is not None:
        return Reading(law, None, None, long.total, long.bad, long.bad >= law.bad_events)
    if law.when_no_data and not long.total:
        return Reading(law, None, None, 0, 0, breached=True, reason="no data")
    rates = burn_rate(long, budget), burn_rate(short, budget)
    if not law.when_breaching or rates[0] is None or rates[1] is None or rates[0] <= law.burn or rates[1] <= law.burn:
        return Reading(law, *rates, long.total, long.bad, breached=False)
    if long.total < law.events and (law.enough_bad is None or long.bad < law.enough_bad):
        reason = f"too few events: {long.total:g} of {law.events}"
        return Reading(law, *rates, long.total, long.bad, breached=False, reason=reason)
    if law.confidence is not None and lower_bound(long, law.confidence) <= law.burn * budget:
        reason = f"too few events to be {law.confidence:.3g} sure"
        return Reading(law, *rates, long.total, long.bad, breached=False, reason=reason)
    return Reading(law, *rates, long.total, long.bad, breached=True)


def burn_rate(counts: Counts, budget: float) -> float | None:
    """Return how many times faster than allowed the budget is spent; None without events."""
    return counts.bad / counts.total / budget if counts.total > 0 else None


def lower_bound(counts: Counts, confidence: float) -> float:
    """Return the share of bad events that is exceeded with this confidence.

    Source: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference" (1927); one-sided.
    """
    n, p, z = counts.total, counts.bad / counts.total, NormalDist().inv_cdf(confidence)
    return (p + z * z / (2 * n) - z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)


class Watch:
    """Follows the alerts of one objective from reading to reading."""

    def __init__(self, laws: Iterable[Law], budget: float) -> None:
        self.laws = tuple(laws)
        self.budget = budget
        self.firing: dict[str, Firing] = {}
        self._since: dict[str, float] = {}

    def look(self, series: Series, now: float) -> Iterator[tuple[bool, Firing, Reading]]:
        """Yield what changed: (True, …) an alert fired, (False, …) it resolved."""
        for law in self.laws:
            reading = read(law, series, self.budget, now)
            if not reading.breached:
                self._since.pop(law.name, None)
                if law.name in self.firing:
                    ended = self.firing.pop(law.name)
                    yield False, Firing(law, ended.start, now, ended.burn), reading
            elif law.name not in self.firing and now - self._since.setdefault(law.name, now) >= law.after:
                self.firing[law.name] = firing = Firing(law, now, None, reading.long or 0.0)
                yield True, firing, reading


def replay(laws: Sequence[Law], series: Series, budget: float, moments: Iterable[float]) -> list[Firing]:
    """Return the alerts that would have fired at these moments, looked at one after the other."""
    watch = Watch(laws, budget)
    ended = [firing for now in moments for fired, firing, _ in watch.look(series, now) if not fired]
    return sorted([*ended, *watch.firing.values()], key=lambda firing: firing.start)


def _workbook(slo: SLO) -> Iterator[Law]:
    period = slo.window.duration.seconds
    scale = min(1.0, period / SHORTEST)
    for name, severity, share, window in WORKBOOK:
        long = window * scale
        burn = max(round(share * period / long, 6), 1.0)
        yield Law(name, severity, burn, long, long / 12, **_guarded(slo.guard, burn, slo.budget))  # type: ignore[arg-type]


def _given(condition: Condition, slo: SLO) -> Law:
    return Law(
        condition.name,
        condition.severity,
        condition.threshold,
        condition.lookback,
        condition.lookback,
        condition.after,
        targets=condition.targets,
        when_resolved=condition.when_resolved,
        when_no_data=condition.when_no_data,
        when_breaching=condition.when_breaching,
        **_guarded(slo.guard, condition.threshold, slo.budget),  # type: ignore[arg-type]
    )


def _guarded(guard: Guard, burn: float, budget: float) -> dict[str, float | None]:
    """One bad event alone must not reach the burn rate: 1 ÷ n ≤ burn × budget."""
    if guard.min_events is not None:
        return {"events": guard.min_events, "confidence": guard.confidence}
    least = ceil(round(1 / (burn * budget), 9))
    return {"events": least, "enough_bad": ENOUGH_BAD, "confidence": guard.confidence}
