"""S5: hedges at the 95th percentile on 20 replicas, each with a queue of its own; one request in fifty is slow.

A request takes 20 ms (lognormal, cv .5), and 100 ms to 1 s with a chance of 2 %; a replica is chosen by chance, its
share of time at work is .3 to .85. A cancelled request that was not begun is forgotten. Hedges cost the retry budget.
"""

from __future__ import annotations

from benchmarks.simulation.clients import Client, percentile
from benchmarks.simulation.services import Replica
from benchmarks.simulation.world import World

LOADS = (0.3, 0.5, 0.7, 0.85)
GATES = {
    **{f"p99 cut at {load:g}": (">=", 0.3) for load in LOADS},
    "most hedges a call": ("<=", 0.06),
}
REPLICAS, WARM, SECONDS = 20, 20.0, 100.0
FAST, SPREAD, SLOW = 0.02, 0.5, 0.02
MEAN = (1 - SLOW) * FAST + SLOW * 0.55


class Machine(Replica):
    """A replica that is slow with some requests."""

    def _drawn(self) -> float:
        random = self.world.random
        return random.uniform(0.1, 1.0) if random.random() < SLOW else super()._drawn()


def play(seed: int, load: float, seconds: float, *, hedged: bool) -> tuple[float, float]:
    """Return the p99 in seconds, and the hedges a call."""
    world = World(seed)
    replicas = [Machine(world, 1, FAST, spread=SPREAD) for _ in range(REPLICAS)]

    async def service() -> None:
        await world.random.choice(replicas)()

    settings = {"hedge": "adaptive", "retry_budget": "adaptive"} if hedged else {}
    client = Client(world, service, retries=0, name=f"s5.{seed}.{load}.{hedged}", **settings)
    client.offer(load * REPLICAS / MEAN, WARM + seconds)
    world.run(WARM + seconds + 5)
    end = WARM + seconds
    calls = [call.seconds for call in client.between(WARM, end)]
    return percentile(calls, 0.99), client.amplification(WARM, end) - 1


def figures(seed: int, *, short: bool = False) -> dict[str, float]:
    """Return what the gates are on."""
    seconds = 60.0 if short else SECONDS
    cuts, most = [], 0.0
    for load in LOADS:
        without, _ = play(seed, load, seconds, hedged=False)
        hedged, more = play(seed, load, seconds, hedged=True)
        cuts.append(1 - hedged / without)
        most = max(most, more)
    return dict(zip(GATES, (*cuts, most), strict=True))
