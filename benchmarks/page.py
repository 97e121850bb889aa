"""Draw `benchmarks/results/*.json` as one page that needs nothing else: the last run as bars, all runs as lines.

python -m benchmarks.page OUT.html
"""

from __future__ import annotations

import json
import math
import sys
from html import escape
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
WIDTH, ROW, LEFT, RIGHT = 860, 26, 290, 220
STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #667085; --bar: #c5cede; --ours: #3b6ef5; --paper: #fff; --line: #e6e9ef }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --soft: #98a2b3; --bar: #3b4556; --ours: #7aa2ff; --paper: #14181f; --line: #2a3240 }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 900px; margin: 3rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin: 2.4rem 0 .4rem }
p, small { color: var(--soft) } svg { width: 100%; height: auto; overflow: visible }
text { fill: var(--ink); font: 13px system-ui, sans-serif } .soft { fill: var(--soft) } .end { text-anchor: end }
.bar { fill: var(--bar) } .ours { fill: var(--ours) } .trend { fill: none; stroke: var(--ours); stroke-width: 1.5 }
.grid { stroke: var(--line) }
"""


def page(results: list[dict[str, Any]]) -> str:
    """Return the page for these runs, oldest first."""
    last = results[-1]
    about = last["environment"]
    sections = [section(name, table, results) for name, table in last["tables"].items()]
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Opero, measured</title><style>{STYLE}</style>
<h1>Opero, measured</h1>
<p>{escape(about["python"])}, {escape(about["machine"])}, {escape(about["at"][:10])}. Medians of rounds in which all subjects took turns; the axis is
logarithmic. Absolute numbers belong to that machine, the ratios travel. Lines show the ratio over {len(results)} kept runs.</p>
{"".join(sections)}
</html>
"""


def section(name: str, table: dict[str, Any], results: list[dict[str, Any]]) -> str:
    """Return one table as bars; blue is Opero."""
    rows = table["rows"]
    medians = [row[2] for row in rows]
    low, high = math.log10(min(medians)) - 0.3, math.log10(max(medians))
    scale = (WIDTH - LEFT - RIGHT) / max(high - low, 0.3)
    drawn = []
    for number, (subject, _, median, ratio) in enumerate(rows):
        y, width = number * ROW, (math.log10(median) - low) * scale
        ours = "opero" in subject.lower()
        drawn.append(
            f'<text class="end" x="{LEFT - 10}" y="{y + 17}">{escape(subject)}</text>'
            f'<rect class="{"ours" if ours else "bar"}" x="{LEFT}" y="{y + 4}" width="{width:.1f}" height="18" rx="3"/>'
            f'<text x="{LEFT + width + 8:.1f}" y="{y + 17}">{quantity(median, table["unit"])} '
            f'<tspan class="soft">{ratio:.3g}×</tspan></text>' + (trend(name, subject, results, y) if ours else "")
        )
    height = len(rows) * ROW
    axis = f'<line class="grid" x1="{LEFT}" y1="0" x2="{LEFT}" y2="{height}"/>'
    return f'<h2>{escape(name)}</h2><svg viewBox="0 0 {WIDTH} {height + 4}" role="img">{axis}{"".join(drawn)}</svg>'


def quantity(value: float, unit: str) -> str:
    """Return a number with the unit that suits its size."""
    for larger in {"ns": ("µs", "ms"), "µs": ("ms",)}.get(unit, ()):
        if value >= 1000:
            value, unit = value / 1000, larger
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"


def trend(name: str, subject: str, results: list[dict[str, Any]], y: int) -> str:
    """Return the ratio of one subject over all runs, as a line at the right edge."""
    ratios = [row[3] for run in results for row in run["tables"].get(name, {"rows": []})["rows"] if row[0] == subject]
    if len(ratios) < 2:
        return ""
    top, step = max(ratios), 60 / (len(ratios) - 1)
    points = " ".join(f"{WIDTH - 62 + n * step:.1f},{y + 22 - 18 * ratio / top:.1f}" for n, ratio in enumerate(ratios))
    return f'<polyline class="trend" points="{points}"/>'


def main() -> None:
    """Write the page."""
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    if not results:
        sys.exit(f"there is nothing in {RESULTS}: python -m benchmarks --json {RESULTS}/DATE.json")
    Path(sys.argv[1]).write_text(page(results))


if __name__ == "__main__":
    main()
