"""What there is to know about the last run of a map, also while it goes on: `parse.last_run`."""

from __future__ import annotations

from heapq import heappush, heappushpop

from opero import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opero.workers.session import Insight, Session

SLOWEST = 5


class LastRun:
    """Times in seconds. `workers` has one entry a worker: `.items .chunks .busy .starting .waiting`.

    `slowest` are (seconds, index) of the slowest items that took a millisecond or more, the slowest first; in place of
    the index are several where it is not known which of them it was. While the run goes on, all of it is what is known
    so far; from any thread.
    """

    def __init__(self, mode: str, started: float) -> None:
        self.mode = mode
        self._started = started
        self._ended: float | None = None
        self._insights: Callable[[], Sequence[Insight]] = tuple
        self._slow: list[tuple[float, int, Sequence[int]]] = []  # with a number between, to compare
        self._noted = 0

    def note(self, indices: Sequence[int], seconds: float) -> None:
        """Keep an item, one of these, if it is one of the slowest."""
        self._noted += 1
        if len(self._slow) < SLOWEST:
            heappush(self._slow, (seconds, -self._noted, indices))
        elif seconds > self._slow[0][0]:
            heappushpop(self._slow, (seconds, -self._noted, indices))

    def begin(self, session: Session) -> None:
        """Look at these workers from now on."""
        self._insights = lambda: session.insights

    def end(self, now: float) -> None:
        """Fix what is known."""
        self._ended = now
        workers = self.workers
        self._insights = lambda: workers

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self._ended is None

    @property
    def duration(self) -> float:
        """How long it took, or has taken so far."""
        return (clock.now() if self._ended is None else self._ended) - self._started

    @property
    def workers(self) -> tuple[Insight, ...]:
        """What each worker did."""
        workers, now = tuple(self._insights()), self._started + self.duration
        for worker in workers:
            there = now - max(self._started, worker.started)
            worker.waiting = max(0.0, there - worker.starting - worker.busy)
        return workers

    @property
    def slowest(self) -> list[tuple[float, int | Sequence[int]]]:
        """The slowest items."""
        found = sorted(self._slow, reverse=True)
        return [(seconds, indices[0] if len(indices) == 1 else indices) for seconds, _, indices in found]

    @property
    def items(self) -> int:
        """Items that workers answered."""
        return sum(worker.items for worker in self.workers)

    @property
    def busy(self) -> float:
        """The share of their time that workers were busy, 0 to 1, from when each was ready."""
        workers, duration = self.workers, self.duration
        there = sum(max(0.0, duration - worker.starting) for worker in workers)
        return min(1.0, sum(worker.busy for worker in workers) / there) if there else 0.0

    def __str__(self) -> str:
        so_far = " so far" if self.running else ""
        head = f"{self.items} items in {self.duration:.3g} s{so_far}, {self.mode}, workers busy {self.busy:.0%}"
        lines = [
            f"  {w.name}: {w.items} items in {w.chunks} chunks, "
            f"busy {w.busy:.3g} s, waiting {w.waiting:.3g} s, start-up {w.starting:.3g} s"
            for w in self.workers
        ]
        slow = [f"  {_named(index)} took {seconds:.3g} s" for seconds, index in self.slowest]
        return "\n".join([head, *lines, *slow])

    def __repr__(self) -> str:
        return f"<last run: {str(self).splitlines()[0]}>"


def _named(index: int | Sequence[int]) -> str:
    """Return a name for an item, or for one of several."""
    return f"item {index}" if isinstance(index, int) else f"one of {len(index)} items from {index[0]} on"
