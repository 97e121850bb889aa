"""A session without workers: the caller runs the items itself, for work that is cheaper done than handed over."""

from __future__ import annotations

from opero import clock
from opero.workers.session import Block, Insight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Context
    from typing import Any

SLOW_SECONDS = 0.001
TURN_SECONDS = 0.01  # of work between two looks at the consumer
MAX_TURN = 10_000


class Inline:
    """One run in the calling thread."""

    def __init__(self, function: Callable[[Any], Any], context: Context) -> None:
        self._function = function
        self._context = context.copy()
        self._waiting: list[tuple[Sequence[int], list[Any]]] = []
        self._size = 1
        self.insights = [Insight("inline", clock.now())]

    def room(self) -> int:
        return 0 if self._waiting else self._size

    def ahead(self) -> int:
        return self._size

    def submit(self, indices: Sequence[int], items: list[Any]) -> None:
        self._waiting.append((indices, items))

    def poll(self) -> list[Block]:
        return []

    async def next(self) -> list[Block]:
        indices, items = self._waiting.pop(0)
        block = self._context.run(self.work, indices, items)
        item = block.seconds / len(items)
        self._size = max(1, min(int(TURN_SECONDS / max(item, 1e-7)), 4 * self._size, MAX_TURN))
        self.insights[0].served(len(items), block.seconds)
        self.insights[0].chunks += 1
        return [block]

    async def close(self) -> None:
        self._waiting.clear()

    def work(self, indices: Sequence[int], items: list[Any]) -> Block:
        """Run them, one after the other."""
        function, now = self._function, clock.now
        values: list[Any] = []
        errors: dict[int, BaseException] = {}
        slow: list[tuple[int, float]] = []
        started = ended = now()
        for place, item in enumerate(items):
            began = ended
            try:
                values.append(function(item))
            except Exception as error:  # noqa: BLE001 - the item's outcome, whatever it is
                values.append(None)
                errors[place] = error
            ended = now()
            if ended - began >= SLOW_SECONDS:
                slow.append((place, ended - began))
        return Block(indices, values, errors, slow=slow, seconds=ended - started)
