"""S6: the size of GPU batches through a change of regime. `python -m benchmarks.simulation.s6`.

A batch of b items takes 8 + .25 b ms, give or take 3 % (lognormal); it may take 50 ms. At step 1 000 everything costs
twice as much and the memory halves, at 2 000 back. A batch that does not fit stalls for 20 ms. The real controller and
law turn the knob; only the device is played. The oracle knows the cost: the largest batch whose mean time is the SLO.
"""

from __future__ import annotations

import sys
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from opero.control.batch_size import SIZE, BatchSizeLaw, Snapshot
from opero.control.loop import Controller
from opero.knobs import Knob

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SLO, PHASE, STALL, SPREAD = 0.05, 1000, 0.02, 0.03
SETTLING, LOOK = 30, 60  # steps a change may take; steps after it in which the throughput is first judged
COST = (1.0, 2.0, 1.0)
ITEM = 1_000_000.0  # bytes


class Batch(NamedTuple):
    """One step: seconds it took, and whether it did not fit."""

    items: int
    seconds: float
    failed: bool


class Figures(NamedTuple):
    """Of one phase; the gates are on these."""

    throughput: float  # of the oracle's, in the steps after the settling
    misses: float  # share of steady batches over the SLO
    out_of_memory: int


def batches(seed: int, limits: Sequence[int], phase: int = PHASE) -> Iterator[Batch]:
    """Let the controller drive the device."""
    random, knob, last = Random(seed), Knob(SIZE, 4, low=1, high=65536), []
    controller = Controller(BatchSizeLaw(), lambda _: last.pop(), knob, dead=0.005, grain=1.0, rest=0.0)
    now = 0.0
    for step in range(3 * phase):
        cost, limit, size = COST[step // phase], limits[step // phase], knob.value
        items = max(1, int(size))
        failed = items > limit
        usual = cost * (0.008 + 0.00025 * items)
        seconds = STALL if failed else usual * random.lognormvariate(0, SPREAD)
        now += seconds
        last.append(Snapshot(now, size, items, seconds, SLO, limit * ITEM, ITEM, float(failed)))
        controller.step(now)
        yield Batch(items, seconds, failed)


def oracle(cost: float, limit: int) -> float:
    """Items a second of the best size."""
    items = min((SLO / cost - 0.008) / 0.00025, limit)
    return items / (cost * (0.008 + 0.00025 * items))


def run(seed: int, limits: Sequence[int] = (400, 200, 400), phase: int = PHASE) -> list[Figures]:
    """Return the figures of the three phases."""
    made, found = batches(seed, limits, phase), []
    for cost, limit in zip(COST, limits, strict=True):
        steps = list(islice(made, phase))
        rates = [_rate(steps[SETTLING:LOOK]), _rate(steps[SETTLING:])]
        late = sum(batch.seconds > SLO for batch in steps[SETTLING:]) / (phase - SETTLING)
        failed = sum(batch.failed for batch in steps)
        found.append(Figures(min(rates) / oracle(cost, limit), late, failed))
    return found


def met(figures: Figures) -> bool:
    """Whether all gates are."""
    return figures.throughput >= 0.95 and figures.misses <= 0.06 and figures.out_of_memory <= 3


def _rate(steps: Sequence[Batch]) -> float:
    return sum(batch.items for batch in steps if not batch.failed) / sum(batch.seconds for batch in steps)


def main() -> int:
    """Print the table."""
    good = True
    for name, limits in (("time-bound", (400, 200, 400)), ("memory-bound", (120, 60, 120))):
        for seed in range(1, 6):
            for phase, figures in enumerate(run(seed, limits), 1):
                good = good and met(figures)
                text = f"{figures.throughput:6.1%} of oracle  {figures.misses:5.1%} late  {figures.out_of_memory} OOM"
                print(f"{name:12} seed {seed} phase {phase}  {text}  {'met' if met(figures) else 'NOT MET'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
