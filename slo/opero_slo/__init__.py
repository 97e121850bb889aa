"""Objectives judged on what Opero counted: error budgets, burn rates, alerts, reports.

import opero_slo
handle = opero_slo.start("slo.yaml", history="/var/lib/shop/slo.db")
"""

from __future__ import annotations

import warnings
from threading import Lock
from typing import TYPE_CHECKING

from opero.policy import number
from opero_slo.actions import Alert, ClearCache, ForceBreaker, Log, Record, Rule, TurnKnob, Webhook
from opero_slo.reader import SpecificationError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from opero_slo.evaluator import Status
    from opero_slo.monitor import Monitor
    from opero_slo.reports.data import Report

__all__ = [
    "Alert",
    "ClearCache",
    "ForceBreaker",
    "Log",
    "Objectives",
    "Record",
    "Rule",
    "SpecificationError",
    "TurnKnob",
    "Webhook",
    "start",
]

_lock = Lock()
_running: Objectives | None = None


class Objectives:
    """What `start` started."""

    def __init__(self, monitor: Monitor, given: object = None) -> None:
        self.given = given
        self._monitor = monitor

    def statuses(self) -> list[Status]:
        """Look now, and return how every objective stands."""
        return self._monitor.look()

    def report(self, *names: str) -> Report:
        """Look now, and return what a report says of these objectives, by default of all.

        `opero_slo.reports.render(report, "html")` writes it.
        """
        from opero_slo.reports import build

        monitor = self._monitor
        judged = [(status, monitor.tracks[status.slo.name].judged) for status in monitor.look()]
        judged = [each for each in judged if not names or each[0].slo.name in names]
        contracts = [
            (sla, monitor.tracks[sla.slo.name].judged) for sla in monitor.slas if sla.slo.name in monitor.tracks
        ]
        at = max((status.period.now for status, _ in judged), default=0.0) or _now()
        return build(judged, monitor, at, contracts, monitor.problems)

    @property
    def audit(self) -> tuple[Record, ...]:
        """What actions did on alerts, the last thousand."""
        return tuple(self._monitor.actions.audit)

    @property
    def problems(self) -> tuple[str, ...]:
        """What went wrong since the start, like a history on a full disk."""
        return tuple(self._monitor.problems)

    def stop(self) -> None:
        """Count a last time and end; may be called twice."""
        global _running
        with _lock:
            self._monitor.stop()
            if _running is self:
                _running = None


def start(
    *specifications: str | Path,
    history: str | Path | None = None,
    interval: float = 10.0,
    rules: Iterable[Rule] = (),
) -> Objectives:
    """Judge the objectives of these files, and of every `slo=` in this process, every `interval` seconds.

    `history` is an SQLite file in which counts survive a restart; without it they live as long as the process. `rules`
    say what is done on alerts. Start before decorating, so that histograms have the thresholds as bounds. A second call
    returns what already runs, and warns if it asked for something else. Raises `SpecificationError` with everything
    that is wrong in the files.
    """
    global _running
    seconds = number("interval", interval, low=0.1, high=300)
    given = (specifications, history, seconds, tuple(rules))
    with _lock:
        if _running is None:
            from opero_slo import openslo
            from opero_slo.history import open_at
            from opero_slo.model import Specification
            from opero_slo.monitor import Monitor

            specification = openslo.load(specifications) if specifications else Specification()
            base = open_at(history if history is not None else ":memory:")
            _running = Objectives(Monitor(specification, base=base, interval=seconds, rules=given[-1]).start(), given)
        elif given not in (_running.given, ((), None, 10.0, ())):
            text = "opero_slo.start: it runs already, with what it was started with; stop() that handle first"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return _running


def _now() -> float:
    from opero import clock

    return clock.wall()
