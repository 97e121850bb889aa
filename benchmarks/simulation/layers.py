"""S10: three services, each retrying what it calls with 3 attempts; the last one is down. Without bounds 27 to one."""

from __future__ import annotations

from benchmarks.simulation.clients import Client
from benchmarks.simulation.services import Refused
from benchmarks.simulation.world import World
from opero import Retry, waits

GATES = {"leaf calls a call in the outage": ("<=", 1.3)}
START, OUTAGE, RATE = 20.0, 60.0, 100.0


class Remote(Exception):
    """What the caller of another process sees: nothing of who retried there."""


def play(seed: int, outage: float) -> tuple[Client, Client]:
    """Return the first and the last of the three."""
    world = World(seed)

    async def service() -> None:
        await world.pause(0.02)
        if world.now >= START:
            raise Refused

    def policy() -> Retry:
        return Retry(retries=2, wait=waits.exponential(0.05, 1.0), jitter="full")

    def calling(client: Client) -> object:
        async def call() -> None:
            try:
                await client()
            except Exception:  # noqa: BLE001 - whatever it was, a response says no more
                raise Remote from None

        return call

    leaf = Client(world, service, policy(), retry_budget="adaptive", name=f"s10.leaf.{seed}")
    middle = Client(world, calling(leaf), policy(), retry_budget="adaptive", name=f"s10.middle.{seed}")
    top = Client(world, calling(middle), policy(), retry_budget="adaptive", name=f"s10.top.{seed}")
    top.offer(RATE, START + outage)
    world.run(START + outage + 10)
    return top, leaf


def figures(seed: int, *, short: bool = False) -> dict[str, float]:
    """Return what the gates are on."""
    outage = OUTAGE / 2 if short else OUTAGE
    top, leaf = play(seed, outage)
    called = sum(at >= START for at in leaf.attempts)
    return {next(iter(GATES)): called / len(top.between(START, START + outage))}
