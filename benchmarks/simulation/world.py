"""Virtual time for thousands of calls at once: a heap of what is due, and a runtime on which the real layers wait.

The layers of an operation are coroutines over a runtime port. Here the port is this world: nothing sleeps, no event
loop runs, and the same seed gives the same run. `opero.clock` reads this world's time while it runs.
"""

from __future__ import annotations

import asyncio
import types
from contextvars import copy_context
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

from opero import clock, waits
from opero.deadlines import propagating
from opero.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence

    from opero.call import Call

    Resume = Callable[[], None]


class World:
    """Time in seconds from 0, one source of randomness, and what is due."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.random = Random(seed)
        self.seed = seed
        self.runtime = Virtual(self)
        self._due: list[tuple[float, int, Resume]] = []
        self._number = count()

    def at(self, when: float, do: Resume) -> None:
        """Do something at a time; things of one time in the order they were asked for."""
        heappush(self._due, (max(when, self.now), next(self._number), do))

    def every(self, period: float, do: Callable[[float], object]) -> None:
        """Do something again and again."""

        def again() -> None:
            do(self.now)
            self.at(self.now + period, again)

        self.at(self.now + period, again)

    def spawn(self, work: Coroutine[Any, Any, Any], done: Resume | None = None) -> Task:
        """Begin a task."""
        return Task(self, work, done)

    def run(self, until: float) -> None:
        """Let time pass."""
        real = clock.now, clock.wall
        clock.now = clock.wall = lambda: self.now
        waits.seed(self.seed)
        try:
            while self._due and self._due[0][0] <= until:
                self.now, _, do = heappop(self._due)
                do()
            self.now = until
        finally:
            clock.now, clock.wall = real
            waits.seed(None)

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await _suspend(lambda resume: self.at(self.now + seconds, resume))

    async def park(self, waiter: Waiter, until: float | None = None) -> bool:
        """Wait for the wake-up; False if `until` came first."""

        def register(resume: Resume) -> None:
            waiter.resume = resume
            if until is not None:
                self.at(until, resume)

        if not waiter.woken:
            await _suspend(register)
        waiter.resume = None
        return waiter.woken


class Task:
    """A coroutine that goes on when what it waits for comes. `value` and `error` say how it `ended`."""

    def __init__(self, world: World, work: Coroutine[Any, Any, Any], done: Resume | None) -> None:
        self.ended = False
        self.value: Any = None
        self.error: BaseException | None = None
        self._world, self._work, self._done = world, work, done
        self.context = copy_context()
        self._turn = 0
        world.at(world.now, lambda: self._go_on(0))

    def cancel(self) -> None:
        """Throw a cancellation in where it waits."""
        self._world.at(self._world.now, lambda: self._go_on(self._turn, asyncio.CancelledError()))

    def _go_on(self, turn: int, error: BaseException | None = None) -> None:
        if self.ended or turn != self._turn:
            return  # whatever it waited for then, it does not wait for that now
        self._turn += 1
        try:
            if error is None:
                register = self.context.run(self._work.send, None)
            else:
                register = self.context.run(self._work.throw, error)
        except StopIteration as done:
            self._end(done.value, None)
        except BaseException as raised:  # noqa: BLE001 - who began the task asks for it
            self._end(None, raised)
        else:
            turn = self._turn
            register(lambda: self._go_on(turn))

    def _end(self, value: Any, error: BaseException | None) -> None:
        self.ended, self.value, self.error = True, value, error
        if self._done is not None:
            self._done()


class Waiter:
    """One who is parked."""

    __slots__ = ("_world", "resume", "woken")

    def __init__(self, world: World) -> None:
        self._world = world
        self.woken = False
        self.resume: Resume | None = None

    def wake(self) -> bool:
        """Let it go on, after what runs now."""
        self.woken = True
        if self.resume is not None:
            self._world.at(self._world.now, self.resume)
        return True


class Virtual(Runtime):
    """The port of the real layers, over a world."""

    suspends = True

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> float:
        return self._world.now

    async def sleep(self, seconds: float, flag: Any = None) -> None:
        if seconds > 0:
            await self._world.pause(seconds)

    async def invoke(self, call: Call) -> Any:
        deadline, work = call.deadline, call.operation.function(*call.args, **call.kwargs)
        if deadline is None or deadline.inherited:
            return await work
        waiter = self.waiter()
        with propagating(deadline):
            branch = self.fork(work, waiter.wake)
        try:
            await self.park(waiter, deadline.at)
        except BaseException:
            branch.cancel()
            raise
        if not branch.ended:
            branch.cancel()
            raise deadline.expire(call.operation)
        if branch.error is not None:
            raise branch.error
        return branch.value

    def waiter(self) -> Waiter:
        return Waiter(self._world)

    def fork(self, layers: Awaitable[Any], done: Resume) -> Task:
        return self._world.spawn(layers, done)  # type: ignore[arg-type]

    async def let_go(self, branches: Sequence[Task]) -> None:
        await self._world.pause(0.0)

    async def park(self, waiter: Waiter, until: float | None) -> bool:  # type: ignore[override]
        return await self._world.park(waiter, until)


@types.coroutine
def _suspend(register: Callable[[Resume], None]) -> Generator[Callable[[Resume], None]]:
    yield register
