"""What an on-call engineer opens first: rate, errors and duration of every operation, and what Opero did about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opero_dashboards import common
from opero_dashboards.common import DURATION, NO_CALLS, amplification, failures, success
from opero_dashboards.page import Page, Row
from opero_dashboards.pages.circuit_breakers import timeline
from opero_dashboards.panels import bad_above, bars, good_above, graph, heat, stat, table
from opero_dashboards.promql import CALL, OPERATION, PROCESS, PromQL, Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafanalib.core import Panel

    from opero_dashboards.panels import Step
    from opero_dashboards.vocabulary import Vocabulary

RUNBOOK = """
1. **Success falls** – the table says which operation. Its page tells errors, timeouts and rejections apart.
2. **Rejections, few errors** – Opero protects a dependency: see *Circuit breakers* and *Rate limits and bulkheads*.
3. **Latency rises, errors do not** – compare calls with attempts on *Operation detail*. Slow attempts: the dependency.
   Quick attempts: the time goes into waits, see *Retries and budgets* and the wait times of the limits.
4. **Attempts per call above 1.5** – retries multiply the load on a dependency that fails already: lower `retries`, or
   set `retry_budget`.
"""


def page(vocabulary: Vocabulary) -> Page:
    """Return the page."""
    p = PromQL(vocabulary, OPERATION)
    return Page(
        uid="opero-overview",
        title="Opero / Overview",
        about="Rate, errors and duration of every operation; what was retried, refused, answered by a fallback.",
        rows=[
            Row("At a glance", numbers(p), 4),
            Row("Operations", [operations(p)], 9),
            Row("Circuits", [timeline(p)], 5),
            Row("Rate, errors, duration", red(p)),
            Row("What callers got", outcomes(p), shares=(1, 1)),
            Row("Objectives", objectives(PromQL(vocabulary, PROCESS))),
            Row("What Opero did", deeds(p)),
        ],
        runbook=RUNBOOK,
    )


def numbers(p: PromQL) -> Sequence[Panel]:
    """Return the six numbers at the top."""
    broken = 'opero_circuit_state!="closed"'
    return [
        common.calls_now(p),
        common.success_now(p),
        stat("p99", "99 of 100 calls took less, waits included.", p.quantile(0.99, DURATION), unit="s", none=NO_CALLS),
        common.in_flight_now(p),
        stat(
            "Rejected",
            "Calls and retries Opero refused, in a second.",
            p.rate("opero.rejections"),
            unit="reqps",
            page="opero-limits",
        ),
        stat(
            "Circuits not closed",
            "Circuits that refuse calls, or let a few try.",
            f"count({p.series('opero.circuit.state', broken)} == 1) or vector(0)",
            unit="short",
            steps=bad_above(0.5, 1),
            now=True,
            page="opero-circuit-breakers",
        ),
    ]


def operations(p: PromQL) -> Panel:
    """Return the table of operations, each a link to its page."""
    good: Sequence[Step] = good_above(0.99, 0.999)
    return table(
        "Operations",
        "The last minutes of every operation. A click on a name opens its page.",
        CALL,
        {
            "calls/s": (p.count(DURATION, CALL), "reqps", ()),
            "success": (success(p, CALL), "percentunit", good),
            "p50": (p.quantile(0.5, DURATION, CALL), "s", ()),
            "p95": (p.quantile(0.95, DURATION, CALL), "s", ()),
            "p99": (p.quantile(0.99, DURATION, CALL), "s", ()),
            "attempts per call": (amplification(p, CALL), "short", bad_above(1.5, 2)),
            "rejected/s": (p.rate("opero.rejections", CALL), "reqps", ()),
            "in flight": (p.level("opero.call.active", CALL), "short", ()),
        },
    )


def red(p: PromQL) -> Sequence[Panel]:
    """Return rate, errors and duration by operation."""
    name = f"{{{{{CALL}}}}}"
    return [
        graph("Rate", "Calls that ended.", Query(p.count(DURATION, CALL), name), unit="reqps"),
        graph(
            "Errors",
            "Share of calls without an answer: error, timeout or rejected.",
            Query(failures(p, CALL), name),
            unit="percentunit",
            none=NO_CALLS,
        ),
        graph(
            "Duration, p95",
            "95 of 100 calls took less, waits included.",
            Query(p.quantile(0.95, DURATION, CALL), name),
            unit="s",
            none=NO_CALLS,
        ),
    ]


def outcomes(p: PromQL) -> Sequence[Panel]:
    """Return what calls ended in, and how long they took."""
    return [
        common.outcomes(p),
        heat(
            "Duration",
            "How many calls took how long. Two bands are two kinds of call: hits and misses, or a slow replica.",
            p.rate(DURATION, "le", suffix="_bucket"),
            unit="s",
        ),
    ]


def objectives(p: PromQL) -> Sequence[Panel]:
    """Return what is left of each error budget, and how fast it goes."""
    name, *_ = p.vocabulary.labels("opero.slo.error_budget.remaining")
    window = [label for label in p.vocabulary.labels("opero.slo.burn_rate") if label != name]
    legend = " ".join(f"{{{{{label}}}}}" for label in (name, *window))
    return [
        bars(
            "Error budget left",
            "Share of the failures the objective allows that are still allowed.",
            Query(p.level("opero.slo.error_budget.remaining", name, how="min"), f"{{{{{name}}}}}"),
            unit="percentunit",
            steps=good_above(0.1, 0.3),
            none="no SLO",
        ),
        graph(
            "Burn rate",
            "1 uses the budget up exactly at the period's end; at 14.4 a 30-day budget is gone in two days.",
            Query(p.level("opero.slo.burn_rate", name, *window, how="max"), legend),
            unit="short",
            steps=[(0, "transparent"), (1, "orange"), (14.4, "red")],
            none="no SLO",
        ),
    ]


def deeds(p: PromQL) -> Sequence[Panel]:
    """Return what Opero did."""
    return [
        graph(
            "Attempts per call",
            "Above 1: what retries and hedges add. Below: what was refused, or answered by the cache.",
            Query(amplification(p, CALL), f"{{{{{CALL}}}}}"),
            unit="short",
            none=NO_CALLS,
        ),
        common.rejections(p),
        common.events(p),
    ]
