"""S8, a pool of workers in front of something whose capacity changes: `python -m benchmarks.simulation.worker_pool`.

Closed loop, virtual time. Work of .1 s (lognormal) shares a capacity of 32, then 8, then 64, for 120 s each; more
workers than that are in each other's way: throughput is min(n, c) / (1 + .3 max(0, n / c − 1)). The law, its loop and
its knob are the real ones. Gate: in each phase 90 % of what the best fixed size does, which is n = c.
"""

from __future__ import annotations

import argparse
import heapq
import sys
from math import log, sqrt
from random import Random

from opero.control.loop import Controller
from opero.control.pool_size import PoolSizeLaw, Snapshot
from opero.knobs import Knob

PHASES, SECONDS, CONTENTION, WORK = (32, 8, 64), 120.0, 0.3, 0.1
TICK = 0.25
GATE = 0.9


class Pool:
    """Workers that share a capacity; all that run progress alike, so the least remaining work ends first."""

    def __init__(self, seed: int, spread: float, fixed: int | None) -> None:
        self._random = Random(seed)
        self._sigma = sqrt(log(1 + spread * spread))
        self.knob = Knob("map.workers", fixed or 4, low=1, high=256)
        self.controller = None if fixed else Controller(PoolSizeLaw(), self._read, self.knob, fall=0.25, rest=0.5)
        self.done = [0] * len(PHASES)
        self.now = self._progress = self._busy = 0.0
        self._running: list[tuple[float, float]] = []  # the progress at which each ends, and when it began
        self._seen = (0, 0.0)

    def run(self) -> list[float]:
        """Return the share of the best fixed size, by phase."""
        tick = TICK
        while self.now < SECONDS * len(PHASES):
            phase = int(self.now // SECONDS)
            self._advance(phase, min(tick, (phase + 1) * SECONDS))
            if self.now >= tick:
                tick += TICK
                if self.controller is not None:
                    self.controller.step(self.now)
        return [done / (capacity / WORK * SECONDS) for done, capacity in zip(self.done, PHASES, strict=True)]

    def _advance(self, phase: int, end: float) -> None:
        """Go on to the next completion, or to `end`."""
        while len(self._running) < round(self.knob.value):
            work = self._random.lognormvariate(log(WORK) - self._sigma**2 / 2, self._sigma)
            heapq.heappush(self._running, (self._progress + work, self.now))
        n, capacity = len(self._running), PHASES[phase]
        speed = min(n, capacity) / n / (1 + CONTENTION * max(0.0, n / capacity - 1))
        needed = (self._running[0][0] - self._progress) / speed
        if self.now + needed > end:
            self._progress += (end - self.now) * speed
            self.now = end
            return
        self.now += needed
        self._progress, began = heapq.heappop(self._running)
        self._busy += self.now - began
        self.done[min(phase, len(PHASES) - 1)] += 1

    def _read(self, now: float) -> Snapshot:
        (done, busy), self._seen = self._seen, (sum(self.done), self._busy)
        return Snapshot(now, self.knob.value, self._seen[0] - done, 0.0, self._seen[1] - busy)


def shares(seed: int, *, spread: float = 0.5, fixed: int | None = None) -> list[float]:
    """Return what one run reached, by phase."""
    return Pool(seed, spread, fixed).run()


def main(arguments: list[str]) -> int:
    """Print a table; exit status 1 when a phase misses the gate."""
    parser = argparse.ArgumentParser(prog="benchmarks.simulation.worker_pool")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args(arguments)
    for size in (16, 32, 64):
        print(f"fixed {size:>3}:", *(f"{share:.2f}" for share in shares(1, fixed=size)))
    rows = [shares(seed) for seed in range(1, options.seeds + 1)]
    for seed, row in enumerate(rows, 1):
        print(f"seed {seed:>4}:", *(f"{share:.3f}" for share in row))
    means = [sum(column) / len(column) for column in zip(*rows, strict=True)]
    for capacity, mean in zip(PHASES, means, strict=True):
        met = "met" if mean >= GATE else "missed"
        print(f"S8 capacity {capacity}: {mean:.1%} of the best fixed size, gate {GATE:.0%}, {met}")
    return 0 if min(means) >= GATE else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
