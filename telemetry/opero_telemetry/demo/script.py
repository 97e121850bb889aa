"""What the service does to its callers, phase by phase. A share is of the whole run; the outage is 10 of 45 seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phase:
    """`errors`, `busy` and `slow` are shares of the requests; in an outage connections are dropped unanswered."""

    name: str
    share: float
    errors: float = 0.0
    busy: float = 0.0
    slow: float = 0.0
    outage: bool = False


SCRIPT = (
    Phase("healthy", 6 / 45),
    Phase("latency spikes", 7 / 45, slow=0.15),
    Phase("random 500s", 7 / 45, errors=0.25),
    Phase("429, Retry-After", 6 / 45, busy=0.3),
    Phase("outage", 10 / 45, outage=True),
    Phase("recovered", 9 / 45, errors=0.01),
)
LATENCY = (0.004, 0.02)  # seconds, of an answer in time
SPIKE = (0.6, 1.2)
RETRY_AFTER = 1  # seconds; the header knows whole ones only


def phase_at(elapsed: float, seconds: float) -> Phase:
    """Return the phase after `elapsed` of `seconds`; the last one goes on."""
    for phase in SCRIPT:
        elapsed -= phase.share * seconds
        if elapsed < 0:
            return phase
    return SCRIPT[-1]
