"""How many workers a map has: as many as still bring something.

Throughput elasticity is by how many percent throughput changes when workers change by one percent: 1 while workers are
what is short, 0 where more of them only wait, below 0 where they are in each other's way.

1. A size is measured for a second and ten completions a worker, 100 at most, from when two items' time has passed
   since the last move. A trial goes on until it is clear on which side of its threshold it is, for 5 s or 600
   completions at most.
2. Search upwards: twice as many, and as long as elasticity is above .3, twice as many again. Where it is not, back, and
   on with a smaller stride: half as many more, a quarter more.
3. Then downwards the same way: fewer, for as long as that costs an elasticity below .05.
4. Then rest for 2 windows, 4, and from then on 6; after each rest one trial, twice up and once down. Throughput that
   leaves its range ends a rest at once: upwards if it rose, downwards if it fell.
5. A size with more than 2 % of errors is not kept. Where the best has them, .7 of it is tried; if that cures nothing
   they are the items' own, and are borne.

Source: hill climbing on throughput as in .NET's thread pool (Hellerstein et al., "Optimizing Concurrency Levels in the
.NET ThreadPool", 2008); there the probe is a wave and never rests, and here trials at the best size cost little.
"""

from __future__ import annotations

from math import log, sqrt
from typing import NamedTuple

from opero.control.law import Wish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PARAMETER = "map.workers"
PAYS, FREE = 0.3, 0.05  # elasticity from which more workers pay; below which fewer cost nothing
STRIDES = (2.0, 1.5, 1.25)
RESTS = (2, 4, 6)  # windows
DOWN_EACH = 3  # of so many trials one is downwards: it costs three times what one upwards does
CHANGED = 0.15  # by which throughput leaves its range, and noise besides
SECONDS, COMPLETIONS, EACH = 1.0, 100.0, 10.0
LONGEST, MOST = 5.0, 600.0  # seconds and completions of a trial
NOISE = 0.7  # standard deviation of an item's time, as a share of it
TOO_MANY_ERRORS, SHRINK = 0.02, 0.7
UP, DOWN, REST, ERRORS = "up", "down", "rest", "errors"
OTHER = {UP: DOWN, DOWN: UP}
THRESHOLDS = {UP: PAYS, DOWN: FREE}


class Snapshot(NamedTuple):
    """What came back since the last one: items, how many of them failed, and the seconds workers spent on them.

    `fresh` is 1 in the first snapshot of a run: what lies before it was no work.
    """

    now: float
    workers: float
    completed: float
    failed: float = 0.0
    busy: float = 0.0
    fresh: float = 0.0


class PoolSizeLaw:
    """Climbs to where more workers bring nothing."""

    name = "pool_size"

    def __init__(self) -> None:
        self._window = _Window(0.0)
        self._aim = 0  # the size that is measured
        self._best: _Measured | None = None
        self._way = UP
        self._first_way = UP
        self._trials = 0  # after rests
        self._stride = 0  # in STRIDES
        self._single = False  # one trial after a rest
        self._rest = 0  # in RESTS
        self._rested = 0
        self._before_errors = (0, 0.0)
        self._usual_errors = 0.0

    def decide(self, snapshot: Snapshot) -> Sequence[Wish]:
        """Return the next size to try, when the present one has been measured."""
        size = round(snapshot.workers)
        if size != self._aim or snapshot.fresh:
            self._start(size, snapshot.now)
            return []
        window = self._window
        window.add(snapshot)
        if not window.full(size):
            return []
        found = _Measured(size, window.throughput, window.completed)
        if self._unclear(found) and window.seconds < LONGEST and window.completed < MOST:
            return []
        wish = self._judge(found, window.errors)
        self._aim = max(1, round(wish.value))
        self._window = _Window(snapshot.now, 2 * window.item if self._aim != size else 0.0)
        return [wish]

    def _start(self, size: int, now: float) -> None:
        """Measure a size that was not asked for: the first, one that somebody set, or the best where a bound is."""
        if self._best is not None and size not in {self._aim, self._best.size}:
            self._best, self._way, self._stride, self._single = None, UP, 0, False
        self._aim, self._window = size, _Window(now)

    def _unclear(self, found: _Measured) -> bool:
        """Whether more of the same would tell more."""
        best = self._best
        if best is None or self._way not in THRESHOLDS or found.size == best.size or not found.rate:
            return False
        away = abs(found.elasticity(best) - THRESHOLDS[self._way])
        return away < 1.5 * NOISE * sqrt(1 / found.completions + 1 / best.completions) / abs(
            log(found.size / best.size)
        )

    def _judge(self, found: _Measured, errors: float) -> Wish:
        best, many = self._best, errors > max(TOO_MANY_ERRORS, 1.5 * self._usual_errors)
        if many and best is not None and found.size > best.size:  # the best had fewer
            return self._turn(found)
        if many or self._way == ERRORS:
            return self._judge_errors(found.size, errors)
        if best is None:
            self._best = found
            return self._trial(found)
        if self._way == REST:
            return self._watch(best, found)
        better = found.size != best.size and found.beats(best, self._way)
        wish = self._go_on if better else self._turn
        return wish(found)

    def _go_on(self, found: _Measured) -> Wish:
        """Keep what was tried, and look on with a longer stride."""
        best, self._best = self._best, found
        self._rest, self._single = 0, False
        self._stride = max(0, self._stride - 1)
        return self._trial(found, best)

    def _turn(self, found: _Measured) -> Wish:
        """Go back. Try a smaller stride, then the other way, then rest."""
        if self._single:
            self._lie_down()
        elif self._stride < len(STRIDES) - 1:
            self._stride += 1
        elif self._way == self._first_way:
            self._way, self._stride = OTHER[self._way], len(STRIDES) - 1
        else:
            self._lie_down()
        return self._trial(found, self._best)

    def _lie_down(self) -> None:
        self._way, self._rested, self._single = REST, 0, False

    def _watch(self, best: _Measured, found: _Measured) -> Wish:
        """Rest, until it is time to look again or something changed."""
        change = log(found.rate / best.rate) if found.rate and best.rate else 0.0
        self._rested += 1
        if abs(change) > CHANGED + 3 * NOISE * sqrt(1 / found.completions):
            self._best, self._rest, self._stride = found, 0, 0
            self._way = self._first_way = UP if change > 0 else DOWN
            return self._trial(found, best, "changed")
        self._best = best.with_more(found)
        if self._rested >= RESTS[self._rest]:
            self._rest = min(self._rest + 1, len(RESTS) - 1)
            self._trials += 1
            self._way = DOWN if self._trials % DOWN_EACH == 0 else UP
            self._stride, self._single = len(STRIDES) - 1, True
        return self._trial(found, best)

    def _trial(self, found: _Measured, against: _Measured | None = None, reason: str = "trial") -> Wish:
        """Wish for the next size to measure."""
        assert self._best is not None  # noqa: S101 - for the type checkers
        best, stride = self._best.size, STRIDES[self._stride]
        if best == 1 and self._way == DOWN:
            self._lie_down()
        up, down = max(best + 1, round(best * stride)), max(1, min(best - 1, round(best / stride)))
        size = {UP: up, DOWN: down, REST: best}[self._way]
        inputs = {"throughput": found.rate, "best": float(best)}
        if against is not None and against.size != found.size and found.rate and against.rate:
            inputs["elasticity"] = found.elasticity(against)
        return Wish(PARAMETER, float(size), reason if size != best else "best", inputs)

    def _judge_errors(self, size: int, errors: float) -> Wish:
        """Have fewer workers; if that cures nothing, as many as before, and bear these errors."""
        inputs = {"errors": errors, "usual": self._usual_errors}
        self._best, self._single = None, False
        if self._way != ERRORS:
            self._way, self._before_errors = ERRORS, (size, errors)
            return Wish(PARAMETER, max(1.0, float(int(size * SHRINK + 1e-9))), "errors", inputs)
        before, had = self._before_errors
        self._way, self._stride = UP, len(STRIDES) - 1
        if errors < SHRINK * had:
            return Wish(PARAMETER, float(size), "errors", inputs)
        self._usual_errors = max(errors, had)
        return Wish(PARAMETER, float(before), "own_errors", inputs)


class _Measured(NamedTuple):
    """A size, its items a second, and from how many that is known."""

    size: int
    rate: float
    completions: float

    def elasticity(self, other: _Measured) -> float:
        """Between two sizes."""
        return log(self.rate / other.rate) / log(self.size / other.size)

    def beats(self, best: _Measured, way: str) -> bool:
        """Whether it is worth having, on the way it was found."""
        if not self.rate or not best.rate:
            return self.rate > best.rate
        elasticity = self.elasticity(best)
        return elasticity > PAYS if way == UP else elasticity < FREE

    def with_more(self, found: _Measured) -> _Measured:
        """Return the same size, known from more; the past counts for 1000 at most."""
        past = min(self.completions, 1000.0)
        share = found.completions / (past + found.completions)
        return _Measured(self.size, self.rate + share * (found.rate - self.rate), past + found.completions)


class _Window:
    """What one size did, from the first look after `settle` seconds on."""

    def __init__(self, now: float, settle: float = 0.0) -> None:
        self._opens = now + settle
        self._start = self._end = now
        self._open = settle == 0.0
        self.completed = self.failed = self.busy = 0.0

    def add(self, snapshot: Snapshot) -> None:
        """Count what came back since the last look, if that was in it."""
        if self._open:
            self._end = snapshot.now
            self.completed += snapshot.completed
            self.failed += snapshot.failed
            self.busy += snapshot.busy
        elif snapshot.now >= self._opens:
            self._open, self._start, self._end = True, snapshot.now, snapshot.now

    def full(self, size: int) -> bool:
        """Whether it says anything."""
        return self.seconds >= SECONDS and self.completed >= min(COMPLETIONS, EACH * size)

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self._end - self._start

    @property
    def throughput(self) -> float:
        """Items a second."""
        return self.completed / self.seconds

    @property
    def errors(self) -> float:
        """The share that failed."""
        return self.failed / self.completed if self.completed else 0.0

    @property
    def item(self) -> float:
        """Seconds an item takes; 2 at most, not to wait for ever."""
        return min(2.0, self.busy / self.completed) if self.completed else 0.0
