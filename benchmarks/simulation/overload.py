"""S4: what a service still does when far more is offered than it can take, and to refuse costs it a tenth of a call.

10 servers of 50 ms (200 calls a second) take 20 requests in and refuse the next; 10 clients with limits of their own
offer 2, 5 and 10 times of that, and wait 1 s.
"""

from __future__ import annotations

from benchmarks.simulation.clients import Client
from benchmarks.simulation.services import Service
from benchmarks.simulation.world import World

GATES = {"goodput at 2 times": (">=", 0.9), "goodput at 5 times": (">=", 0.9), "goodput at 10 times": (">=", 0.9)}
CAPACITY, CLIENTS, WARM, SECONDS = 200.0, 10, 30.0, 60.0


def goodput(seed: int, load: float, seconds: float = SECONDS, *, adaptive: bool = True) -> float:
    """Return what is answered a second, over the capacity."""
    world = World(seed)
    service = Service(world, 10, 0.05, room=20, refusal=0.1)
    settings = {"bulkhead": "adaptive"} if adaptive else {}
    clients = [
        Client(world, service, attempt_timeout=1.0, retries=0, name=f"s4.{seed}.{load}.{number}", **settings)
        for number in range(CLIENTS)
    ]
    for client in clients:
        client.offer(load * CAPACITY / CLIENTS, WARM + seconds)
    world.run(WARM + seconds)
    answered = sum(call.ok for client in clients for call in client.between(WARM, WARM + seconds))
    return answered / seconds / CAPACITY


def figures(seed: int, *, short: bool = False) -> dict[str, float]:
    """Return what the gates are on."""
    seconds = 20.0 if short else SECONDS
    return {gate: goodput(seed, load, seconds) for gate, load in zip(GATES, (2.0, 5.0, 10.0), strict=True)}


def plot(seed: int) -> tuple[str, dict[str, list[tuple[float, float]]], list[tuple[float, float, str]]]:
    """Return title, lines and bands: goodput by load."""
    loads = (0.5, 0.8, 1.2, 2.0, 4.0, 6.0, 8.0, 10.0)
    lines = {
        name: [(load, goodput(seed, load, 20.0, adaptive=adaptive)) for load in loads]
        for name, adaptive in (("no limit", False), ("adaptive", True))
    }
    return "S4: goodput over capacity, by load offered", lines, []
