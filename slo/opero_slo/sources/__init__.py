"""Where the counts come from: this process, a Prometheus server, or a file of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from opero_slo.model import SLO
    from opero_slo.series import Counts, Series


class Source(Protocol):
    """Answers what happened between two moments, in Unix seconds."""

    @property
    def name(self) -> str:
        """What a report says the numbers are from."""
        ...

    def series(self, slo: SLO, start: float, end: float) -> Series:
        """Return the counts that an objective judges, from before `start` to `end`."""
        ...

    def operations(self, slo: SLO, start: float, end: float) -> dict[str, Counts]:
        """Return the counts by operation; empty where the source cannot tell."""
        ...

    def latencies(self, slo: SLO, start: float, end: float) -> list[tuple[float, float]]:
        """Return (upper bound in seconds, calls) of the durations; empty where the source cannot tell."""
        ...
