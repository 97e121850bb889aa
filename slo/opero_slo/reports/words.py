"""How numbers and moments read, the same in every format."""

from __future__ import annotations

from datetime import datetime
from math import ceil, log10
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from opero_slo.evaluator import Status
    from opero_slo.model import SLO
    from opero_slo.periods import Period

NONE = "–"


def percent(share: float | None, target: float = 0.99) -> str:
    """Write a share with as many digits as its target asks for, rounded down: 99.9 % missed is never shown as met."""
    if share is None:
        return NONE
    digits = min(max(ceil(-log10(max(1 - target, 1e-6))) - 1, 1), 5)
    scale = 10.0**digits
    return f"{int(share * 100 * scale + 1e-7) / scale:.{digits}f} %"


def objective(target: float) -> str:
    """Write a target as it was given: 99.9 %."""
    return f"{round(target * 100, 9):.9g} %"


def left(share: float | None) -> str:
    """Write what is left of a budget: 43 %, or −12 %."""
    return NONE if share is None else f"{share * 100:.0f} %".replace("-", "−")


def count(number: float) -> str:
    """Write how many: 1,234."""
    return f"{number:,.0f}" if abs(number - round(number)) < 1e-9 or number >= 100 else f"{number:,.1f}"


def rate(burn: float | None) -> str:
    """Write a burn rate: 14.4×."""
    return NONE if burn is None else f"{burn:.1f}×" if burn < 100 else f"{burn:,.0f}×"


def moment(at: float, zone: str = "UTC") -> str:
    """Write a moment: 31 Jan 2026 12:30 UTC."""
    there = datetime.fromtimestamp(at, ZoneInfo(zone))
    return f"{there.day} {there:%b %Y %H:%M} {there.tzname()}"


def day(at: float, zone: str = "UTC") -> str:
    """Write a day: 31 Jan."""
    there = datetime.fromtimestamp(at, ZoneInfo(zone))
    return f"{there.day} {there:%b}"


def span(seconds: float) -> str:
    """Write a length of time in its two largest units: 2 d 4 h."""
    parts, rest = [], max(seconds, 0.0)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if rest >= size:
            parts.append(f"{int(rest // size)} {unit}")
            rest %= size
    return " ".join(parts[:2]) or "0 s"


def latency(seconds: float) -> str:
    """Write a duration: 300 ms, 2.5 s."""
    return f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"


def window(slo: SLO) -> str:
    """Write the window of an objective: rolling 30 days, month from 1 Jan 2026."""
    units = {"m": "minute", "h": "hour", "d": "day", "w": "week", "M": "month", "Q": "quarter", "Y": "year"}
    duration = slo.window.duration
    name = units[duration.unit]
    text = f"{duration.count} {name}s" if duration.count > 1 else name
    return f"rolling {text}" if slo.window.rolling else f"calendar {text} ({slo.window.zone})"


def stretch(period: Period, zone: str) -> str:
    """Write a period: 1 Jan – 31 Jan."""
    return f"{day(period.start, zone)} – {day(period.now, zone)}"


def verdict(status: Status) -> str:
    """Say in one sentence how it stands."""
    counts, slo = status.counts, status.slo
    if status.state == "no data":
        return "Nothing happened in this period."
    if status.remaining is None:
        return (
            f"Too few events to tell: {count(counts.total)} of the {count(status.needed)} it takes so that one bad "
            f"event does not decide it. {count(counts.bad)} were bad."
        )
    bad = f"{count(counts.bad)} of {count(counts.total)} {unit(slo)} were bad"
    if status.remaining < 0:
        over = counts.bad / status.allowed if status.allowed else 0.0
        return f"{bad}, {over:.1f} times as many as allowed ({count(status.allowed)})."
    text = f"{bad}, of {count(status.allowed)} allowed; {left(status.remaining)} of the budget is left"
    if status.exhausted_in is not None:
        text += f", for {span(status.exhausted_in)} at the pace of the last hour"
    return f"{text}."


def unit(slo: SLO) -> str:
    """Name what is counted."""
    return "time slices" if slo.slices else "events"
