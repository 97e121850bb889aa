"""What was promised, what was kept, what is left of the budget, and how fast it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opero_dashboards.page import Page, Row, variable
from opero_dashboards.panels import bars, good_above, graph, stat, table
from opero_dashboards.promql import PROCESS, PromQL, Query, share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafanalib.core import Panel

    from opero_dashboards.vocabulary import Vocabulary

OBJECTIVE, SLI, LEFT, BURN = (
    "opero.slo.objective",
    "opero.slo.sli",
    "opero.slo.error_budget.remaining",
    "opero.slo.burn_rate",
)
EVENTS = "opero.slo.events"
PROMISED, MONTH = "opero.slo.contract.objective", "opero.slo.contract.sli"
NONE, NO_CONTRACT = "no SLO", "no contract"
RUNBOOK = """
- **Burn rate above 14.4 over 1 h and 5 min**: a 30-day budget is gone in two days. Page somebody, stop the rollout.
- **Above 6 over 6 h and 30 min**: gone in five days. Page somebody.
- **Above 1 over days**: the objective will be missed slowly. A ticket.
- **Budget used up**: reliability first, features later; `opero slo report SPEC` says which operations used it.
- **Above the first tier, and below 0**: a contract's month is broken. Tell whoever talks to the customer first.
- **Few events**: a ratio over a handful of calls says little; look at the counts.
"""


def page(vocabulary: Vocabulary) -> Page:
    """Return the page."""
    name, *_ = vocabulary.labels(OBJECTIVE)
    process = PromQL(vocabulary, PROCESS)
    p = PromQL(vocabulary, f'{PROCESS}, {name}=~"$slo"')
    return Page(
        uid="opero-slo",
        title="Opero / SLO",
        about="What was promised, what was kept, what is left of the error budget, and how fast it goes.",
        rows=[
            Row("At a glance", [*_numbers(p, name), _left(p, name)], 6, shares=(1, 1, 1, 3)),
            Row("Objectives", [_table(p, name)], 7),
            Row("Budget", _budget(p, name)),
            Row("Events", _events(p, name)),
            Row("Contracts", _contracts(p, name), shares=(1, 2)),
        ],
        runbook=RUNBOOK,
        variables=[variable("slo", "SLO", f"label_values({process.series(OBJECTIVE)}, {name})")],
        scoped=False,
    )


def _numbers(p: PromQL, name: str) -> Sequence[Panel]:
    missed = f"count({_kept(p, name)} < 0) or (0 * count({p.series(OBJECTIVE)}))"
    return [
        stat("SLOs", "Objectives in force.", f"count({p.level(OBJECTIVE, name)})", unit="short", none=NONE, now=True),
        stat(
            "Missed",
            "Objectives that are not met now.",
            missed,
            unit="short",
            steps=[(0, "green"), (0.5, "red")],
            none=NONE,
            now=True,
        ),
        stat(
            "Least budget",
            "Of the error budgets, the one with the least left.",
            p.level(LEFT, how="min"),
            unit="percentunit",
            steps=good_above(0.1, 0.3),
            none=NONE,
        ),
    ]


def _kept(p: PromQL, name: str) -> str:
    return f"{p.level(SLI, name, how='min')} - {p.level(OBJECTIVE, name, how='max')}"


def _left(p: PromQL, name: str) -> Panel:
    return bars(
        "Error budget left",
        "Share of the failures the objective allows that are still allowed.",
        Query(p.level(LEFT, name, how="min"), f"{{{{{name}}}}}"),
        unit="percentunit",
        steps=good_above(0.1, 0.3),
        none=NONE,
    )


def _table(p: PromQL, name: str) -> Panel:
    return table(
        "Objectives",
        "Each objective, what was reached, and what is left.",
        name,
        {
            "objective": (p.level(OBJECTIVE, name, how="max"), "percentunit", ()),
            "reached": (p.level(SLI, name, how="min"), "percentunit", ()),
            "budget left": (p.level(LEFT, name, how="min"), "percentunit", good_above(0.1, 0.3)),
            "fastest burn": (
                p.level(BURN, name, how="max"),
                "short",
                [(0, "green"), (1, "orange"), (6, "red")],
            ),
            "events/s": (p.rate(EVENTS, name), "reqps", ()),
        },
    )


def _budget(p: PromQL, name: str) -> Sequence[Panel]:
    window = [label for label in p.vocabulary.labels(BURN) if label != name]
    legend = " ".join(f"{{{{{label}}}}}" for label in (name, *window))
    return [
        graph(
            "Error budget left",
            "Falls with each failure, rises as old ones leave the window.",
            Query(p.level(LEFT, name, how="min"), f"{{{{{name}}}}}"),
            unit="percentunit",
            none=NONE,
        ),
        graph(
            "Burn rate",
            "By window. 1 uses the budget up exactly at the period's end.",
            Query(p.level(BURN, name, *window, how="max"), legend),
            unit="short",
            steps=[(0, "transparent"), (1, "yellow"), (6, "orange"), (14.4, "red")],
            none=NONE,
        ),
        graph(
            "Reached, against the objective",
            "Above 0 the objective is met.",
            Query(_kept(p, name), f"{{{{{name}}}}}"),
            unit="percentunit",
            none=NONE,
        ),
    ]


def _contracts(p: PromQL, name: str) -> Sequence[Panel]:
    contract = next(label for label in p.vocabulary.labels(MONTH) if label != name)
    spare = f"{p.level(MONTH, contract, how='min')} - {p.level(PROMISED, contract, how='max')}"
    return [
        bars(
            "Running month",
            "What was good in it, of each contract; nothing while a single bad event would break it.",
            Query(p.level(MONTH, contract, how="min"), f"{{{{{contract}}}}}"),
            unit="percentunit",
            steps=[],
            none=NO_CONTRACT,
        ),
        graph(
            "Above the first tier",
            "Below 0 a credit is due for this month.",
            Query(spare, f"{{{{{contract}}}}}"),
            unit="percentunit",
            none=NO_CONTRACT,
        ),
    ]


def _events(p: PromQL, name: str) -> Sequence[Panel]:
    result = next(label for label in p.vocabulary.labels(EVENTS) if label != name)
    bad = p.rate(EVENTS, name, where=f'{result}="bad"')
    return [
        graph(
            "Good and bad",
            "The events all objectives count.",
            Query(p.rate(EVENTS, result), f"{{{{{result}}}}}"),
            unit="reqps",
            look="stack",
        ),
        graph(
            "Bad events",
            "By objective.",
            Query(bad, f"{{{{{name}}}}}"),
            unit="reqps",
            look="bars",
            none=NONE,
        ),
        graph(
            "Share of bad events",
            "By objective, in the last minutes.",
            Query(share(bad, p.rate(EVENTS, name)), f"{{{{{name}}}}}"),
            unit="percentunit",
            none="no events",
        ),
    ]
