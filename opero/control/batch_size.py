"""Batch size: a model of the time a batch takes, and safety around it.

1. Slow start: twice as many each step, while batches are full and the next is not expected to take too long. The first
   batch is a warm-up (libraries load, kernels are compiled), and one late batch is none: they teach nothing.
2. The model is T = a + k b, fitted by least squares whose memory halves each 30 steps. A batch whose time is far off
   twice in a row, by about as much, is a new regime: the model is scaled to it, and the past forgotten. A late one
   alone is an outlier, and not learned: a machine that stalls now and then has no smaller batches for it.
3. The best size is where the model, with the 97th percentile of its relative residuals on top, meets the target. Each
   step moves 30 % of the gap, +5 % and −15 % at most; where the regime has changed, all of the gap down.
4. Three of 20 batches over the target: ×.9.
5. Never more than 92 % of the free memory over the most bytes an item took. Out of memory: ×.85 and a ceiling of .93
   of what failed, which is raised by 6 % after 60 clean steps; each time it fails twice as many steps are waited for.
   Twice without a clean step between: ×.5. Where more memory is free than when it failed, the ceiling is forgotten.
6. A batch that was not full and in time says nothing about the size: it stays.

Source: Daniel Crankshaw and others, "Clipper", 2017, for the additive law this one was compared with.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import NamedTuple

from opero.control.law import Wish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SIZE = "gpu_batch.size"
KEEP = 0.5 ** (1 / 30)
GAP, UP, DOWN = 0.3, 1.05, 0.85
MISSES, OF, AFTER_MISSES = 3, 20, 0.9
MEMORY = 0.92
AFTER_OOM, AGAIN, CEILING, PROBE, CLEAN = 0.85, 0.5, 0.93, 1.06, 60
MORE = 1.25  # times the free memory there was: something let go of it
FULL = 0.95  # of the size: a batch that used it
RESIDUALS = 100
ALIKE = 1.3  # the ratio of two batches that are off by about as much
OFF = 0.12  # relative; further off than noise, when it happens twice


class Snapshot(NamedTuple):
    """One batch. Seconds and bytes; memory that is not known is 0. `failed` is 1 where it did not fit in memory."""

    now: float
    size: float  # where the knob is
    batch: float  # items in the batch
    seconds: float  # it took
    target: float  # seconds it may take
    free_memory: float = 0.0
    item_bytes: float = 0.0  # the most an item took
    failed: float = 0.0


class Model:
    """Seconds of a batch of b items, T = a + k b, both not negative; recent batches weigh more."""

    def __init__(self) -> None:
        self._sums = [0.0] * 5  # weight, b, T, b², b T
        self.a = self.k = 0.0

    def learn(self, items: float, seconds: float) -> None:
        """Add a batch."""
        added = (1.0, items, seconds, items * items, items * seconds)
        self._sums = [KEEP * held + new for held, new in zip(self._sums, added, strict=True)]
        self._fit()

    def scale(self, ratio: float) -> None:
        """Let everything take so many times as long, and keep little of the past."""
        weight, b, t, bb, bt = self._sums
        self._sums = [0.1 * each for each in (weight, b, ratio * t, bb, ratio * bt)]
        self.a, self.k = ratio * self.a, ratio * self.k

    def seconds(self, items: float) -> float:
        """Return what a batch of so many should take."""
        return self.a + self.k * items

    def items(self, seconds: float) -> float:
        """Return how many items take so long."""
        return max(1.0, (seconds - self.a) / self.k) if self.k > 0 else inf

    def _fit(self) -> None:
        weight, b, t, bb, bt = self._sums
        mean, level = b / weight, t / weight
        spread = bb / weight - mean * mean
        if spread > 1e-4 * mean * mean:
            k = max(0.0, (bt / weight - mean * level) / spread)
            self.k = min(k, level / mean)
        elif self.seconds(mean) > 0:  # all of one size: keep the shape, follow the level
            self.k *= level / self.seconds(mean)
        else:
            self.k = level / mean
        self.a = max(0.0, level - self.k * mean)


class BatchSizeLaw:
    """Wishes for the number of items in a batch."""

    name = "batch_size"

    def __init__(self) -> None:
        self._model = Model()
        self._residuals: deque[float] = deque(maxlen=RESIDUALS)
        self._misses: deque[bool] = deque(maxlen=OF)
        self._starting = self._cold = True
        self._off = 0.0  # how far off the last batch was, where that was far
        self._ceiling = inf
        self._clean, self._wanted_clean = 0, CLEAN
        self._failed = False
        self._scarce = 0.0  # free memory when it last failed

    def decide(self, snapshot: Snapshot, /) -> Sequence[Wish]:
        """Return where the size should be after this batch."""
        if snapshot.failed:
            return [self._out_of_memory(snapshot)]
        if self._cold:
            self._cold = False
            return [Wish(SIZE, snapshot.size, "warm_up", self._inputs(snapshot))]
        size, reason = self._sized(snapshot, changed=self._learn(snapshot))
        self._probe(snapshot.free_memory)
        bound = min(self._ceiling, _room(snapshot))
        if bound < size:
            size, reason = max(1.0, bound), "memory"
        return [Wish(SIZE, size, reason, self._inputs(snapshot))]

    def _out_of_memory(self, snapshot: Snapshot) -> Wish:
        if self._ceiling < inf:
            self._wanted_clean *= 2
        factor = AGAIN if self._failed else AFTER_OOM
        self._starting, self._clean, self._failed, self._scarce = False, 0, True, snapshot.free_memory
        self._ceiling = max(1.0, min(self._ceiling, CEILING * snapshot.batch))
        size = max(1.0, min(factor * snapshot.batch, snapshot.size, _room(snapshot)))
        return Wish(SIZE, size, "out_of_memory", self._inputs(snapshot))

    def _learn(self, snapshot: Snapshot) -> bool:
        """Take the batch into the model; whether the regime has changed."""
        expected = self._model.seconds(snapshot.batch)
        off = snapshot.seconds / expected - 1 if expected > 0 else 0.0
        self._misses.append(snapshot.seconds > snapshot.target)
        far = abs(off) > max(OFF, 2 * self._margin()) and not self._starting
        changed = far and self._off != 0 and 1 / ALIKE < (1 + off) / (1 + self._off) < ALIKE
        outlier = far and off > 0 and not self._off
        self._off = off if far and not changed else 0.0
        if changed:
            self._model.scale(1 + off)
            self._misses.clear()
        elif not far and not self._starting:
            self._residuals.append(off)
        if not outlier and not self._late_once():
            self._model.learn(snapshot.batch, snapshot.seconds)
        return changed

    def _late_once(self) -> bool:
        """Whether this batch is the first late one of a slow start."""
        return self._starting and self._misses[-1] and sum(self._misses) == 1

    def _sized(self, snapshot: Snapshot, *, changed: bool) -> tuple[float, str]:
        size = snapshot.size
        best = self._model.items(snapshot.target / (1 + self._margin()))
        full = snapshot.batch >= FULL * size
        if changed and best < size:
            return best, "regime"
        if sum(self._misses) >= MISSES:
            self._misses.clear()
            self._starting = False
            return AFTER_MISSES * size, "slo_exceeded"
        if self._starting and self._late_once():
            return size, "slow_start"
        if self._starting:
            if 2 * size <= best and snapshot.seconds <= snapshot.target:
                return (2 * size, "slow_start") if full else (size, "not_full")
            self._starting = False
        if not full and snapshot.seconds <= snapshot.target:
            return size, "not_full"
        wished = size + GAP * (best - size) if best < inf else UP * size
        return min(max(wished, DOWN * size), max(UP * size, size + 1)), "model"

    def _margin(self) -> float:
        """The 97th percentile of how much longer than expected a batch took."""
        known = sorted(self._residuals)
        return max(0.0, known[int(0.97 * (len(known) - 1))]) if known else 0.0

    def _probe(self, free: float) -> None:
        self._clean, self._failed = self._clean + 1, False
        if self._scarce and free > MORE * self._scarce:
            self._ceiling, self._scarce, self._wanted_clean = inf, 0.0, CLEAN
        if self._clean >= self._wanted_clean:
            self._clean = 0
            self._ceiling *= PROBE

    def _inputs(self, snapshot: Snapshot) -> Mapping[str, float]:
        found = {"batch": snapshot.batch, "seconds": snapshot.seconds, "target": snapshot.target}
        return {**found, "a": self._model.a, "k": self._model.k, "margin": self._margin()}


def _room(snapshot: Snapshot) -> float:
    """Return how many items the free memory holds."""
    known = snapshot.free_memory and snapshot.item_bytes
    return MEMORY * snapshot.free_memory / snapshot.item_bytes if known else inf
