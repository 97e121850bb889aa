"""Lengths of time as OpenSLO writes them: `5m` minutes, `1M` a month, and `300ms` or `10s` where a call is meant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 604800, "M": 30 * 86400, "Q": 91 * 86400, "Y": 365 * 86400}
MONTHS = {"M": 1, "Q": 3, "Y": 12}
WRITTEN = "a whole number and a unit: m minutes, h hours, d days, w weeks, M months, Q quarters, Y years"
LATENCY = "seconds as a number, or a text like 300ms, 1.5s or 1m"
_PATTERN = re.compile(r"([1-9][0-9]{0,8})([mhdwMQY])")
_LATENCY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)")


@dataclass(frozen=True)
class Duration:
    """A number of units. A month counts 30 days where no calendar says otherwise, a quarter 91, a year 365."""

    count: int
    unit: str

    @property
    def seconds(self) -> float:
        """Its length."""
        return float(self.count * SECONDS[self.unit])

    def after(self, start: datetime, times: int = 1) -> datetime:
        """Return the moment so many of it later, by the calendar: days keep the hour of the day through a clock change.

        A month after 31 January is the last day of February.
        """
        count = self.count * times
        if self.unit in MONTHS:
            return _add_months(start, count * MONTHS[self.unit])
        return start + timedelta(seconds=count * SECONDS[self.unit])

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"


def parse(text: object) -> Duration | None:
    """Return the duration a text means, or None."""
    found = _PATTERN.fullmatch(text) if isinstance(text, str) else None
    return Duration(int(found[1]), found[2]) if found else None


def latency(value: object) -> float | None:
    """Return seconds, above 0, or None."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if 0 < value < float("inf") else None
    found = _LATENCY.fullmatch(value) if isinstance(value, str) else None
    seconds = float(found[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]] if found else 0.0
    return seconds or None


def shown(seconds: float) -> str:
    """Write a length of time as Prometheus reads it: `1h30m`, `75s`, `300ms`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    left, parts = round(seconds), []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts)


def _add_months(start: datetime, months: int) -> datetime:
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    first = start.replace(year=year, month=month + 1, day=1)
    following = datetime(year + (month + 1) // 12, (month + 1) % 12 + 1, 1, tzinfo=start.tzinfo)
    last = (following - timedelta(days=1)).day
    return first.replace(day=min(start.day, last))
