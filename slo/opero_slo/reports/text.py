"""A report for the terminal."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from opero_slo.durations import shown
from opero_slo.reports import words

if TYPE_CHECKING:
    from opero_slo.evaluator import Status
    from opero_slo.reports.data import Contract, Objective, Report

COLOURS = {"met": "green", "at risk": "yellow", "missed": "red", "too few events": "cyan", "no data": "bright_black"}
WIDTH = 100


def render(report: Report, *, colour: bool = False, width: int = WIDTH) -> str:
    """Write it; with `colour` for a terminal that shows colours."""
    out = StringIO()
    console = Console(
        file=out, width=width, force_terminal=colour, color_system="truecolor" if colour else None, highlight=False
    )
    console.print(f"[bold]Service level objectives[/]  {words.moment(report.at)}, from {escape(report.source)}\n")
    console.print(_overview(report))
    for objective in report.objectives:
        console.print(_detail(objective))
    for contract in report.contracts:
        console.print(_contract(contract))
    for problem in report.problems:
        console.print(f"[yellow]note:[/] {escape(problem)}")
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _overview(report: Report) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    table.add_column("objective", ratio=3, overflow="fold")
    for name in ("target", "measured", "budget left"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for objective in report.objectives:
        status = objective.status
        slo = status.slo
        table.add_row(
            escape(slo.name),
            words.objective(slo.target),
            words.percent(status.sli, slo.target),
            words.left(status.remaining),
            _bar(status),
            Text(status.state, style=f"bold {COLOURS[status.state]}"),
        )
    return table


def _bar(status: Status, width: int = 16) -> Text:
    if status.remaining is None:
        return Text("·" * width, style="bright_black")
    full = round(min(max(status.remaining, 0.0), 1.0) * width)
    return Text("█" * full, style=COLOURS[status.state]) + Text("░" * (width - full), style="bright_black")


def _detail(objective: Objective) -> Panel:
    status = objective.status
    slo = status.slo
    rates = "  ".join(f"{shown(s)} {words.rate(rate)}" for s, rate in status.burn_rates.items())
    lines = [escape(words.verdict(status)), f"burn rate  {rates}"]
    for reading in status.readings:
        if reading.breached:
            law = reading.law
            rate = f"{words.rate(reading.long)} over {law.windows}"
            lines.append(f"[bold red]firing[/] {escape(law.name)} ({escape(law.severity)}), {rate}")
    lines += [f"[yellow]held back[/] {escape(r.law.name)}: {r.reason}" for r in status.readings if r.reason]
    lines += [f"[yellow]refused[/] {escape(each.name)}: {escape(each.reason)}" for each in status.refused]
    if objective.firings:
        lines.append(f"alerts in this period: {len(objective.firings)}")
    bad = [(name, counts) for name, counts in objective.operations if counts.bad]
    if len(objective.operations) > 1 and bad:
        lines.append("most bad: " + ", ".join(f"{escape(n)} {words.count(c.bad)}" for n, c in bad[:3]))
    title = f"[bold]{escape(slo.title or slo.name)}[/] · {words.window(slo)}"
    return Panel("\n".join(lines), title=title, title_align="left", border_style=COLOURS[status.state], box=box.ROUNDED)


def _contract(contract: Contract) -> Table:
    sla = contract.sla
    who = f" with {escape(sla.customer)}" if sla.customer else ""
    table = Table(title=f"Contract {escape(sla.title or sla.name)}{who}", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("month", "measured", "promised", "credit", ""):
        table.add_column(name, justify="right" if name else "left")
    for month in contract.months:
        notes = ["" if month.complete else "running", "" if month.covered else "not measured from its first day"]
        table.add_row(
            month.name,
            words.percent(month.sli, sla.tiers[0].below),
            words.objective(sla.tiers[0].below),
            f"{month.credit:.0%}" if month.credit else words.NONE,
            ", ".join(filter(None, notes)),
        )
    return table
