"""One operation from outside in: what callers see, what the function does, what stands between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opero_dashboards import common
from opero_dashboards.common import ATTEMPT, DURATION, NO_CALLS
from opero_dashboards.page import Page, Row
from opero_dashboards.pages.circuit_breakers import timeline
from opero_dashboards.panels import graph, heat, stat
from opero_dashboards.promql import BAD, ERROR, PromQL, Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafanalib.core import Panel

    from opero_dashboards.vocabulary import Vocabulary

RUNBOOK = """
- **Errors by type** names the exception callers get. `CircuitOpenError`, `RateLimitedError`, `BulkheadFullError` and
  `CallTimeout` are Opero's own: the dependency was not asked, or did not answer in time.
- **Calls slower than attempts**: the difference is waiting, for a slot, a permit or the next attempt.
- **Attempts slower than usual**: the dependency. A second band in the heatmap is often one bad replica: try `hedge`.
- `FUNCTION.opero.stats()` gives the same numbers in the process, `FUNCTION.opero.bypass(...)` calls without any layer.
"""


def page(vocabulary: Vocabulary) -> Page:
    """Return the page."""
    p = PromQL(vocabulary)
    return Page(
        uid="opero-operation",
        title="Opero / Operation detail",
        about="One operation: what callers see, what the function does, and what stands between.",
        rows=[
            Row("At a glance", _numbers(p), 4),
            Row("What callers see", _calls(p)),
            Row("What the function does", _attempts(p)),
            Row("What stands between", _layers(p)),
            Row("Circuit", [timeline(p)], 4),
        ],
        runbook=RUNBOOK,
        one=True,
    )


def _numbers(p: PromQL) -> Sequence[Panel]:
    quantiles = [
        stat(query.legend, "Of the calls, waits included.", query.expr, unit="s", none=NO_CALLS)
        for query in reversed(p.quantiles(DURATION))
    ]
    return [
        common.calls_now(p),
        common.success_now(p),
        *quantiles,
        common.amplification_now(p),
        common.in_flight_now(p),
    ]


def _calls(p: PromQL) -> Sequence[Panel]:
    return [
        common.outcomes(p),
        graph("Duration", "Of calls, waits included.", *p.quantiles(DURATION), unit="s", none=NO_CALLS),
        graph(
            "Errors by type",
            "The exception callers get.",
            Query(p.count(DURATION, ERROR, where=BAD), f"{{{{{ERROR}}}}}"),
            unit="reqps",
            look="bars",
        ),
    ]


def _attempts(p: PromQL) -> Sequence[Panel]:
    return [
        common.attempts(p),
        graph("Attempt duration", "Of the function alone, no waits.", *p.quantiles(ATTEMPT), unit="s", none=NO_CALLS),
        heat(
            "Attempt duration, all of it",
            "How many attempts took how long.",
            p.rate(ATTEMPT, "le", suffix="_bucket"),
            unit="s",
        ),
    ]


def _layers(p: PromQL) -> Sequence[Panel]:
    return [
        graph(
            "Calls by attempts",
            "How often a call called the function.",
            *(Query(p.quantile(q, "opero.call.attempts"), f"p{100 * q:g}") for q in (0.99, 0.95, 0.5)),
            unit="short",
            none=NO_CALLS,
        ),
        common.rejections(p),
        common.events(p),
    ]
