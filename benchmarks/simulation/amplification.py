"""S1: what retries add to the load of a service that is down, and what they give back when it only fails now and then.

1 000 calls a second, an attempt takes 50 ms, at most 4 attempts, full jitter from 50 ms to 1 s. After 30 s in which all
is well a total outage of 120 s; after it each attempt fails by chance, one in ten.
"""

from __future__ import annotations

from benchmarks.simulation.clients import Client
from benchmarks.simulation.services import Refused
from benchmarks.simulation.world import World
from opero import Retry, RetryBudget, waits

GATES = {
    "amplification, any 10 s of the outage": ("<=", 1.10),
    "amplification, steady": ("<=", 1.02),
    "answered with 10 % failing": (">=", 0.995),
}
START, OUTAGE, AFTER, RATE = 30.0, 120.0, 60.0, 1000.0


def retry() -> Retry:
    """Return the policy of the scenario."""
    return Retry(retries=3, wait=waits.exponential(0.05, 1.0), jitter="full")


def play(
    seed: int, *, short: bool = False, budget: str | RetryBudget | None = "adaptive"
) -> tuple[Client, float, float]:
    """Return the client, and when the outage began and ended."""
    world, scale = World(seed), 4 if short else 1
    rate = RATE / scale
    start, end = START, START + OUTAGE / scale

    async def service() -> None:
        await world.pause(0.05)
        down = start <= world.now < end
        if down or (world.now >= end and world.random.random() < 0.1):
            raise Refused

    client = Client(world, service, retry(), retry_budget=budget, name=f"s1.{seed}")
    client.offer(rate, end + AFTER / scale)
    world.run(end + AFTER / scale + 10)
    return client, start, end


def figures(seed: int, *, short: bool = False) -> dict[str, float]:
    """Return what the gates are on."""
    client, start, end = play(seed, short=short)
    half = (start + end) / 2
    windows = [client.amplification(at, at + 10) for at in range(int(start), int(end) - 10, 5)]
    settled = end + 10  # the budget fills again
    last = max(outcome.at for outcome in client.outcomes)
    return dict(zip(GATES, (max(windows), client.amplification(half, end), client.share(settled, last)), strict=True))


def plot(seed: int) -> tuple[str, dict[str, list[tuple[float, float]]], list[tuple[float, float, str]]]:
    """Return title, lines and bands: attempts over calls, second by second."""
    lines = {}
    for name, budget in (("no budget", None), ("adaptive", "adaptive")):
        client, start, end = play(seed, short=True, budget=budget)
        lines[name] = [(float(at), client.amplification(at, at + 1)) for at in range(5, int(end) + 14)]
    return "S1: attempts a call", lines, [(start, end, "outage")]
