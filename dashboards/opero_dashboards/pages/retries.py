"""Whether retries help, what they cost, and who pays: attempts, waits, budgets, hedges, timeouts, fallbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opero_dashboards import common
from opero_dashboards.common import NO_CALLS, amplification
from opero_dashboards.page import Page, Row
from opero_dashboards.panels import bad_above, bars, good_above, graph, heat, stat
from opero_dashboards.promql import CALL, POLICY, PromQL, Query, share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafanalib.core import Panel

    from opero_dashboards.vocabulary import Vocabulary

EVENT = "opero_event_name"
RUNBOOK = """
- **Attempts per call rises and few retries succeed**: retrying makes it worse. Set `retry_budget="adaptive"`, or lower
  `retries`; a circuit breaker ends it at once.
- **Budget in use near 100 %**: retries are being suppressed, as they should be in an outage. In good times it means the
  budget is too small: raise `RetryBudget(ratio=...)`.
- **Exhausted**: the caller got the error after all attempts. `opero.attempts(error)` tells its history.
- **Abandoned threads**: a blocking function that timed out still runs. Give it a timeout of its own.
- **Hedges won near 0**: they only add load; raise `hedge`. Near all: the first attempt is slow, look there.
"""


def page(vocabulary: Vocabulary) -> Page:
    """Return the page."""
    p = PromQL(vocabulary)
    return Page(
        uid="opero-retries",
        title="Opero / Retries and budgets",
        about="Whether retries help, what they cost, and who pays.",
        rows=[
            Row("At a glance", _numbers(p), 4),
            Row("Retries", _retries(p)),
            Row("Waits and budgets", _waits(p)),
            Row("Hedges, timeouts, fallbacks", _others(p)),
        ],
        runbook=RUNBOOK,
    )


def _numbers(p: PromQL) -> Sequence[Panel]:
    succeeded, exhausted = p.events("opero.retry.succeeded"), p.events("opero.retry.succeeded", "opero.retry.exhausted")
    return [
        common.amplification_now(p),
        stat("Retries", "Attempts after the first one, in a second.", p.events("opero.retry.scheduled"), unit="ops"),
        stat(
            "Retried with success",
            "Of the calls that needed a retry, the share that got its answer from one.",
            share(succeeded, exhausted),
            unit="percentunit",
            steps=good_above(0.25, 0.5),
            none="no retries",
        ),
        stat("Timeouts", "Deadlines that passed, in a second.", p.events("opero.timeout.expired"), unit="ops"),
        stat("Fallbacks", "Answers a fallback gave, in a second.", p.events("opero.fallback.used"), unit="ops"),
        stat(
            "Abandoned threads",
            "Threads that still run after their caller's timeout.",
            p.level("opero.timeout.abandoned"),
            unit="short",
            steps=bad_above(1, 20),
            now=True,
        ),
    ]


def _retries(p: PromQL) -> Sequence[Panel]:
    return [
        graph(
            "Attempts per call",
            "By operation. At 2 the dependency gets twice the load.",
            Query(amplification(p, CALL), f"{{{{{CALL}}}}}"),
            unit="short",
            steps=[(0, "transparent"), (2, "red")],
            none=NO_CALLS,
        ),
        graph(
            "Retry events",
            "Scheduled: an attempt follows. Succeeded: it helped. Exhausted: the caller got the error.",
            Query(p.events("opero.retry.*", by=EVENT), f"{{{{{EVENT}}}}}"),
            unit="ops",
        ),
        common.attempts(p),
    ]


def _waits(p: PromQL) -> Sequence[Panel]:
    return [
        heat(
            "Delay before retries",
            "How long retries waited. Bands mean too little jitter: callers come back together.",
            p.rate("opero.retry.delay", "le", suffix="_bucket"),
            unit="s",
        ),
        bars(
            "Budget in use",
            "Share of the retry budget that is spent. At 100 % retries are suppressed.",
            Query(p.level("opero.retry.budget.utilization", POLICY, how="max"), f"{{{{{POLICY}}}}}"),
            unit="percentunit",
            steps=bad_above(0.8, 1),
            none="no budget",
        ),
        graph(
            "Suppressed retries",
            "Retries that would have come too late, or that the budget did not pay.",
            Query(
                p.rate("opero.rejections", "opero_rejection_reason", where='opero_policy_kind="retry"'),
                "{{opero_rejection_reason}}",
            ),
            unit="ops",
            look="bars",
        ),
    ]


def _others(p: PromQL) -> Sequence[Panel]:
    result, *_ = p.vocabulary.labels("opero.hedge.requests")
    return [
        graph(
            "Hedges",
            "Won: the second attempt answered first. Lost and cancelled ones were load for nothing.",
            Query(p.rate("opero.hedge.requests", result), f"{{{{{result}}}}}"),
            unit="ops",
            look="stack",
            none="no hedges",
        ),
        graph(
            "Timeouts",
            "Deadlines that passed, by operation.",
            Query(p.rate("opero.events", CALL, where=f'{EVENT}="opero.timeout.expired"'), f"{{{{{CALL}}}}}"),
            unit="ops",
            look="bars",
        ),
        graph(
            "Fallbacks and alternatives",
            "Answers that a fallback or another alternative gave, by operation.",
            Query(
                p.rate("opero.events", CALL, where=f'{EVENT}=~"opero\\\\.(fallback|arg_fallback)\\\\..*"'),
                f"{{{{{CALL}}}}}",
            ),
            unit="ops",
            look="bars",
        ),
    ]
