"""A report as JSON: times in Unix seconds, shares from 0 to 1, null where there were too few events."""

from __future__ import annotations

import json
from math import inf
from typing import TYPE_CHECKING, Any

from opero_slo.durations import shown

if TYPE_CHECKING:
    from opero_slo.alerts import Firing, Reading
    from opero_slo.reports.data import Contract, Objective, Report, Stretch
    from opero_slo.series import Counts


def render(report: Report) -> str:
    """Write it."""
    return json.dumps(as_dict(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_dict(report: Report) -> dict[str, Any]:
    """Return it as plain values."""
    return {
        "at": report.at,
        "source": report.source,
        "missed": report.missed,
        "objectives": [_objective(each) for each in report.objectives],
        "contracts": [_contract(each) for each in report.contracts],
        "problems": list(report.problems),
    }


def _objective(objective: Objective) -> dict[str, Any]:
    status = objective.status
    slo = status.slo
    return {
        "name": slo.name,
        "title": slo.title,
        "service": slo.service,
        "operation": slo.operation,
        "state": status.state,
        "target": slo.target,
        "window": str(slo.window.duration),
        "rolling": slo.window.rolling,
        "period": {"start": status.period.start, "end": status.period.end},
        "measured": list(objective.measured) if objective.measured else None,
        **_counts(status.counts),
        "sli": status.sli,
        "events_needed": status.needed,
        "error_budget": {"allowed": status.allowed, "remaining": status.remaining, "exhausted_in": status.exhausted_in},
        "burn_rate": status.burn,
        "burn_rates": {shown(seconds): rate for seconds, rate in status.burn_rates.items()},
        "alerts": [_reading(each) for each in status.readings],
        "alerts_refused": [{"name": each.name, "reason": each.reason} for each in status.refused],
        "alerts_fired": [_firing(each) for each in objective.firings],
        "days": [_stretch(each) for each in objective.days],
        "months": [_stretch(each) for each in objective.months],
        "operations": [{"operation": name, **_counts(counts)} for name, counts in objective.operations],
        "latency_threshold": slo.latency,
        "latencies": [{"le": None if le == inf else le, "calls": calls} for le, calls in objective.latencies],
    }


def _counts(counts: Counts) -> dict[str, float]:
    return {"good": counts.good, "bad": counts.bad, "total": counts.total}


def _stretch(stretch: Stretch) -> dict[str, Any]:
    return {"name": stretch.name, **_counts(stretch.counts), "sli": stretch.counts.ratio, "met": stretch.met}


def _reading(reading: Reading) -> dict[str, Any]:
    law = reading.law
    made = {"name": law.name, "severity": law.severity, "threshold": law.burn, "windows": law.windows}
    rates = {"long": reading.long, "short": reading.short, "events": reading.events, "bad": reading.bad}
    return {**made, **rates, "events_needed": law.events, "firing": reading.breached, "reason": reading.reason}


def _firing(firing: Firing) -> dict[str, Any]:
    law = firing.law
    return {
        "name": law.name,
        "severity": law.severity,
        "start": firing.start,
        "end": firing.end,
        "burn_rate": firing.burn,
    }


def _contract(contract: Contract) -> dict[str, Any]:
    sla = contract.sla
    months = [
        {
            "month": month.name,
            **_counts(month.counts),
            "sli": month.sli,
            "below": month.tier.below if month.tier else None,
            "credit": month.credit,
            "amount": None if sla.fee is None else round(sla.fee * month.credit, 2),
            "complete": month.complete,
            "covered": month.covered,
        }
        for month in contract.months
    ]
    return {"name": sla.name, "customer": sla.customer, "slo": sla.slo.name, "currency": sla.currency, "months": months}
