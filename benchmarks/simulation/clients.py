"""Who calls: open loop, whether or not the last call was answered, through a function decorated by the real thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from opero import opero

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.simulation.world import World

STEP = 0.5  # seconds between two steps of the controllers, as in the real loop


class Outcome(NamedTuple):
    """One call: when it came, how long it took, and the name of its error, "" if it was answered."""

    at: float
    seconds: float
    error: str

    @property
    def ok(self) -> bool:
        """Whether it was answered."""
        return not self.error


class Client:
    """Calls `function` through the given policies and settings, and keeps what came of it."""

    def __init__(self, world: World, function: Callable[[], Awaitable[Any]], *policies: Any, **settings: Any) -> None:
        async def attempt() -> Any:
            self.attempts.append(world.now)
            return await function()

        self.world = world
        self.attempts: list[float] = []
        self.outcomes: list[Outcome] = []
        self.ended = self.outcomes.append
        self.operation = opero(*policies, **settings)(attempt).opero.operation
        for controller in self.operation.controllers or ():
            world.every(STEP, controller.step)

    async def __call__(self) -> Any:
        """Make one call, and raise what it raises."""
        return await self.operation.execute(self.world.runtime, (), {})

    def knob(self, name: str) -> float:
        """Return where a controller has its knob."""
        return float(self.operation.controllers[name].setpoint)  # type: ignore[index]

    def offer(self, rate: Callable[[float], float] | float, until: float) -> None:
        """Let calls come by chance, so many a second (a number, or a function of the time), until then."""

        def come() -> None:
            world, now = self.world, self.world.now
            if now >= until:
                return
            if now > 0:
                world.spawn(self._one())
            per_second = rate(now) if callable(rate) else rate
            world.at(now + world.random.expovariate(per_second), come)

        self.world.at(self.world.now, come)

    def between(self, start: float, end: float) -> list[Outcome]:
        """Return the calls that came in a span of time."""
        return [outcome for outcome in self.outcomes if start <= outcome.at < end]

    def share(self, start: float, end: float) -> float:
        """Return the share of them that was answered."""
        calls = self.between(start, end)
        return sum(call.ok for call in calls) / max(1, len(calls))

    def amplification(self, start: float, end: float) -> float:
        """Return attempts over calls of a span of time."""
        return sum(start <= at < end for at in self.attempts) / max(1, len(self.between(start, end)))

    async def _one(self) -> None:
        started, error = self.world.now, ""
        try:
            await self()
        except Exception as raised:  # noqa: BLE001 - the figure
            error = type(raised).__name__
        self.ended(Outcome(started, self.world.now - started, error))


def percentile(values: list[float], share: float) -> float:
    """Return a percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
