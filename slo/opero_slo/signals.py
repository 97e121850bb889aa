"""What objectives say: events when an alert begins and ends, and the series behind the panels."""

from __future__ import annotations

from opero.signals import Event, Metric, Signals

NAME, RESULT, WINDOW, CONTRACT = "slo.name", "opero.slo.result", "slo.window", "sla.name"

FIRED = Event(
    "opero.slo.alert_fired",
    "error",
    "The error budget is being spent too fast.",
    ("slo", "alert", "severity", "burn_rate", "windows", "targets", "runbook"),
)
RESOLVED = Event(
    "opero.slo.alert_resolved",
    "info",
    "It no longer is.",
    ("slo", "alert", "severity", "seconds", "targets", "runbook"),
)
EXHAUSTED = Event(
    "opero.slo.budget_exhausted",
    "error",
    "More events were bad than the objective allows in its period.",
    ("slo", "sli", "objective", "runbook"),
)
BROKEN = Event(
    "opero.slo.contract_broken",
    "error",
    "The running month of a contract fell below a tier.",
    ("slo", "contract", "month", "sli", "below", "credit", "runbook"),
)
ACTED = Event("opero.slo.acted", "warning", "An action ran on an alert, or would have.", ("slo", "action", "outcome"))

EVENTS = Metric(
    "opero.slo.events", "counter", "{event}", "Events an objective judged, by verdict.", attributes=(NAME, RESULT)
)
OBJECTIVE = Metric("opero.slo.objective", "gauge", "1", "The share of events that must be good.", attributes=(NAME,))
SLI = Metric("opero.slo.sli", "gauge", "1", "The share that was good in the period.", attributes=(NAME,))
REMAINING = Metric(
    "opero.slo.error_budget.remaining",
    "gauge",
    "1",
    "The share of the error budget that is left; below 0 when overspent.",
    attributes=(NAME,),
)
BURN_RATE = Metric(
    "opero.slo.burn_rate",
    "gauge",
    "1",
    "How many times faster than allowed the budget is spent.",
    attributes=(NAME, WINDOW),
)
PROMISED = Metric(
    "opero.slo.contract.objective", "gauge", "1", "The first tier of a contract.", attributes=(NAME, CONTRACT)
)
KEPT = Metric(
    "opero.slo.contract.sli",
    "gauge",
    "1",
    "The share that was good in the running month of a contract.",
    attributes=(NAME, CONTRACT),
)
SIGNALS = Signals(
    "slo",
    (FIRED, RESOLVED, EXHAUSTED, BROKEN, ACTED),
    (EVENTS, OBJECTIVE, SLI, REMAINING, BURN_RATE, PROMISED, KEPT),
)
