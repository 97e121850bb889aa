"""Which knobs the controllers turned, when, and where they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opero_dashboards.page import Page, Row
from opero_dashboards.panels import graph, stat, table
from opero_dashboards.promql import PROCESS, PromQL, Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafanalib.core import Panel

    from opero_dashboards.vocabulary import Vocabulary

SETPOINT, ADJUSTMENTS = "opero.controller.setpoint", "opero.controller.adjustments"
NONE = "no controller"
RUNBOOK = """
- Every change is an event, `opero.controller.adjusted`, with from, to, why and the inputs; it is in the log.
- **A knob swings**: up and down by turns, in step with the latency. Widen the window, or fix the knob by hand.
- **A knob stands at its bound**: the bound decides, not the controller. Move the bound if the load is real.
- **No change for long**: steady, or frozen for want of fresh telemetry. *Telemetry health* tells which.
"""


def page(vocabulary: Vocabulary) -> Page:
    """Return the page."""
    p = PromQL(vocabulary, PROCESS)
    return Page(
        uid="opero-controllers",
        title="Opero / Controllers",
        about="Which knobs the controllers turned, when, and where they stand.",
        rows=[
            Row("At a glance", [*_numbers(p), _table(p)], 8, shares=(1, 1, 4)),
            Row("Set-points", [_setpoints(p)], 9),
            Row("Changes", [_changes(p)], 7),
        ],
        runbook=RUNBOOK,
        scoped=False,
    )


def _numbers(p: PromQL) -> Sequence[Panel]:
    changes = p.increase(ADJUSTMENTS, over="$__range")
    return [
        stat("Knobs", "That a controller turns.", f"count({p.series(SETPOINT)})", unit="short", none=NONE, now=True),
        stat("Changes", "In the time shown.", changes, unit="short", none=NONE, now=True),
    ]


def _table(p: PromQL) -> Panel:
    name, parameter, *_ = p.vocabulary.labels(SETPOINT)
    by = (name, parameter)
    return table(
        "Knobs",
        "Where each knob stands, and how often it was turned in the time shown.",
        name,
        {
            "value": (p.level(SETPOINT, *by, how="max"), "short", ()),
            "changes": (p.increase(ADJUSTMENTS, *by, over="$__range"), "short", ()),
        },
    )


def _setpoints(p: PromQL) -> Panel:
    labels = ["instance", *p.vocabulary.labels(SETPOINT)]
    legend = " ".join(f"{{{{{label}}}}}" for label in (*labels[1:], labels[0]))
    return graph(
        "Set-points",
        "The value of each knob.",
        Query(p.level(SETPOINT, *labels, how="max"), legend),
        unit="short",
        look="step",
        none=NONE,
    )


def _changes(p: PromQL) -> Panel:
    labels = p.vocabulary.labels(ADJUSTMENTS)
    legend = " ".join(f"{{{{{label}}}}}" for label in labels)
    return graph(
        "Changes",
        "How often each knob was turned, up or down.",
        Query(p.increase(ADJUSTMENTS, *labels), legend),
        unit="short",
        look="bars",
        none=NONE,
    )
