"""Panels about calls and attempts that several pages show, and the expressions they stand on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opero_dashboards.panels import bad_above, good_above, graph, stat
from opero_dashboards.promql import BAD, COUNTED, OUTCOME, Query, share

if TYPE_CHECKING:
    from grafanalib.core import Panel

    from opero_dashboards.promql import PromQL

DURATION, ATTEMPT = "opero.call.duration", "opero.attempt.duration"
NO_CALLS = "no calls"


def success(p: PromQL, *by: str) -> str:
    """Return the share of calls that got an answer, be it a fallback's; cancelled ones do not count."""
    return f"1 - {failures(p, *by)}"


def failures(p: PromQL, *by: str) -> str:
    """Return the share of calls that got none."""
    return share(p.count(DURATION, *by, where=BAD), p.count(DURATION, *by, where=COUNTED))


def amplification(p: PromQL, *by: str) -> str:
    """Return the attempts a call took."""
    return share(p.count(ATTEMPT, *by), p.count(DURATION, *by))


def calls_now(p: PromQL) -> Panel:
    """Return the rate as a number."""
    return stat("Calls", "Calls that ended, in a second.", p.count(DURATION), unit="reqps")


def success_now(p: PromQL) -> Panel:
    """Return the share of answered calls as a number."""
    return stat(
        "Success",
        "Share of calls that got an answer; fallbacks and cached ones are answers, cancelled calls do not count.",
        success(p),
        unit="percentunit",
        steps=good_above(0.99, 0.999),
        none=NO_CALLS,
    )


def in_flight_now(p: PromQL) -> Panel:
    """Return the calls in flight as a number."""
    return stat("In flight", "Calls that began and have not ended.", p.level("opero.call.active"), unit="short")


def amplification_now(p: PromQL) -> Panel:
    """Return the attempts per call as a number."""
    return stat(
        "Attempts per call",
        "Above 1: what retries and hedges add. Below: what was refused, or answered by the cache.",
        amplification(p),
        unit="short",
        steps=bad_above(1.5, 2),
        none=NO_CALLS,
    )


def outcomes(p: PromQL) -> Panel:
    """Return how calls ended."""
    ended = Query(p.count(DURATION, OUTCOME), f"{{{{{OUTCOME}}}}}")
    return graph("Outcomes", "How calls ended.", ended, unit="reqps", look="stack")


def attempts(p: PromQL) -> Panel:
    """Return how attempts ended."""
    return graph(
        "Attempts",
        "How attempts ended; a retryable one failed and another followed.",
        Query(p.count(ATTEMPT, "opero_attempt_outcome"), "{{opero_attempt_outcome}}"),
        unit="ops",
        look="stack",
    )


def rejections(p: PromQL) -> Panel:
    """Return what was refused."""
    return graph(
        "Rejections",
        "What was refused, and why.",
        Query(
            p.rate("opero.rejections", "opero_policy_kind", "opero_rejection_reason"),
            "{{opero_policy_kind}}: {{opero_rejection_reason}}",
        ),
        unit="reqps",
        look="bars",
    )


def events(p: PromQL) -> Panel:
    """Return what the layers said."""
    where = 'opero_event_name!~"opero\\\\.(call|attempt)\\\\..*"'
    said = Query(p.rate("opero.events", "opero_event_name", where=where), "{{opero_event_name}}")
    return graph("Events", "What Opero said, calls and attempts left out.", said, unit="ops")
