"""A session without workers: the caller runs the items itself, for work that is cheaper done than handed over."""

from __future__ import annotations

from opero import clock
from opero.fused import is_warm
from opero.workers import direct
from opero.workers.session import SLOW_SECONDS, Block, Insight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextvars import Context
    from typing import Any

TURN_SECONDS = 0.01  # of work between two looks at the consumer
MAX_TURN = 20_000
LONG = 5 * TURN_SECONDS  # items that turned slow end their turn early
TINY_SECONDS = 1e-6
RUN = 512  # tiny items between two looks at the clock; a slow one among them goes by the place of the first
CAREFUL = 1024  # items one by one after one that was slow, or failed


class Inline:
    """One run in the calling thread."""

    def __init__(self, one: Any, constants: Mapping[str, Any], general: Callable[..., Any], context: Context) -> None:
        from functools import partial

        self._one = partial(one, **constants) if constants else one
        self._decorated = one
        self._find = partial(direct.of, one, constants, general)
        self._context = context.copy()
        self._waiting: list[tuple[Sequence[int], Sequence[Any]]] = []
        self._size = 1
        self._tiny = False  # whether items took less than `TINY_SECONDS` the last time
        self.insights = [Insight("inline", clock.now())]

    def room(self) -> int:
        return 0 if self._waiting else self._size

    def ahead(self) -> int:
        return self._size

    def submit(self, indices: Sequence[int], items: Sequence[Any]) -> None:
        self._waiting.append((indices, items))

    def taken(self) -> list[tuple[Sequence[int], Sequence[Any]]]:
        """Take out what was submitted and not begun, for another session."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def poll(self) -> list[Block]:
        return []

    async def next(self, until: float | None) -> list[Block]:
        indices, items = self._waiting.pop(0)
        block = self._context.run(self._work, indices, items)
        done = len(block.indices)
        if done < len(items):
            self._waiting.insert(0, (indices[done:], items[done:]))
        item = block.seconds / done
        self._size = max(1, min(int(TURN_SECONDS / max(item, 1e-7)), 4 * self._size, MAX_TURN))
        self.insights[0].served(done, block.seconds)
        self.insights[0].chunks += 1
        return [block]

    def chunk(self) -> int:
        return 0

    def resize(self, workers: int, chunk: int | None) -> None:
        """There are none."""

    async def close(self) -> None:
        self._waiting.clear()

    def _work(self, indices: Sequence[int], items: Sequence[Any]) -> Block:
        quick = self._find() if is_warm(self._decorated) else None  # else the first results are looked at
        turn = _Turn(items, self._one, quick)
        seconds = turn.serve(alone=0 if quick is not None and self._tiny else len(items))
        done = len(turn.values)
        self._tiny = seconds < TINY_SECONDS * done
        if quick is not None:
            turn.count(quick, seconds)
        return Block(indices[:done], turn.values, turn.errors, slow=turn.slow, seconds=seconds)


class _Turn:
    """Items that run one after the other."""

    def __init__(self, items: Sequence[Any], one: Callable[..., Any], quick: direct.Direct | None) -> None:
        self._items = items
        self._quick = quick
        self._call = one if quick is None else quick.function
        self._over: dict[int, float] = {}  # seconds of direct calls that went on by the general path
        self.values: list[Any] = []
        self.errors: dict[int, BaseException] = {}
        self.slow: list[tuple[int, float, int]] = []

    def serve(self, alone: int) -> float:
        """Run them, the first `alone` one by one, the others in runs; after one that fails or is slow one by one again.

        What is not begun after `LONG` is left. Return how long it took. A loop over a run costs what a list
        comprehension does, and keeps what there is when an item fails.
        """
        items, values, call, now = self._items, self.values, self._call, clock.now
        number = len(items)
        started = ended = now()
        while (place := len(values)) < number and ended - started < LONG:
            began = ended
            try:
                if place < alone:
                    values.append(call(items[place]))
                else:
                    for item in items[place : place + RUN]:
                        values.append(call(item))
            except Exception as error:  # noqa: BLE001 - the item's outcome, whatever it is
                place, began = self._fail(error, place, began)
                alone = max(alone, place + CAREFUL)
            ended, among = now(), len(values) - place
            if (more := ended - began - TINY_SECONDS * (among - 1)) >= SLOW_SECONDS:
                self.slow.append((place, more, among))
                alone = max(alone, place + CAREFUL)
        return ended - started

    def _fail(self, error: Exception, place: int, began: float) -> tuple[int, float]:
        """Settle the item that raised; return its place, and when it was begun, which in a run is not known exactly."""
        ended, done, place = clock.now(), len(self.values) - place, len(self.values)
        began += min((ended - began) * done / (done + 1), TINY_SECONDS * done)
        value: Any = None
        final: Exception | None = error
        if self._quick is not None:
            try:
                value, final = self._quick.go_on(self._items[place], error, began, ended), None
            except Exception as later:  # noqa: BLE001 - as above
                final = later
        self.values.append(value)
        if final is not None:
            self.errors[place] = final
        self._over[place] = clock.now() - began
        return place, began

    def count(self, quick: direct.Direct, seconds: float) -> None:
        """Count the direct calls."""
        over = self._over
        if len(over) < len(self.values):
            slow = [each for place, each, _ in self.slow if place not in over]
            quick.count(len(self.values) - len(over), max(0.0, seconds - sum(over.values())), slow)
