"""What is called: services with a capacity, a queue, outages and costs. Times in seconds."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from math import log, sqrt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.simulation.world import Waiter, World


class Refused(ConnectionError):
    """The service does not answer, or says that it has enough."""


class Job:
    """One request; `waiter` is told when it is over."""

    __slots__ = ("cancelled", "refused", "waiter", "work")

    def __init__(self, waiter: Waiter, work: float, *, refused: bool = False) -> None:
        self.waiter = waiter
        self.work = work
        self.refused = refused
        self.cancelled = False


class Service:
    """`servers` work side by side on one queue, first come first served, whether or not the caller still waits.

    `capacity` may be changed: 0 is an outage in which the queue stands. `contention` slows everyone by so much for each
    request more than servers that is inside. With `room`, who finds that many inside is refused; a refusal costs
    `refusal` of a request's work, and goes first.
    """

    def __init__(
        self,
        world: World,
        servers: int,
        mean: float,
        *,
        spread: float | None = None,
        contention: float = 0.0,
        room: int | None = None,
        refusal: float = 0.0,
    ) -> None:
        self.world, self.capacity, self.mean = world, servers, mean
        self.contention, self.room, self.refusal = contention, room, refusal
        self.arrived = self.done = 0
        self._sigma = None if spread is None else sqrt(log(1 + spread * spread))
        self._queue: deque[Job] = deque()
        self._busy = 0

    async def __call__(self) -> None:
        """Be served, or refused."""
        self.arrived += 1
        inside = len(self._queue) + self._busy
        job = Job(self.world.runtime.waiter(), self._drawn())
        if self.room is not None and inside >= self.room:
            job.refused, job.work = True, job.work * self.refusal
            self._queue.appendleft(job)
        else:
            self._queue.append(job)
        self._serve()
        try:
            await self.world.park(job.waiter)
        except BaseException:
            job.cancelled = True
            raise
        if job.refused:
            raise Refused

    def resize(self, capacity: int) -> None:
        """Have more or fewer servers from now on; who is at work goes on."""
        self.capacity = capacity
        self._serve()

    def slow_down(self, times: float) -> None:
        """Let what comes take so many times as long."""
        self.mean *= times

    def _drawn(self) -> float:
        if self._sigma is None:
            return self.world.random.expovariate(1 / self.mean)
        return self.world.random.lognormvariate(log(self.mean) - self._sigma**2 / 2, self._sigma)

    def _serve(self) -> None:
        while self._queue and self._busy < self.capacity:
            job = self._queue.popleft()
            self._busy += 1
            inside = self._busy + len(self._queue)
            slower = 1 + self.contention * max(0.0, inside / self.capacity - 1)
            self.world.at(self.world.now + job.work * slower, lambda job=job: self._over(job))

    def _over(self, job: Job) -> None:
        self._busy -= 1
        self.done += not job.refused
        job.waiter.wake()
        self._serve()


class Sharing(Service):
    """`capacity` processors shared by all that are inside: nobody queues, everybody gets slower.

    Each has done as much since it came as `_share`, the work that one request got since the beginning, has grown.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._share = self._since = 0.0
        self._inside: list[tuple[float, int, Job]] = []  # by the share at which they are done
        self._turn = 0

    def resize(self, capacity: int) -> None:
        self._pass()
        super().resize(capacity)

    def _serve(self) -> None:
        self._pass()
        while self._queue:
            job = self._queue.popleft()
            self._busy += 1
            heappush(self._inside, (self._share + job.work, self.arrived, job))
        self._turn += 1
        if self._inside and self.capacity:
            turn, left = self._turn, self._inside[0][0] - self._share
            self.world.at(self.world.now + left / self._speed(), lambda: self._next(turn))

    def _next(self, turn: int) -> None:
        if turn == self._turn:
            self._pass()
            self._over(heappop(self._inside)[2])

    def _pass(self) -> None:
        self._share += (self.world.now - self._since) * self._speed()
        self._since = self.world.now

    def _speed(self) -> float:
        return min(1.0, self.capacity / self._busy) if self._busy else 1.0


class Replica(Service):
    """One server that forgets a request whose caller no longer waits, if it did not begin it."""

    def _serve(self) -> None:
        while self._queue and self._queue[0].cancelled:
            self._queue.popleft()
        super()._serve()

    @property
    def inside(self) -> int:
        """Requests in it."""
        return len(self._queue) + self._busy
