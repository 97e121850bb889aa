"""A session without workers: the caller runs the items itself, for work that is cheaper done than handed over."""

from __future__ import annotations

from opero import clock
from opero.workers import direct
from opero.workers.session import Block, Insight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextvars import Context
    from typing import Any

SLOW_SECONDS = 0.001
TURN_SECONDS = 0.01  # of work between two looks at the consumer
MAX_TURN = 10_000


class Inline:
    """One run in the calling thread."""

    def __init__(self, one: Any, constants: Mapping[str, Any], general: Callable[..., Any], context: Context) -> None:
        from functools import partial

        self._one = partial(one, **constants) if constants else one
        self._find = partial(direct.of, one, constants, general)
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
        block = self._context.run(self._work, indices, items)
        item = block.seconds / len(items)
        self._size = max(1, min(int(TURN_SECONDS / max(item, 1e-7)), 4 * self._size, MAX_TURN))
        self.insights[0].served(len(items), block.seconds)
        self.insights[0].chunks += 1
        return [block]

    def chunk(self) -> int:
        return 0

    def resize(self, workers: int, chunk: int | None) -> None:
        """There are none."""

    async def close(self) -> None:
        self._waiting.clear()

    def _work(self, indices: Sequence[int], items: list[Any]) -> Block:
        """Run them, one after the other."""
        quick = self._find()
        call, now = self._one if quick is None else quick.function, clock.now
        values: list[Any] = []
        errors: dict[int, BaseException] = {}
        slow: list[tuple[int, float]] = []
        over: dict[int, float] = {}
        started = ended = now()
        for item in items:
            began = ended
            try:
                values.append(call(item))
            except Exception as error:  # noqa: BLE001 - the item's outcome, whatever it is
                place = len(values)
                try:
                    if quick is None:
                        raise
                    values.append(quick.go_on(item, error, began, now()))
                except Exception as final:  # noqa: BLE001 - as above
                    values.append(None)
                    errors[place] = final
                over[place] = now() - began
            ended = now()
            if ended - began >= SLOW_SECONDS:
                slow.append((len(values) - 1, ended - began))
        if quick is not None and len(over) < len(items):
            spent = ended - started - sum(over.values())
            quick.count(len(items) - len(over), max(0.0, spent), [s for place, s in slow if place not in over])
        return Block(indices, values, errors, slow=slow, seconds=ended - started)
