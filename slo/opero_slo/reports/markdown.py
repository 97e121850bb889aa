"""A report as Markdown, for a wiki or a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opero_slo.durations import shown
from opero_slo.reports import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opero_slo.reports.data import Contract, Objective, Report

MARKS = {"met": "✅", "at risk": "⚠️", "missed": "❌", "too few events": "❔", "no data": "∅"}


def render(report: Report) -> str:
    """Write it."""
    return "\n".join(_lines(report)).rstrip() + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"# Service level objectives\n\n{words.moment(report.at)}, from {_safe(report.source)}\n"
    head = ("objective", "target", "measured", "budget left", "state")
    rows = []
    for objective in report.objectives:
        status = objective.status
        name = _safe(status.slo.title or status.slo.name)
        sli, left = words.percent(status.sli, status.slo.target), words.left(status.remaining)
        state = f"{MARKS[status.state]} {status.state}"
        rows.append((name, words.objective(status.slo.target), sli, left, state))
    yield from _table(head, rows)
    for objective in report.objectives:
        yield from _objective(objective)
    for contract in report.contracts:
        yield from _contract(contract)
    if report.problems:
        yield "## Notes\n"
        yield from (f"- {_safe(problem)}" for problem in report.problems)


def _objective(objective: Objective) -> Iterator[str]:
    status = objective.status
    slo = status.slo
    yield f"## {_safe(slo.title or slo.name)}\n"
    if slo.description:
        yield f"{_safe(slo.description)}\n"
    yield f"{words.window(slo)}, {words.stretch(status.period, slo.window.zone)}. {words.verdict(status)}\n"
    rates = [(shown(seconds), words.rate(rate)) for seconds, rate in status.burn_rates.items()]
    yield from _table(("window", "burn rate"), rates)
    alerts = [
        (_safe(r.law.name), _safe(r.law.severity), r.law.windows, words.rate(r.law.burn), _state(r.breached, r.reason))
        for r in status.readings
    ]
    yield from _table(("alert", "severity", "windows", "above", "now"), alerts)
    yield from (f"`{_safe(each.name)}` is refused: {_safe(each.reason)}\n" for each in status.refused)
    if objective.firings:
        yield "### Alerts that fired\n"
        rows = [
            (
                words.moment(f.start),
                _safe(f.law.name),
                words.rate(f.burn),
                words.span(f.end - f.start) if f.end else "still",
            )
            for f in objective.firings
        ]
        yield from _table(("at", "alert", "burn rate", "for"), rows)
    months = [(m.name, words.count(m.counts.bad), words.percent(m.counts.ratio, slo.target)) for m in objective.months]
    yield from _table(("month", "bad", "measured"), months)
    worst = [(f"`{_safe(n)}`", words.count(c.bad), words.percent(c.ratio, slo.target)) for n, c in objective.operations]
    yield from _table(("operation", "bad", "measured"), worst)


def _state(breached: bool, reason: str) -> str:
    return "**firing**" if breached else reason or "quiet"


def _contract(contract: Contract) -> Iterator[str]:
    sla = contract.sla
    yield f"## Contract {_safe(sla.title or sla.name)}\n"
    rows = [
        (
            f"{month.name}{'' if month.complete else ' (running)'}",
            words.percent(month.sli, sla.tiers[0].below),
            f"{month.credit:.0%}" if month.credit else words.NONE,
        )
        for month in contract.months
    ]
    yield from _table(("month", "measured", "credit"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    rows = list(rows)
    if not rows:
        return
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _safe(text: str) -> str:
    """Keep a name from becoming markup."""
    flat = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|" else c for c in flat)
