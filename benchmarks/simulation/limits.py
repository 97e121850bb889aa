"""S3: a concurrency limit against services whose capacity is known; open loop, 1.5 to 4 times of it offered.

16 or 64 servers of 50 ms, exponential or lognormal (cv .5); a call should take .25 s at most. D1: the capacity halves
and comes back, 60 s each. D2: work takes 4 times as long for 60 s. D3: 300 s at 4 times. D4: .3 and .9 of the capacity
in turns of 20 s, where nobody needs to be refused.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from benchmarks.simulation.clients import Client, Outcome, percentile
from benchmarks.simulation.services import Service, Sharing
from benchmarks.simulation.world import World
from opero import Bulkhead

GATES = {
    "utilisation at 1.5 and 4 times": (">=", 0.95),
    "p99 over the objective": ("<=", 1.25),
    "seconds to converge after a step of 2": ("<=", 15.0),
    "drift of the limit in 300 s": ("<=", 1.25),
    "refused without need": ("<=", 0.01),
    "used while work takes 4 times as long": (">=", 0.6),
}
MEAN, TARGET, WARM = 0.05, 0.25, 20.0


class Setting(NamedTuple):
    """A service."""

    servers: int
    spread: float | None
    sharing: bool = False


SETTINGS = (Setting(16, None), Setting(16, 0.5), Setting(64, None), Setting(64, 0.5), Setting(16, 0.5, sharing=True))


class Run:
    """A client with an adaptive bulkhead in front of a service, its limit kept second by second."""

    def __init__(self, seed: int, setting: Setting, word: str, policy: Bulkhead | None = None) -> None:
        self.world = World(seed)
        kind = Sharing if setting.sharing else Service
        self.service = kind(self.world, setting.servers, MEAN, spread=setting.spread)
        self.capacity = setting.servers / MEAN
        self.policy = policy = policy or Bulkhead(10, control="adaptive", target=TARGET)
        self.client = Client(self.world, self.service, policy, name=f"s3.{word}.{setting}.{seed}")
        self.limits: list[tuple[float, float]] = []
        self.done: list[tuple[float, int]] = [(0.0, 0)]
        self.world.every(1.0, self._look)

    def _look(self, now: float) -> None:
        self.limits.append((now, self.policy.slots.limit.value))
        self.done.append((now, self.service.done))

    def follow(self, law: Any) -> None:
        """Let another law have the limit: it is told of each call that ended, unless it was turned away here."""
        told = self.client.outcomes.append

        def ended(outcome: Outcome) -> None:
            told(outcome)
            if outcome.error != "BulkheadFullError":
                self.policy.slots.limit.set(law.ended(outcome, self.policy.slots.used))

        self.client.ended = ended

    def throughput(self, start: float, end: float) -> float:
        """Return what was served a second."""
        served = [(at, count) for at, count in self.done if start <= at <= end]
        return (served[-1][1] - served[0][1]) / (served[-1][0] - served[0][0])

    def late(self, start: float, end: float) -> float:
        """Return the p99 of what was answered, over the objective."""
        return percentile([call.seconds for call in self.client.between(start, end) if call.ok], 0.99) / TARGET


def steady(seed: int, setting: Setting, load: float, seconds: float) -> tuple[float, float, float]:
    """Return utilisation, lateness, and how far the limit is at the end from where it was early."""
    run = Run(seed, setting, f"{load:g}")
    run.client.offer(load * run.capacity, WARM + seconds)
    run.world.run(WARM + seconds)
    early = [limit for at, limit in run.limits if WARM < at <= WARM + seconds / 4]
    end = [limit for at, limit in run.limits if at > WARM + seconds * 3 / 4]
    moved = (sum(end) / len(end)) / (sum(early) / len(early))
    end_at = WARM + seconds
    return run.throughput(WARM, end_at) / run.capacity, run.late(WARM, end_at), max(moved, 1 / moved)


def step(seed: int, setting: Setting) -> float:
    """Return the worst time, after the capacity halved and came back, until 95 % of it is used and nobody is late."""
    run, half, turn = Run(seed, setting, "step"), setting.servers // 2, 60.0
    run.world.at(turn, lambda: run.service.resize(half))
    run.world.at(2 * turn, lambda: run.service.resize(setting.servers))
    run.client.offer(1.5 * run.capacity, 3 * turn)
    run.world.run(3 * turn)
    worst = 0.0
    for begin, capacity in ((turn, half / MEAN), (2 * turn, setting.servers / MEAN)):
        ready = next((s for s in range(50) if _well(run, begin + s, capacity)), 60)
        worst = max(worst, float(ready))
    return worst


def _well(run: Run, at: float, capacity: float) -> bool:
    return run.throughput(at, at + 5) >= 0.95 * capacity and run.late(at, at + 5) <= GATES["p99 over the objective"][1]


def slow(seed: int, setting: Setting) -> float:
    """Return the share of what can be done that is done while work takes 4 times as long."""
    run = Run(seed, setting, "slow")
    run.world.at(60, lambda: run.service.slow_down(4.0))
    run.client.offer(1.5 * run.capacity, 120)
    run.world.run(120)
    return run.throughput(70, 120) / (run.capacity / 4)


def square(seed: int, setting: Setting) -> float:
    """Return the share refused although there was room for all."""
    run, turn, end = Run(seed, setting, "square"), 40.0, 200.0
    run.client.offer(lambda now: run.capacity * (0.9 if now % turn >= turn / 2 else 0.3), end)
    run.world.run(end)
    calls = run.client.between(turn, end)  # in the first turn it learns
    return sum(not call.ok for call in calls) / len(calls)


def figures(seed: int, *, short: bool = False) -> dict[str, float]:
    """Return what the gates are on: the worst of all settings."""
    settings = SETTINGS[:1] if short else SETTINGS
    loads = [steady(seed, setting, load, 40.0) for setting in settings for load in ((4.0,) if short else (1.5, 4.0))]
    drift = steady(seed, settings[-1 if short else 1], 4.0, 60.0 if short else 300.0)[2]
    steps = max(step(seed, setting) for setting in settings)
    refused = max(square(seed, setting) for setting in settings)
    slower = min(slow(seed, setting) for setting in settings)
    used, late = min(row[0] for row in loads), max(row[1] for row in loads)
    return dict(zip(GATES, (used, late, steps, drift, refused, slower), strict=True))


def plot(seed: int) -> tuple[str, dict[str, list[tuple[float, float]]], list[tuple[float, float, str]]]:
    """Return title, lines and bands: the limit while the capacity halves and comes back."""
    run = Run(seed, SETTINGS[3], "plot")
    run.world.at(60, lambda: run.service.resize(32))
    run.world.at(120, lambda: run.service.resize(64))
    run.client.offer(1.5 * run.capacity, 180)
    run.world.run(180)
    capacity = [(at, 32.0 if 60 <= at < 120 else 64.0) for at, _ in run.limits]
    return "S3: the limit, and the servers there are", {"limit": run.limits, "servers": capacity}, [(60, 120, "half")]
