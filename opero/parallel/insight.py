"""What there is to know about the last run of a map: `parse.last_run`."""

from __future__ import annotations

from heapq import heappush, heappushpop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from opero.workers.session import Insight

SLOWEST = 5


class LastRun:
    """Times in seconds. `workers` has one entry a worker: `.items .chunks .busy .starting .waiting`.

    `slowest` are (seconds, index) of the slowest items that took a millisecond or more, the slowest first.
    """

    def __init__(self, mode: str, started: float) -> None:
        self.mode = mode
        self.duration = 0.0
        self.workers: Sequence[Insight] = ()
        self._started = started
        self._slow: list[tuple[float, int]] = []

    def note(self, index: int, seconds: float) -> None:
        """Keep it if it is one of the slowest."""
        if len(self._slow) < SLOWEST:
            heappush(self._slow, (seconds, index))
        elif seconds > self._slow[0][0]:
            heappushpop(self._slow, (seconds, index))

    def end(self, workers: Sequence[Insight], now: float) -> None:
        """Fix what is known."""
        self.workers = tuple(workers)
        self.duration = now - self._started
        for worker in workers:
            there = now - max(self._started, worker.started)
            worker.waiting = max(0.0, there - worker.starting - worker.busy)

    @property
    def slowest(self) -> list[tuple[float, int]]:
        """The slowest items."""
        return sorted(self._slow, reverse=True)

    @property
    def items(self) -> int:
        """Items that workers answered."""
        return sum(worker.items for worker in self.workers)

    @property
    def busy(self) -> float:
        """The share of their time that workers were busy, 0 to 1, from when each was ready."""
        there = sum(max(0.0, self.duration - worker.starting) for worker in self.workers)
        return min(1.0, sum(worker.busy for worker in self.workers) / there) if there else 0.0

    def __str__(self) -> str:
        head = f"{self.items} items in {self.duration:.3g} s, {self.mode}, workers busy {self.busy:.0%}"
        lines = [
            f"  {w.name}: {w.items} items in {w.chunks} chunks, "
            f"busy {w.busy:.3g} s, waiting {w.waiting:.3g} s, start-up {w.starting:.3g} s"
            for w in self.workers
        ]
        slow = [f"  item {index} took {seconds:.3g} s" for seconds, index in self.slowest]
        return "\n".join([head, *lines, *slow])

    def __repr__(self) -> str:
        return f"<last run: {str(self).splitlines()[0]}>"
