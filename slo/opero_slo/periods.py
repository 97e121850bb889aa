"""Which stretch of time a window means. Days and months are those of a time zone, through its clock changes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from opero_slo.checks import START

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opero_slo.model import Window


class Period(NamedTuple):
    """From `start` to `end`, in Unix seconds. `now` lies in it, or is its end where the window rolls."""

    start: float
    end: float
    now: float

    @property
    def length(self) -> float:
        """Seconds from start to end."""
        return self.end - self.start

    @property
    def elapsed(self) -> float:
        """The share of it that is over, 0 to 1."""
        return min(max((self.now - self.start) / self.length, 0.0), 1.0)


def period(window: Window, now: float) -> Period:
    """Return the period of a window that holds now."""
    if window.start is None:
        return Period(now - window.duration.seconds, now, now)
    first = datetime.strptime(window.start, START).replace(tzinfo=ZoneInfo(window.zone))
    number = max(int((now - first.timestamp()) / window.duration.seconds) - 1, 0)
    while window.duration.after(first, number + 1).timestamp() <= now:
        number += 1
    while number > 0 and window.duration.after(first, number).timestamp() > now:
        number -= 1
    start, end = (window.duration.after(first, n).timestamp() for n in (number, number + 1))
    return Period(start, end, now)


def days(start: float, end: float, zone: str = "UTC") -> Iterator[tuple[str, float, float]]:
    """Yield (2026-01-31, start, end) for every day that touches the stretch, cut to it."""
    day = datetime.fromtimestamp(start, ZoneInfo(zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    while day.timestamp() < end:
        following = day + timedelta(days=1)
        yield day.strftime("%Y-%m-%d"), max(day.timestamp(), start), min(following.timestamp(), end)
        day = following


def months(start: float, end: float, zone: str = "UTC") -> Iterator[tuple[str, float, float]]:
    """Yield (2026-01, start, end) for every calendar month that touches the stretch, cut to it."""
    for name, first, last in whole_months(start, end, zone):
        yield name, max(first, start), min(last, end)


def whole_months(start: float, end: float, zone: str = "UTC") -> Iterator[tuple[str, float, float]]:
    """Yield (2026-01, start, end) for every calendar month that touches the stretch, from its first to its last day."""
    month = datetime.fromtimestamp(start, ZoneInfo(zone)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while month.timestamp() < end:
        following = (month + timedelta(days=32)).replace(day=1)
        yield month.strftime("%Y-%m"), month.timestamp(), following.timestamp()
        month = following
