"""How close the limits are, how long callers wait at them, and whom they turn away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opero_dashboards.page import Page, Row
from opero_dashboards.panels import bad_above, bars, graph
from opero_dashboards.promql import CALL, POLICY, PromQL, Query, share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafanalib.core import Panel

    from opero_dashboards.vocabulary import Vocabulary

RUNBOOK = """
- **A limiter waits long and refuses none**: raise `rate` if the dependency allows it, or shorten the wait with `wait=`.
- **A bulkhead is full and its queue grows**: calls take longer than before, or there are more of them. Compare the
  attempt duration before raising `limit`: a slower dependency is not helped by more calls at once.
- **queue_timeout**: callers waited `max_wait` in vain; a shorter queue tells them sooner.
- One instance of a policy on several functions is one limit for all of them; its name is the first label.
"""


def page(vocabulary: Vocabulary) -> Page:
    """Return the page."""
    p = PromQL(vocabulary)
    return Page(
        uid="opero-limits",
        title="Opero / Rate limits and bulkheads",
        about="How close the limits are, how long callers wait at them, and whom they turn away.",
        rows=[
            Row("Rate limits", _limiters(p)),
            Row("Waiting for a permit", _waits(p, "opero.rate_limiter.wait.duration", "rate_limiter")),
            Row("Bulkheads", _bulkheads(p)),
            Row("Waiting for a slot", _waits(p, "opero.bulkhead.wait.duration", "bulkhead")),
        ],
        runbook=RUNBOOK,
    )


def _limiters(p: PromQL) -> Sequence[Panel]:
    by = f"{{{{{POLICY}}}}}"
    admitted = p.rate("opero.rate_limiter.wait.duration", POLICY, suffix="_count")
    limit = p.level("opero.rate_limiter.limit", POLICY, how="max")
    return [
        graph("Admitted", "Calls the limiter let through.", Query(admitted, by), unit="reqps"),
        graph("Limit", "Calls a second it admits.", Query(limit, by), unit="reqps", look="step"),
        graph(
            "Permits at hand",
            "Calls it would admit at once. 0: the next one waits.",
            Query(p.level("opero.rate_limiter.available", POLICY, how="min"), by),
            unit="short",
        ),
        bars(
            "Limit in use",
            "Calls admitted, as a share of the limit; above 100 % a burst was let through.",
            Query(share(admitted, limit), by),
            unit="percentunit",
            steps=bad_above(0.8, 1),
            none="none",
        ),
    ]


def _bulkheads(p: PromQL) -> Sequence[Panel]:
    by = f"{{{{{POLICY}}}}}"
    used, limit = (p.level(f"opero.bulkhead.{name}", POLICY, how="max") for name in ("usage", "limit"))
    return [
        graph("Slots in use", "Calls inside.", Query(used, by), unit="short"),
        graph("Slots there are", "Calls that may be inside at once.", Query(limit, by), unit="short", look="step"),
        graph(
            "Queue",
            "Calls that wait for a slot.",
            Query(p.level("opero.bulkhead.queue.length", POLICY, how="max"), by),
            unit="short",
        ),
        bars(
            "Full",
            "Slots in use, as a share of all.",
            Query(share(used, limit), by),
            unit="percentunit",
            steps=bad_above(0.8, 1),
            none="none",
        ),
    ]


def _waits(p: PromQL, waited: str, kind: str) -> Sequence[Panel]:
    return [
        graph(
            "Wait, all",
            "How long callers waited; up to 1 ms is no wait at all.",
            *p.quantiles(waited),
            unit="s",
            none="no calls",
        ),
        graph(
            "Mean wait, each",
            "By policy.",
            Query(p.mean(waited, POLICY), f"{{{{{POLICY}}}}}"),
            unit="s",
            none="no calls",
        ),
        graph(
            "Turned away",
            "Calls it refused, by operation and reason.",
            Query(
                p.rate("opero.rejections", CALL, "opero_rejection_reason", where=f'opero_policy_kind="{kind}"'),
                f"{{{{{CALL}}}}} {{{{opero_rejection_reason}}}}",
            ),
            unit="reqps",
            look="stack",
        ),
    ]
