"""Pictures as inline SVG: no script, no font and no request of their own. Colours are classes of the page's style."""

from __future__ import annotations

from html import escape
from math import inf
from typing import TYPE_CHECKING

from opero_slo.reports import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from opero_slo.reports.data import Objective, Stretch
    from opero_slo.series import Counts

WIDTH, HEIGHT = 620, 210
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 26


def burn_down(objective: Objective) -> str:
    """Draw what was left of the budget over the period, and when alerts fired."""
    points, period = objective.burn_down, objective.status.period
    if len(points) < 2:
        return ""
    zone = objective.status.slo.window.zone
    lowest = min(0.0, *(left for _, left in points))
    low = -0.25 * -(lowest // 0.25) if lowest < 0 else 0.0
    frame = _Frame((period.start, period.end), (low, 1.0))
    steps = [0.0, 0.25, 0.5, 0.75, 1.0] if low > -1 else [0.0, 0.5, 1.0]
    parts = [frame.line(level, words.left(level), strong=level == 0) for level in steps]
    if low < 0:
        parts.append(frame.line(low, words.left(low)))
        parts.append(frame.box(period.start, period.end, low, 0.0, "overspent"))
    for firing in objective.firings:
        end = firing.end or period.now
        hint = f"{firing.law.name}: {words.rate(firing.burn)}, {words.span(end - firing.start)}"
        parts.append(frame.band(firing.start, end, f"alert {_severity(firing.law.severity)}", hint))
    parts.append(frame.path([(period.start, 1.0), (period.end, 0.0)], "even"))
    first = (points[0][0], max(0.0, low))
    area = [first, *points, (points[-1][0], max(0.0, low))]
    parts += [frame.path(area, "area", closed=True), frame.path(points, "left")]
    parts.append(frame.dot(*points[-1], f"{words.left(points[-1][1])} left"))
    parts += [frame.label(at, words.day(at, zone)) for at in _ticks(period.start, period.end)]
    return frame.svg("Error budget left over the period", parts)


def latencies(objective: Objective) -> str:
    """Draw how long calls took, and the threshold between good and bad."""
    threshold, found = objective.status.slo.latency, list(objective.latencies)
    while found and not found[-1][1]:
        found.pop()
    while found and not found[0][1] and (threshold is None or found[0][0] < threshold):
        found.pop(0)
    total = sum(calls for _, calls in found)
    if not total or len(found) < 2:
        return ""
    frame = _Frame((0, len(found)), (0.0, 1.0))
    top = max(calls for _, calls in found)
    parts = [frame.line(level, f"{level * top / total:.0%}") for level in (0.0, 0.5, 1.0)]
    for number, (bound, calls) in enumerate(found):
        good = threshold is None or bound <= threshold
        name = f"up to {words.latency(bound)}" if bound != inf else f"over {words.latency(found[number - 1][0])}"
        hint = f"{name}: {words.count(calls)} calls, {calls / total:.1%}"
        parts.append(frame.bar(number, calls / top, "good" if good else "bad", hint))
        if number % max(len(found) // 9, 1) == 0 or bound == threshold:
            parts.append(frame.label(number + 0.5, words.latency(bound) if bound != inf else "more"))
    if threshold is not None:
        edge = sum(bound <= threshold for bound, _ in found)
        parts.append(frame.mark(edge, words.latency(threshold)))
    return frame.svg("Duration of calls against the threshold", parts)


def calendar(objective: Objective) -> str:
    """Draw a square for each day: how much of a day's own budget it spent."""
    days = objective.days[-371:]
    if not days:
        return ""
    budget = objective.status.slo.budget
    columns = min(len(days), 31) if len(days) <= 62 else -(-len(days) // 7)
    down = len(days) > 62
    size, gap = (19, 3) if not down else (10, 2)
    parts = []
    for number, day in enumerate(days):
        column, row = divmod(number, 7) if down else (number % columns, number // columns)
        x, y = column * (size + gap), row * (size + gap)
        parts.append(
            f'<rect class="day {_heat(day, budget)}" x="{x}" y="{y}" width="{size}" height="{size}" rx="3">'
            f"<title>{escape(_day_hint(day))}</title></rect>"
        )
    rows = 7 if down else -(-len(days) // columns)
    return _svg(columns * (size + gap), rows * (size + gap), "Compliance by day", parts, kind="calendar")


def months(objective: Objective) -> str:
    """Draw how much of a month's budget each month spent."""
    found = [month for month in objective.months if month.counts.total][-13:]
    if len(found) < 2:
        return ""
    budget = objective.status.slo.budget
    spent = [month.counts.bad / (month.counts.total * budget) for month in found]
    top = max(1.2, *spent)
    frame = _Frame((0, len(found)), (0.0, top))
    parts = [frame.line(0.0, "0 %"), frame.line(1.0, "100 %", strong=True)]
    for number, (month, share) in enumerate(zip(found, spent, strict=True)):
        hint = f"{month.name}: {share:.0%} of its budget spent, {words.percent(month.counts.ratio)} good"
        parts.append(frame.bar(number, share, "good" if share <= 1 else "bad", hint))
        parts.append(frame.label(number + 0.5, month.name[2:] if len(found) > 8 else month.name))
    return frame.svg("Budget spent by month", parts)


def gauge(remaining: float | None) -> float:
    """Return how long the bar of the budget is, 0 to 100: what is left of it, or all of it, in red, when overspent."""
    return 100.0 if remaining is not None and remaining < 0 else min(remaining or 0.0, 1.0) * 100


def shares(operations: Sequence[tuple[str, Counts]]) -> list[tuple[str, Counts, float]]:
    """Return the operations with bad events, and how long their bars are, 0 to 1."""
    bad = [(name, counts) for name, counts in operations if counts.bad]
    top = max((counts.bad for _, counts in bad), default=1.0)
    return [(name, counts, counts.bad / top) for name, counts in bad]


class _Frame:
    """A drawing area with its scales."""

    def __init__(self, across: tuple[float, float], up: tuple[float, float]) -> None:
        self.across = across
        self.up = up

    def x(self, value: float) -> float:
        low, high = self.across
        return LEFT + (min(max(value, low), high) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.up
        return HEIGHT - BOTTOM - (min(max(value, low), high) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def line(self, level: float, text: str, *, strong: bool = False) -> str:
        y = self.y(level)
        kind = "grid strong" if strong else "grid"
        return (
            f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="scale" x="{LEFT - 7}" y="{y + 3.5:.1f}" text-anchor="end">{text}</text>'
        )

    def label(self, at: float, text: str) -> str:
        anchor = "end" if self.x(at) > WIDTH - RIGHT - 20 else "middle" if self.x(at) > LEFT + 20 else "start"
        return f'<text class="scale" x="{self.x(at):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{escape(text)}</text>'

    def path(self, points: Iterable[tuple[float, float]], kind: str, *, closed: bool = False) -> str:
        drawn = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        return f'<path class="{kind}" d="M{drawn}{"Z" if closed else ""}"/>'

    def dot(self, x: float, y: float, hint: str) -> str:
        at = f'cx="{self.x(x):.1f}" cy="{self.y(y):.1f}"'
        return f'<circle class="now" {at} r="4"><title>{escape(hint)}</title></circle>'

    def box(self, start: float, end: float, low: float, high: float, kind: str) -> str:
        x, y = self.x(start), self.y(high)
        return (
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{self.x(end) - x:.1f}"'
            f' height="{self.y(low) - y:.1f}"/>'
        )

    def band(self, start: float, end: float, kind: str, hint: str) -> str:
        width = max(self.x(end) - self.x(start), 2.0)
        return (
            f'<rect class="{kind}" x="{self.x(start):.1f}" y="{TOP}" width="{width:.1f}"'
            f' height="{HEIGHT - TOP - BOTTOM}"><title>{escape(hint)}</title></rect>'
        )

    def bar(self, number: int, share: float, kind: str, hint: str) -> str:
        width = (self.x(number + 1) - self.x(number)) * 0.72
        x, y = self.x(number + 0.5) - width / 2, self.y(share)
        height = max(self.y(0.0) - y, 0.0)
        return (
            f'<rect class="bar {kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2">'
            f"<title>{escape(hint)}</title></rect>"
        )

    def mark(self, at: float, text: str) -> str:
        x = self.x(at)
        anchor, shift = ("end", -6) if x > WIDTH / 2 else ("start", 6)
        return (
            f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
            f'<text class="threshold" x="{x + shift:.1f}" y="{TOP + 9}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def svg(self, title: str, parts: Iterable[str]) -> str:
        return _svg(WIDTH, HEIGHT, title, parts)


def _svg(width: float, height: float, title: str, parts: Iterable[str], kind: str = "chart") -> str:
    body = "".join(parts)
    return f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">{body}</svg>'


def _ticks(start: float, end: float, count: int = 6) -> list[float]:
    return [start + (end - start) * number / count for number in range(count + 1)]


def _severity(severity: str) -> str:
    return "page" if severity.lower() in {"page", "critical", "sev1", "p1"} else "ticket"


def _heat(day: Stretch, budget: float) -> str:
    if day.counts.ratio is None:
        return "none"
    spent = day.counts.bad / day.counts.total / budget
    levels = (("clean", 0.0), ("light", 0.5), ("full", 1.0), ("over", 4.0))
    return next((name for name, most in levels if spent <= most), "far")


def _day_hint(day: Stretch) -> str:
    if day.counts.ratio is None:
        return f"{day.name}: nothing happened"
    counts = day.counts
    return f"{day.name}: {words.count(counts.bad)} of {words.count(counts.total)} bad ({counts.ratio:.4%} good)"
