"""Everything that no other page shows: signals of plugins, and those too new to have a place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opero_dashboards.page import Page, Row
from opero_dashboards.panels import graph
from opero_dashboards.promql import CALL, PromQL, Query

if TYPE_CHECKING:
    from grafanalib.core import Panel

    from opero_dashboards.vocabulary import Vocabulary

UNITS = {"s": "s", "By": "bytes", "1": "percentunit", "{call}/s": "reqps"}
RUNBOOK = """
These signals come from plugins, or from a version of Opero newer than its dashboards. The description of each panel is
what its author declared.
"""


def page(vocabulary: Vocabulary) -> Page | None:
    """Return the page, or None when there is nothing left to show."""
    left = sorted(set(vocabulary) - vocabulary.shown)
    if not left:
        return None
    p = PromQL(vocabulary)
    kinds = sorted({vocabulary.kind(name) for name in left})
    return Page(
        uid="opero-other",
        title="Opero / Other signals",
        about="Signals of plugins, and those too new to have a place on another page.",
        rows=[
            row
            for kind in kinds
            for row in _rows(kind, [panel(p, name) for name in left if vocabulary.kind(name) == kind])
        ],
        runbook=RUNBOOK,
    )


def panel(p: PromQL, name: str) -> Panel:
    """Return a panel made from what the metric says of itself."""
    metric = p.vocabulary.metric(name)
    labels = (CALL, *p.vocabulary.labels(name))
    legend = " ".join(f"{{{{{label}}}}}" for label in labels)
    unit = UNITS.get(metric.unit, "short")
    if metric.type == "histogram":
        return graph(name, metric.help, *p.quantiles(name), unit=unit)
    if metric.type == "counter":
        return graph(name, metric.help, Query(p.rate(name, *labels), legend), unit="ops")
    return graph(name, metric.help, Query(p.level(name, *labels), legend), unit=unit)


def _rows(kind: str, panels: list[Panel]) -> list[Row]:
    title = kind.replace("_", " ").capitalize() or "Others"
    return [Row(title, panels[n : n + 3]) for n in range(0, len(panels), 3)]
