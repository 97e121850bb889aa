"""S2: an overload that outlives its cause.

15 servers of 50 ms each (exponential) make 300 calls a second from one queue and know nothing of deadlines; 280 are
offered, each attempt waits 1 s. For 10 s nothing is served. What queued then, and was given up, is worked off after it.

Source: Bronson et al., "Metastable Failures in Distributed Systems", HotOS 2021.
"""

from __future__ import annotations

from typing import Any

from benchmarks.simulation.amplification import retry
from benchmarks.simulation.clients import Client
from benchmarks.simulation.services import Service
from benchmarks.simulation.world import World

GATES = {
    "seconds to recover": ("<=", 10.0),
    "plain retries recover (0: never)": ("<=", 0.0),
}
DOWN, OUTAGE, OFFERED = 30.0, 10.0, 280.0
WELL, CALM = 0.95, 5  # answered, in each of so many seconds


ADAPTIVE: dict[str, Any] = {"retry_budget": "adaptive", "bulkhead": "adaptive"}


def play(seed: int, *, after: float, offered: float = OFFERED, **settings: Any) -> Client:
    """Return the client with these settings after the outage and so many seconds."""
    world = World(seed)
    service = Service(world, 15, 0.05)
    client = Client(world, service, retry(), attempt_timeout=1.0, name=f"s2.{len(settings)}.{seed}", **settings)
    world.at(DOWN, lambda: service.resize(0))
    world.at(DOWN + OUTAGE, lambda: service.resize(15))
    client.offer(offered, DOWN + OUTAGE + after)
    world.run(DOWN + OUTAGE + after + 10)
    return client


def recovery(client: Client, after: float) -> float:
    """Seconds from the end of the outage until all is well and stays so for 5 s; infinite if it never is."""
    end = DOWN + OUTAGE
    for second in range(int(after) - CALM):
        if all(client.share(end + second + n, end + second + n + 1) >= WELL for n in range(CALM)):
            return float(second)
    return float("inf")


def figures(seed: int, *, short: bool = False) -> dict[str, float]:
    """Return what the gates are on."""
    after = 30.0 if short else 120.0
    adaptive = recovery(play(seed, after=after, **ADAPTIVE), after)
    plain = recovery(play(seed, after=after), after)
    return dict(zip(GATES, (adaptive, float(plain < float("inf"))), strict=True))


def plot(seed: int) -> tuple[str, dict[str, list[tuple[float, float]]], list[tuple[float, float, str]]]:
    """Return title, lines and bands: the share answered, second by second."""
    lines = {}
    for name, settings in (("plain retries", {}), ("adaptive", ADAPTIVE)):
        client = play(seed, after=60, **settings)
        lines[name] = [(float(at), client.share(at, at + 1)) for at in range(5, int(DOWN + OUTAGE) + 60)]
    return "S2: share of calls answered", lines, [(DOWN, DOWN + OUTAGE, "outage")]
