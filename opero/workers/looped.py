"""What a process worker does with coroutine functions: the items of a chunk run together, on a loop that is kept.

Answers go in the chunk's order: what is done waits for what was begun before it. A worker that dies costs the items
that run, and those that wait for one of them.
"""

from __future__ import annotations

import asyncio
import marshal

from opero import clock
from opero.workers.journal import RECORDS, STOP, USED
from opero.workers.session import SLOW_SECONDS
from opero.workers.wire import FLAT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from opero.workers.chunk import Chunk

_loop: asyncio.AbstractEventLoop | None = None


def work(chunk: Chunk, at_once: int) -> None:
    """Serve the items of a chunk, so many at once."""
    global _loop
    if _loop is None:
        _loop = asyncio.new_event_loop()
        asyncio.set_event_loop(_loop)
    _loop.run_until_complete(_serve(chunk, at_once))


async def _serve(chunk: Chunk, at_once: int) -> None:
    items, order = iter(enumerate(chunk.items)), _Order(chunk)
    await asyncio.gather(*[_work(chunk, items, order) for _ in range(min(at_once, len(chunk.items)))])
    chunk.flush(clock.now(), last=True)


async def _work(chunk: Chunk, items: Iterator[tuple[int, Any]], order: _Order) -> None:
    journal = chunk.worker.journal
    for place, item in items:
        began = clock.now()
        if journal.words[STOP] or began >= chunk.over:
            return
        journal.marks[place] = 1
        chunk.begun = place + 1
        journal.clock[0] = began
        try:
            value = await chunk.call(item if chunk.plain else chunk.decoded(item))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it goes back as the item's outcome
            entry = chunk.error(error)
        else:
            entry = chunk.returned(value)
        order.add(place, entry, clock.now() - began)


class _Order:
    """Hands entries to the chunk in its order."""

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk
        self._held: dict[int, tuple[Any, float]] = {}
        self._next = 0
        self._used = RECORDS

    def add(self, place: int, entry: Any, seconds: float) -> None:
        """Take one that is done."""
        chunk, held = self._chunk, self._held
        held[place] = (entry, seconds)
        while self._next in held:
            entry, seconds = held.pop(self._next)
            if seconds >= SLOW_SECONDS:
                chunk.slow.append((len(chunk.entries), seconds, 1))
            chunk.only_values = chunk.only_values and type(entry) is not tuple
            chunk.entries.append(entry)
            self._next += 1
            self._note(entry)
        now = clock.now()
        if chunk.entries and now - chunk.since >= chunk.worker.patience:
            self._flush(now)

    def _note(self, entry: Any) -> None:
        """Leave it in the journal, or send it when there is no room."""
        journal, record = self._chunk.worker.journal, marshal.dumps(entry, FLAT)
        end = self._used + len(record)
        if end > journal.full:
            self._flush(clock.now())
        else:
            journal.map[self._used : end] = record
            journal.words[USED] = end - RECORDS
            self._used = end

    def _flush(self, now: float) -> None:
        self._chunk.flush(now)
        self._used = RECORDS
