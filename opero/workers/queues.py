"""Who gets which items: three queues with one face. Pure, and used by one thread.

shared     One line; whoever is free takes from its front.
stealing   A line for each worker, dealt in runs of neighbours, so a worker stays near what it did before. A worker
           whose line is empty steals the back half of the longest.
priority   The smallest key first; among equals the input's order. Keys are compared among the items pulled so far.

Items travel in runs of neighbours, with the range of their places in the input; by priority they are no neighbours.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Taken = tuple[Sequence[int], list[Any]]


class Shared:
    """One line for all workers."""

    def __init__(self) -> None:
        self._runs: deque[Taken] = deque()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def put(self, indices: Sequence[int], items: Sequence[Any]) -> None:
        """Add at the end."""
        if items:
            self._runs.append((indices, items if type(items) is list else list(items)))
            self._length += len(items)

    def put_back(self, indices: Sequence[int], items: list[Any]) -> None:
        """Add at the front what was taken and not begun."""
        if items:
            self._runs.appendleft((indices, items))
            self._length += len(items)

    def take(self, worker: int, count: int) -> Taken:
        """Take at most so many for a worker; there must be some."""
        indices, items = self._runs.popleft()
        while len(items) < count and self._runs and (joined := _joined(indices, self._runs[0][0])):
            indices, items = joined, items + self._runs.popleft()[1]
        if len(items) > count:
            self._runs.appendleft((indices[count:], items[count:]))
            indices, items = indices[:count], items[:count]
        self._length -= len(items)
        return indices, items

    def take_half(self) -> Taken:
        """Take the back half of the last run."""
        indices, items = self._runs.pop()
        half = len(items) // 2
        if half:
            self._runs.append((indices[:half], items[:half]))
        self._length -= len(items) - half
        return indices[half:], items[half:]

    def clear(self) -> None:
        """Drop everything."""
        self._runs.clear()
        self._length = 0


class Stealing:
    """A line for each of `workers`, numbered from 0."""

    def __init__(self, workers: int) -> None:
        self._lines = [Shared() for _ in range(workers)]

    def __len__(self) -> int:
        return sum(map(len, self._lines))

    def put(self, indices: Sequence[int], items: Sequence[Any]) -> None:
        """Deal neighbours to the same worker, the shortest lines first."""
        share = max(1, -(-len(items) // len(self._lines)))
        for start in range(0, len(items), share):
            end = start + share
            min(self._lines, key=len).put(indices[start:end], items[start:end])

    def put_back(self, indices: Sequence[int], items: list[Any]) -> None:
        """Add at the front of the shortest line what was taken and not begun."""
        min(self._lines, key=len).put_back(indices, items)

    def take(self, worker: int, count: int) -> Taken:
        """Take at most so many from the worker's own line; from the longest other one when it is empty."""
        line = self._lines[worker % len(self._lines)]
        if not line:
            line.put(*max(self._lines, key=len).take_half())
        return line.take(worker, count)

    def clear(self) -> None:
        """Drop everything."""
        for line in self._lines:
            line.clear()


class Priority:
    """The smallest `key(item)` first."""

    def __init__(self, key: Callable[[Any], Any]) -> None:
        self._key = key
        self._heap: list[tuple[Any, int, Any]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, indices: Sequence[int], items: Sequence[Any]) -> None:
        """Add in the place of their keys."""
        for index, item in zip(indices, items, strict=True):
            heappush(self._heap, (self._key(item), index, item))

    def put_back(self, indices: Sequence[int], items: list[Any]) -> None:
        """Add what was taken and not begun."""
        self.put(indices, items)

    def take(self, worker: int, count: int) -> Taken:
        """Take at most so many."""
        found = [heappop(self._heap) for _ in range(min(count, len(self._heap)))]
        return [index for _, index, _ in found], [item for _, _, item in found]

    def clear(self) -> None:
        """Drop everything."""
        self._heap.clear()


Queue = Shared | Stealing | Priority


def _joined(indices: Sequence[int], more: Sequence[int]) -> range | None:
    if isinstance(indices, range) and isinstance(more, range) and indices.stop == more.start:
        return range(indices.start, more.stop)
    return None
