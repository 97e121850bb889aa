"""Draw the kept runs as one page that needs nothing else: goals, the last run as bars, all runs as lines."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

from benchmarks import budget
from benchmarks.tables import machine, number, quantity, ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    Runs = list[dict[str, Any]]

SUITES = {
    "calls": "Calls",
    "instructions": "Instructions",
    "cache": "Caches",
    "limits": "Limits",
    "map": "Maps",
    "serial": "Bytes",
    "costs": "Import, decoration, memory",
    "idle": "Idle",
    "observing": "Observing",
    "scrape": "Scrapes",
    "scaling": "Scalability",
    "load": "Latency under load",
}
WIDTH, ROW, LEFT, RIGHT = 860, 26, 300, 150
SPAN = 1.5  # decades either side of the goal
STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #667085; --bar: #c9d1de; --ours: #0f766e; --bad: #b45309; --paper: #fff; --card: #f7f8fa; --line: #e4e7ec }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --soft: #98a2b3; --bar: #3b4556; --ours: #2dd4bf; --bad: #fbbf24; --paper: #12161c; --card: #191f28; --line: #2a3240 }
}
* { box-sizing: border-box }
body { font: 15px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 940px; margin: 0 auto; padding: 3rem 1.2rem 5rem }
h1 { font-size: 2rem; letter-spacing: -.02em; margin: 0 } h2 { font-size: 1.25rem; margin: 3.2rem 0 .4rem; padding-top: .6rem; border-top: 1px solid var(--line) }
h3 { font-size: .95rem; margin: 1.8rem 0 .3rem } p, small { color: var(--soft) } a { color: var(--ours); text-decoration: none }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin: 1.2rem 0 }
.tiles { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.6rem 0 } .tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .7rem 1.2rem; min-width: 8rem }
.tile b { display: block; font-size: 1.9rem; line-height: 1.2; font-variant-numeric: tabular-nums } .tile.met b { color: var(--ours) } .tile.missed b { color: var(--bad) }
svg { display: block; width: 100%; height: auto; overflow: visible } .bars { min-width: 640px } td:first-child { width: 34% }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: 13px } th { text-align: left; font-weight: 500; color: var(--soft) }
th, td { padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: middle } td.n { font-variant-numeric: tabular-nums; white-space: nowrap }
td svg { width: 150px } td svg.trend { width: 64px } tr.missed td.state { color: var(--bad); font-weight: 600 } tr.met td.state { color: var(--ours) }
text { fill: var(--ink); font: 13px system-ui, sans-serif } .soft { fill: var(--soft) } .end { text-anchor: end }
.bar { fill: var(--bar) } .ours { fill: var(--ours) } .dot.met { fill: var(--ours) } .dot.missed { fill: var(--bad) }
.line { fill: none; stroke: var(--ours); stroke-width: 1.5 } .missed .line { stroke: var(--bad) } .grid { stroke: var(--line) } .goal { stroke: var(--ink); stroke-width: 1.5 }
"""


def page(runs: Runs) -> str:
    """Return the page for these runs, oldest first."""
    last = runs[-1]
    about, tables = last["environment"], last["tables"]
    sections = []
    links = []
    for suite, title in SUITES.items():
        found = {name: table for name, table in tables.items() if table["suite"] == suite}
        if found:
            links.append(f'<a href="#{suite}">{title}</a>')
            sections.append(
                f'<h2 id="{suite}">{title}</h2>' + "".join(drawn(name, table) for name, table in found.items())
            )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Opero, measured</title><style>{STYLE}</style>
<h1>Opero, measured</h1>
<p>{escape(about["at"][:16].replace("T", " "))} UTC, commit {escape(about["commit"])}, {escape(machine(about))}.
 Medians of rounds in which all subjects took turns. Absolute numbers belong to that machine; the ratios travel.</p>
<nav><a href="#goals">Goals</a>{"".join(links)}</nav>
{_goals(runs)}
{"".join(sections)}
<h2>Peers</h2><p>{escape(", ".join(f"{name} {version}" for name, version in about["peers"].items()))}</p>
</html>
"""


def _goals(runs: Runs) -> str:
    """Return each gate: how far from its goal, and how it was in all runs."""
    rows, met, missed = [], 0, 0
    for gate in budget.gates():
        value = gate.value(runs[-1]["tables"])
        if value is None:
            continue
        state = "met" if value <= gate.at_most else "missed"
        met, missed = met + (state == "met"), missed + (state == "missed")
        history = [found for run in runs if (found := gate.value(run["tables"])) is not None]
        beside, unit = _beside(gate), "×" if gate.against else runs[-1]["tables"][gate.table]["unit"]
        rows.append(
            f'<tr class="{state}"><td>{escape(gate.table)}<br><small>{escape(gate.subject)}{_why(gate, state)}</small></td><td>{beside}</td>'
            f'<td class="n">{number(value)} {unit}</td><td class="n">{number(gate.at_most)} {unit}</td>'
            f'<td>{_distance(value, gate.at_most, state)}</td><td>{_trend(history, gate.at_most)}</td><td class="state">{state}</td></tr>'
        )
    return f"""<div class="tiles"><div class="tile met"><b>{met}</b>goals met</div><div class="tile missed"><b>{missed}</b>missed</div>
<div class="tile"><b>{len(runs)}</b>{"run" if len(runs) == 1 else "runs"} kept</div></div>
<h2 id="goals">Goals</h2><p>The line is the goal, the dot what was measured: left of it is better. A step of the scale is a factor of ten.</p>
<div class="scroll"><table><tr><th>work<th>beside<th>measured<th>at most<th>distance<th>runs<th></tr>{"".join(rows)}</table></div>"""


def _why(gate: budget.Gate, state: str) -> str:
    return f"<br><i>{escape(gate.why)}</i>" if gate.why and state == "missed" else ""


def _beside(gate: budget.Gate) -> str:
    """Return what a gate compares with; of many only how many."""
    names = escape("; ".join(gate.against))
    return names if len(gate.against) < 2 else f'<span title="{names}">the fastest of {len(gate.against)} peers</span>'


def _distance(value: float, goal: float, state: str) -> str:
    off = math.log10(max(value, goal / 1e9) / goal) if goal else (SPAN if value else -SPAN)
    x = 75 + 70 * max(-SPAN, min(SPAN, off)) / SPAN
    marks = "".join(
        f'<line class="grid" x1="{at:.0f}" y1="4" x2="{at:.0f}" y2="16"/>' for at in (75 - 70 / SPAN, 75 + 70 / SPAN)
    )
    return (
        f'<svg viewBox="0 0 150 20" role="img" aria-label="{value / goal if goal else value:.2g} of the goal"><line class="grid" x1="2" y1="10" '
        f'x2="148" y2="10"/>{marks}<line class="goal" x1="75" y1="2" x2="75" y2="18"/><circle class="dot {state}" cx="{x:.1f}" cy="10" r="5"/></svg>'
    )


def _trend(history: Sequence[float], goal: float) -> str:
    """Return one figure over all runs, as a line, with its goal."""
    if len(history) < 2:
        return ""
    top, step = max(*history, goal) or 1.0, 60 / (len(history) - 1)
    points = " ".join(f"{2 + n * step:.1f},{18 - 16 * value / top:.1f}" for n, value in enumerate(history))
    y = 18 - 16 * goal / top
    said = " → ".join(map(number, history))
    return (
        f'<svg class="trend" viewBox="0 0 64 20" role="img" aria-label="{said}"><title>{said}</title><line class="grid" x1="0" y1="{y:.1f}" '
        f'x2="64" y2="{y:.1f}"/><polyline class="line" points="{points}"/></svg>'
    )


def drawn(name: str, table: dict[str, Any]) -> str:
    """Return one table as bars on a logarithmic axis; the coloured ones are Opero."""
    rows = table["rows"]
    medians = [median for _, _, median in rows if median > 0] or [1.0]
    low, high = math.log10(min(medians)) - 0.3, math.log10(max(medians))
    scale = (WIDTH - LEFT - RIGHT) / max(high - low, 0.3)
    bars = []
    for n, (subject, _, median) in enumerate(rows):
        y, width = n * ROW, (math.log10(median) - low) * scale if median > 0 else 0.0
        bars.append(
            f'<text class="end" x="{LEFT - 10}" y="{y + 17}">{escape(subject)}</text>'
            f'<rect class="{"ours" if _ours(subject) else "bar"}" x="{LEFT}" y="{y + 4}" width="{width:.1f}" height="18" rx="3"/>'
            f'<text x="{LEFT + width + 8:.1f}" y="{y + 17}">{quantity(median, table["unit"])} '
            f'<tspan class="soft">{ratio(median, rows[0][2])}</tspan></text>'
        )
    height = len(rows) * ROW
    axis = f'<line class="grid" x1="{LEFT}" y1="0" x2="{LEFT}" y2="{height}"/>'
    return f'<h3>{escape(name)}</h3><div class="scroll"><svg class="bars" viewBox="0 0 {WIDTH} {height + 4}" role="img" aria-label="{escape(name)}">{axis}{"".join(bars)}</svg></div>'


def _ours(subject: str) -> bool:
    return subject.startswith(("@op", "Opero", "import opero", "from opero"))
