"""Objectives judged while the process runs: counts to the history, alerts to the event bus, states to the metrics."""

from __future__ import annotations

import re
import sqlite3
from math import floor
from threading import Event as Flag
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from opero import catalogue, clock, events, forks, objectives
from opero.catalogue import Family
from opero.signals import EVENTS
from opero_slo import history, signals, sla
from opero_slo.actions import Actions, Alert
from opero_slo.alerts import Watch, burn_rate
from opero_slo.durations import Duration, parse, shown
from opero_slo.evaluator import derive, evaluate
from opero_slo.model import COUNTED_CALLS, SLO, Ratio, Selection, Specification, Window
from opero_slo.series import Counts, Series
from opero_slo.sources.process import Snapshot, counts, operations

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opero.signals import Event
    from opero_slo.actions import Record, Rule
    from opero_slo.alerts import Firing, Reading
    from opero_slo.evaluator import Status
    from opero_slo.history import History
    from opero_slo.model import SLA

REREAD = 3  # intervals in which another process may still add to the history
FOLD_EVERY = 3600.0
BURNING = 60.0  # seconds over which controllers are told how fast the budget is spent


class Monitor:
    """Judges the objectives of a specification and of every `slo=` in this process, every `interval` seconds.

    It never raises into anybody's call. What goes wrong stands in `problems`; counts that could not be written are
    kept and written later.
    """

    name = "this process"

    def __init__(
        self,
        specification: Specification = Specification(),  # noqa: B008 - frozen
        *,
        base: History | None = None,
        interval: float = 10.0,
        rules: Iterable[Rule] = (),
    ) -> None:
        self.history = base or history.History()
        self.interval = interval
        self.actions = Actions(rules, self._acted)
        self.slas: tuple[SLA, ...] = specification.slas
        self.problems: list[str] = []
        self.tracks: dict[str, Track] = {}
        self.said: dict[tuple[str, str], int] = {}
        self._broken: dict[str, tuple[str, float]] = {}  # contract → month and tier that were told
        self._lock = Lock()
        self._folded = clock.wall()
        self._stop = Flag()
        self._thread: Thread | None = None
        for slo in specification.slos:
            self._follow(slo)
            if slo.latency is not None:
                objectives.expect(slo.operation, slo.latency)
        self._take_out = catalogue.contribute(self.families)
        forks.remember(self)

    def after_fork(self) -> None:
        """Begin anew: the parent goes on with its counts. The workers of a map do not judge; their numbers travel."""
        judging = self._thread is not None and not forks.worker
        self._lock, self._stop, self._thread = Lock(), Flag(), None
        self.actions = Actions(self.actions.rules, self._acted)
        self.history = self.history.reopened()
        self.tracks = {name: Track(track.slo) for name, track in self.tracks.items()}
        if judging:
            self._thread = Thread(target=self._run, name="opero-slo", daemon=True)
            self._thread.start()

    def start(self) -> Monitor:
        """Look every `interval`, in a thread of its own."""
        self.look()
        self._thread = Thread(target=self._run, name="opero-slo", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Look a last time, and end; may be called twice."""
        self._take_out()
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is None:
            return
        thread.join(10)
        self.look()
        self.actions.stop()
        self.history.close()

    def look(self) -> list[Status]:
        """Count, judge and say what changed; return every objective as it stands."""
        with self._lock:
            return self._look_locked()

    def statuses(self) -> list[Status]:
        """Return every objective as it was at the last look."""
        return [track.status for track in list(self.tracks.values()) if track.status is not None]

    @property
    def slos(self) -> tuple[SLO, ...]:
        """What is judged."""
        return tuple(track.slo for track in list(self.tracks.values()))

    def series(self, slo: SLO, start: float, end: float) -> Series:
        return self.tracks[slo.name].judged

    def operations(self, slo: SLO, start: float, end: float) -> dict[str, Counts]:
        return operations(slo, Snapshot())

    def latencies(self, slo: SLO, start: float, end: float) -> list[tuple[float, float]]:
        return Snapshot().latencies(slo) if isinstance(slo.indicator, Ratio) else []

    def families(self) -> list[Family]:
        """Return the series of all objectives."""
        made = {metric.name: Family(metric) for metric in signals.SIGNALS.metrics}
        said = Family(EVENTS)
        for track in list(self.tracks.values()):
            track.measure(made)
            self._measure_contracts(track, made)
            for event in signals.SIGNALS.events:
                key = (track.slo.operation, event.name)
                said.samples[track.slo.operation, event.name, "slo"] = self.said.get(key, 0)
        return [*made.values(), said]

    def _measure_contracts(self, track: Track, made: dict[str, Family]) -> None:
        for contract in self.slas:
            if contract.slo.name == track.slo.name and track.judged.end is not None:
                labels = (track.slo.operation, track.slo.name, contract.name)
                made[signals.PROMISED.name].samples[labels] = contract.tiers[0].below
                month = sla.running(contract, track.judged, track.judged.end)
                if month is not None and month.sli is not None:
                    made[signals.KEPT.name].samples[labels] = month.sli

    def _run(self) -> None:
        while not self._stop.is_set():
            now = clock.wall()
            if clock.wait(self._stop, (floor(now / self.interval) + 1) * self.interval - now):
                return
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - the next look may go well; until then it is said
                self._trouble(f"a look failed: {type(error).__name__}: {error}")

    def _look_locked(self) -> list[Status]:
        snapshot, now = Snapshot(), clock.wall()
        at = floor(now / self.interval) * self.interval
        for slo in _decorated():
            self._follow(slo)
        followed = list(self.tracks.values())
        for track in followed:
            track.take(*counts(track.slo, snapshot))
        self._write(followed, at)
        for track in followed:
            self._judge(track, at)
            for name in snapshot.rounded(track.slo):
                self._trouble(
                    f"{track.slo.name}: {name} has no bound at {track.slo.latency:g} s; start before decorating"
                )
        return self.statuses()

    def _follow(self, slo: SLO) -> None:
        if slo.name not in self.tracks:
            if not isinstance(slo.indicator, Ratio):
                selections = [slo.indicator.metric]
            else:
                selections = [slo.indicator.part, slo.indicator.total]
            if all(isinstance(each, Selection) for each in selections):
                self.tracks[slo.name] = Track(slo)
            else:
                self._trouble(f"{slo.name} is not on Opero's own data: opero slo report judges it")

    def _write(self, tracks: list[Track], at: float) -> None:
        try:
            for track in tracks:
                if not len(track.counted):
                    track.begin(self.history, at - self.interval)
            self.history.add(at, [track.pending() for track in tracks if track.waits])
            for track in tracks:
                track.written()
                self.history.extend(track.counted, track.key, at - REREAD * self.interval)
            if at - self._folded > FOLD_EVERY:
                self._folded = at
                self.history.fold(at)
                for track in tracks:
                    self.history.extend(track.counted, track.key, float("-inf"))
        except sqlite3.Error as error:
            self._trouble(f"the history at {self.history.path} cannot be written: {error}")

    def _judge(self, track: Track, at: float) -> None:
        track.counted.hold(at)
        track.judged = derive(track.slo, track.counted)
        now = track.judged.end or at
        before = track.status
        track.status = status = evaluate(track.slo, track.judged, now)
        track.watch.laws = status.laws
        for fired, firing, reading in track.watch.look(track.judged, now):
            self._changed(track.slo, firing, reading, fired=fired)
        burn = burn_rate(track.judged.between(now - BURNING, now), track.slo.budget)
        if burn is not None:
            objectives.judged(track.slo.operation, track.slo.name, burn, clock.now() + REREAD * self.interval)
        spent = status.remaining is not None and status.remaining < 0
        was_spent = before is not None and before.remaining is not None and before.remaining < 0
        if spent and not was_spent:
            fields = {"sli": status.sli, "objective": track.slo.target}
            self._say(signals.EXHAUSTED, track.slo, "budget", fields, now)
        for contract in self.slas:
            if contract.slo.name == track.slo.name:
                self._hold(contract, track, now)

    def _hold(self, contract: SLA, track: Track, now: float) -> None:
        """Say that a month fell below a tier, once for each."""
        month = sla.running(contract, track.judged, now)
        if month is None or month.tier is None:
            return
        told = (month.name, month.tier.below)
        known = self._broken.get(contract.name)
        if known is not None and known[0] == told[0] and known[1] <= told[1]:
            return
        self._broken[contract.name] = told
        fields = {"contract": contract.name, "month": month.name, "sli": month.sli}
        fields |= {"below": month.tier.below, "credit": month.tier.credit}
        self._say(signals.BROKEN, track.slo, contract.name, fields, now)

    def _changed(self, slo: SLO, firing: Firing, reading: Reading, *, fired: bool) -> None:
        law, now = firing.law, firing.end or firing.start
        fields: dict[str, Any] = {"alert": law.name, "severity": law.severity, "targets": law.targets}
        if fired:
            fields |= {"burn_rate": round(firing.burn, 3), "windows": law.windows}
        else:
            fields["seconds"] = now - firing.start
        try:
            self.history.keep(slo.name, firing)
        except sqlite3.Error as error:
            self._trouble(f"an alert could not be kept: {error}")
        if fired or law.when_resolved:
            self._say(signals.FIRED if fired else signals.RESOLVED, slo, law.name, fields, now)

    def _say(self, event: Event, slo: SLO, alert: str, fields: dict[str, Any], now: float) -> None:
        self.said[slo.operation, event.name] = self.said.get((slo.operation, event.name), 0) + 1
        events.say(event, slo.operation, {"slo": slo.name, "runbook": slo.runbook, **fields})
        self.actions.hear(
            Alert(
                event.name,
                slo.name,
                alert,
                fields.get("severity", "page"),
                now,
                fields.get("burn_rate", 0.0),
                slo.operation,
                slo.runbook,
                tuple(fields.get("targets", ())),
            )
        )

    def _acted(self, record: Record) -> None:
        key = (record.alert.operation, signals.ACTED.name)
        self.said[key] = self.said.get(key, 0) + 1
        fields = {"slo": record.alert.slo, "action": record.action, "outcome": record.outcome}
        events.say(signals.ACTED, record.alert.operation, fields)

    def _trouble(self, text: str) -> None:
        if text not in self.problems:
            self.problems = [*self.problems[-99:], text]


class Track:
    """One objective and its counts: `counted` as selected, `judged` as it counts them."""

    def __init__(self, slo: SLO) -> None:
        self.slo = slo
        self.key = history.key(slo)
        self.counted = Series()
        self.judged = Series()
        self.status: Status | None = None
        self.watch = Watch((), slo.budget)
        self.seen = (0.0, 0.0)  # what the process has counted so far
        self._waiting = (0.0, 0.0)

    @property
    def waits(self) -> bool:
        """Whether there is something to write."""
        return any(self._waiting)

    def take(self, part: float, total: float) -> None:
        """Take what the process has counted until now."""
        before, self.seen = self.seen, (part, total)
        self._waiting = (self._waiting[0] + max(part - before[0], 0), self._waiting[1] + max(total - before[1], 0))

    def pending(self) -> tuple[str, float, float]:
        """Return what is to be written."""
        return (self.key, *self._waiting)

    def written(self) -> None:
        """It was."""
        self._waiting = (0.0, 0.0)

    def begin(self, base: History, at: float) -> None:
        """Go on with what the history holds, or begin there at zero."""
        base.extend(self.counted, self.key, float("-inf"))
        if not len(self.counted):
            base.add(at, [(self.key, 0.0, 0.0)])
            base.extend(self.counted, self.key, float("-inf"))

    def measure(self, families: dict[str, Family]) -> None:
        """Write its series into the families."""
        labels = (self.slo.operation, self.slo.name)
        part, total = self.seen
        inverted = isinstance(self.slo.indicator, Ratio) and self.slo.indicator.inverted
        good = total - part if inverted else part
        families[signals.EVENTS.name].samples |= {(*labels, "good"): good, (*labels, "bad"): total - good}
        families[signals.OBJECTIVE.name].samples[labels] = self.slo.target
        if self.status is None:
            return
        if self.status.sli is not None and self.status.remaining is not None:
            families[signals.SLI.name].samples[labels] = self.status.sli
            families[signals.REMAINING.name].samples[labels] = self.status.remaining
        for seconds, rate in self.status.burn_rates.items():
            if rate is not None:
                families[signals.BURN_RATE.name].samples[*labels, shown(seconds)] = rate


def objective_of(operation: str, given: objectives.SLO, number: int = 0) -> SLO:
    """Turn `slo=` of a decorated function into an objective."""
    plain = re.sub(r"[^a-z0-9]+", "-", operation.lower()).strip("-") or "operation"
    name = given.name or f"{plain}{f'-{number}' if number else ''}"
    good = Selection(operation, "calls", given.good, given.latency)
    window = Window(parse(given.window) or Duration(30, "d"))
    total = Selection(operation, "calls", COUNTED_CALLS)
    title = f"{operation} answers" + (f" within {shown(given.latency)}" if given.latency else "")
    return SLO(name, Ratio(good, total), given.objective, window, title=title)


def _decorated() -> list[SLO]:
    found: dict[str, SLO] = {}
    for operation in catalogue.operations():
        for number, given in enumerate(operation.slos):
            slo = objective_of(operation.name, given, number + 1 if len(operation.slos) > 1 else 0)
            found.setdefault(slo.name, slo)
    return list(found.values())


__all__ = ["Monitor", "Track", "objective_of"]
