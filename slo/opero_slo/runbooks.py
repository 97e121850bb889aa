"""A page for whoever is woken: one Markdown template an objective, to be filled in by those who know the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opero_slo import alerts
from opero_slo.durations import shown
from opero_slo.reports import words

if TYPE_CHECKING:
    from opero_slo.alerts import Law
    from opero_slo.model import SLO


def write(slo: SLO) -> str:
    """Return the template for an objective."""
    laws, _ = alerts.laws(slo)
    rows = "\n".join(f"| `{law.name}` | {law.severity} | {_when(law)} | {_means(slo, law)} |" for law in laws)
    operation = f"`{slo.operation}`" if slo.operation else "the service"
    latency = f" within {words.latency(slo.latency)}" if slo.latency else ""
    return TEMPLATE.format(
        title=slo.title or slo.name,
        what=slo.description or f"{words.objective(slo.target)} of {words.unit(slo)} are good{latency}.",
        window=words.window(slo),
        rows=rows,
        operation=operation,
        name=slo.name,
    )


def _when(law: Law) -> str:
    if law.bad_events is not None:
        return f"{law.bad_events} bad events in {shown(law.long)}"
    return f"burn rate above {law.burn:g} over {law.windows}"


def _means(slo: SLO, law: Law) -> str:
    if law.bad_events is not None:
        return "little traffic, and some of it fails"
    return f"at this pace the budget lasts {words.span(slo.window.duration.seconds / law.burn)}"


TEMPLATE = """\
# Runbook: {title}

{what} The window is {window}. `opero slo report` shows where it stands.

| alert | severity | fires on | means |
|---|---|---|---|
{rows}

## First five minutes

1. Is it still going on? `opero slo report SPEC --prometheus URL`: the burn rate of 5 minutes says so.
2. What fails? Look at outcomes and errors of {operation} (`opero_call_duration_seconds_count` by `opero_outcome` and
   `error_type`), and at `opero_rejections_total`: rejected calls are protection at work, not the cause.
3. What changed? Deployments, configuration, traffic, dependencies in the hour before.

## Make it stop

- Roll back what changed.
- A dependency is down: force its breaker open (`f.opero.breaker.force_open()`); callers have the fallback at once.
- Too much traffic: lower `bulkhead.limit` or the rate limit before the queue grows.
- TODO: what is particular to this service.

## Whom to tell

TODO: owner, escalation, where to write.

## Afterwards

The budget is spent when `opero_slo_error_budget_remaining{{slo_name="{name}"}}` is below 0: TODO what your policy says
then (freeze releases, fix first). Write down what this page lacked.
"""
